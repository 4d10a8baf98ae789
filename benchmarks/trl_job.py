"""Trains the demo's model on the demo's task with TRL's GRPOTrainer, and prints rollouts/s as JSON. Needs a Python with TRL.

    python -m benchmarks.trl_job configs/demo.toml 80 [--vllm]

60 prompts of 8 completions an update, as the demo has with groups; on the GPU if there is one that torch sees. The trainer
samples by transformers, or, with `--vllm`, by a vLLM inside its process, which has a third of the GPU's memory.
The weights are float32, as the demo's. A first update is left out of the time: on a GPU it loads kernels.
"""

import argparse
import json
import tempfile
import time
from typing import Any

import torch
from datasets import Dataset
from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback

from prompts.sources import load_prompts
from stream.config import load

PROMPTS, COMPLETIONS = 60, 8


def reward(completions: list[str], answer: list[str], **_: Any) -> list[float]:
    """1 for the right answer alone."""
    return [float("".join(text.split()) == right) for text, right in zip(completions, answer, strict=True)]


class FirstUpdate(TrainerCallback):
    """Notes when the first update has ended."""

    at_s = cpu_at_s = 0.0

    def on_step_end(self, args: object, state: Any, control: object, **_: object) -> None:
        """After each update."""
        if state.global_step == 1:
            self.at_s, self.cpu_at_s = time.monotonic(), time.process_time()


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe")
    parser.add_argument("num_updates", type=int)
    parser.add_argument("--vllm", action="store_true", help="sample by vLLM in the trainer's process")
    options = parser.parse_args()
    config, num_updates = load(options.recipe, []), options.num_updates
    pool = load_prompts(config)[0]
    from trl import GRPOConfig, GRPOTrainer  # type: ignore[import-not-found]

    tokenizer = AutoTokenizer.from_pretrained(config.run.model)
    dataset = Dataset.from_dict({"prompt": [p.text for p in pool], "answer": [p.answer for p in pool]})
    with tempfile.TemporaryDirectory() as folder:
        arguments = GRPOConfig(
            output_dir=folder, use_cpu=not torch.cuda.is_available(), bf16=False, max_steps=num_updates,
            learning_rate=config.learner.lr, per_device_train_batch_size=PROMPTS * COMPLETIONS,
            num_generations=COMPLETIONS, beta=0.0, max_completion_length=config.sampling.max_tokens, save_strategy="no",
            report_to=[], logging_steps=20, use_vllm=options.vllm, vllm_mode="colocate",
            vllm_max_model_length=config.producer.max_model_len,
        )  # fmt: skip
        model = AutoModelForCausalLM.from_pretrained(config.run.model)
        first = FirstUpdate()
        trainer = GRPOTrainer(
            model, reward, args=arguments, train_dataset=dataset, processing_class=tokenizer, callbacks=[first]
        )
        begin_s = time.monotonic()
        trainer.train()
        end_s, cpu_s = time.monotonic(), time.process_time() - first.cpu_at_s
    num_rollouts = (num_updates - 1) * PROMPTS * COMPLETIONS
    figures = {
        "rollouts_per_s": num_rollouts / (end_s - first.at_s),
        "total_s": end_s - begin_s,
        "cpu_ms": 1000 * cpu_s / num_rollouts,
    }
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
