"""Trains the demo's model on the demo's task with TRL's GRPOTrainer, and prints rollouts/s as JSON. Needs a Python with TRL.

    python -m benchmarks.trl_job configs/demo.toml 80

60 prompts of 8 completions an update, as the demo has with groups; sampling by transformers inside the trainer, on the CPU.
"""

import argparse
import json
import tempfile
import time
from typing import Any

from datasets import Dataset
from transformers import AutoModelForCausalLM, AutoTokenizer

from prompts.sources import load_prompts
from stream.config import load

PROMPTS, COMPLETIONS = 60, 8


def reward(completions: list[str], answer: list[str], **_: Any) -> list[float]:
    """1 for the right answer alone."""
    return [float("".join(text.split()) == right) for text, right in zip(completions, answer, strict=True)]


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe")
    parser.add_argument("num_updates", type=int)
    options = parser.parse_args()
    config, num_updates = load(options.recipe, []), options.num_updates
    pool = load_prompts(config)[0]
    from trl import GRPOConfig, GRPOTrainer  # type: ignore[import-not-found]

    tokenizer = AutoTokenizer.from_pretrained(config.run.model)
    dataset = Dataset.from_dict({"prompt": [p.text for p in pool], "answer": [p.answer for p in pool]})
    with tempfile.TemporaryDirectory() as folder:
        arguments = GRPOConfig(
            output_dir=folder, use_cpu=True, bf16=False, max_steps=num_updates, learning_rate=config.learner.lr,
            per_device_train_batch_size=PROMPTS * COMPLETIONS, num_generations=COMPLETIONS, beta=0.0,
            max_completion_length=config.sampling.max_tokens, save_strategy="no", report_to=[], logging_steps=20,
        )  # fmt: skip
        model = AutoModelForCausalLM.from_pretrained(config.run.model)
        trainer = GRPOTrainer(model, reward, args=arguments, train_dataset=dataset, processing_class=tokenizer)
        begin_s, begin_cpu_s = time.monotonic(), time.process_time()
        trainer.train()
        seconds, cpu_s = time.monotonic() - begin_s, time.process_time() - begin_cpu_s
    num_rollouts = num_updates * PROMPTS * COMPLETIONS
    figures = {"rollouts_per_s": num_rollouts / seconds, "total_s": seconds, "cpu_ms": 1000 * cpu_s / num_rollouts}
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
