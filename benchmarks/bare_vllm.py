"""Samples the demo's prompts with vLLM alone, in one process, and prints rollouts/s and CPU ms per rollout as JSON.

python -m benchmarks.bare_vllm configs/demo.toml 9600
"""

import argparse
import json
import os
import time

from producers.process import prepare_environment
from prompts.sources import load_prompts
from prompts.tokens import load_tokenizer
from stream.config import load


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe")
    parser.add_argument("num_rollouts", type=int)
    options = parser.parse_args()
    config, num_rollouts = load(options.recipe, []), options.num_rollouts
    prepare_environment()
    os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"
    from vllm import LLM, SamplingParams
    from vllm.inputs import TokensPrompt

    table = config.producer
    llm = LLM(config.run.model, dtype=table.dtype, max_model_len=table.max_model_len, max_num_seqs=table.max_num_seqs,
              enforce_eager=True, enable_prefix_caching=False, kv_cache_memory_bytes=int(table.kv_cache_gib * 2**30),
              disable_log_stats=True)  # fmt: skip
    tokenizer = load_tokenizer(config.run.model)
    pool = load_prompts(config)[0]
    tokens = [tokenizer(prompt.text)["input_ids"] for prompt in pool]
    prompts = [TokensPrompt(prompt_token_ids=tokens[i % len(tokens)]) for i in range(num_rollouts)]
    params = SamplingParams(max_tokens=config.sampling.max_tokens, logprobs=0, detokenize=False)
    llm.generate(prompts[: table.max_num_seqs], params, use_tqdm=False)
    begin_s, begin_cpu_s = time.monotonic(), time.process_time()
    llm.generate(prompts, params, use_tqdm=False)
    seconds, cpu_s = time.monotonic() - begin_s, time.process_time() - begin_cpu_s
    print(json.dumps({"rollouts_per_s": num_rollouts / seconds, "cpu_ms": 1000 * cpu_s / num_rollouts}))


if __name__ == "__main__":
    main()
