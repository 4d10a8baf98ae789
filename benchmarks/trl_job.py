"""Trains the demo's model on the demo's task with TRL's GRPOTrainer, and prints rollouts/s as JSON. Needs a Python with TRL.

    python -m benchmarks.trl_job configs/demo.toml 80 [--vllm] [--evaluate-every N] [--lr LR] [--seed SEED] [--constant]

60 prompts of 8 completions an update, as the demo has with groups; on the GPU if there is one that torch sees. The trainer
samples by transformers, or, with `--vllm`, by a vLLM inside its process, which has a third of the GPU's memory.
The weights are float32, as the demo's. A first update is left out of the time: on a GPU it loads kernels. So are evaluations,
greedy, on the held-out prompts, each of which is [updates, seconds of training until then, accuracy].
"""

import argparse
import json
import tempfile
import time
from collections.abc import Sequence
from typing import Any

import torch
from datasets import Dataset
from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback

from prompts.sources import load_prompts
from stream.config import load
from stream.messages import Prompt

PROMPTS, COMPLETIONS = 60, 8


def reward(completions: list[str], answer: list[str], **_: Any) -> list[float]:
    """1 for the right answer alone."""
    return [float(is_right(text, right)) for text, right in zip(completions, answer, strict=True)]


def is_right(text: str, answer: str) -> bool:
    """Whether a completion is the answer."""
    return "".join(text.split()) == answer


class Watch(TrainerCallback):
    """Notes when the first update has ended, and evaluates; its own time is left out."""

    def __init__(self, heldout: Sequence[Prompt], every: int, tokenizer: Any) -> None:
        self.evaluations: list[tuple[int, float, float]] = []
        self._heldout, self._every, self._tokenizer = heldout, every, tokenizer
        self._begin_s = self._begin_cpu_s = 0.0
        """Of the time that counts: when it began, later by what evaluations have taken."""

    def seconds(self) -> tuple[float, float]:
        """Of training since the first update: on the clock, of the CPUs."""
        return time.monotonic() - self._begin_s, time.process_time() - self._begin_cpu_s

    def on_step_end(self, args: object, state: Any, control: object, **of_trainer: Any) -> None:
        """After each update."""
        if state.global_step == 1:
            self._begin_s, self._begin_cpu_s = time.monotonic(), time.process_time()
        if self._every and state.global_step % self._every == 0:
            trained_s, trained_cpu_s = self.seconds()
            accuracy = accuracy_of(of_trainer["model"], self._tokenizer, self._heldout)
            self.evaluations.append((state.global_step, trained_s, accuracy))
            now_s, now_cpu_s = self.seconds()
            self._begin_s += now_s - trained_s
            self._begin_cpu_s += now_cpu_s - trained_cpu_s


@torch.no_grad()
def accuracy_of(model: Any, tokenizer: Any, prompts: Sequence[Prompt]) -> float:
    """Share of the prompts that greedy completions answer."""
    given = tokenizer([prompt.text for prompt in prompts], return_tensors="pt", padding=True, padding_side="left")
    given = given.to(model.device)
    model.eval()  # in training blocks are computed again in the backward pass, and nothing is cached
    tokens = model.generate(
        input_ids=given["input_ids"], attention_mask=given["attention_mask"], max_new_tokens=8, do_sample=False
    )
    model.train()
    texts = tokenizer.batch_decode(tokens[:, given["input_ids"].shape[1] :], skip_special_tokens=True)
    right = [is_right(text, prompt.answer) for text, prompt in zip(texts, prompts, strict=True)]
    return sum(right) / len(right)


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe")
    parser.add_argument("num_updates", type=int)
    parser.add_argument("--vllm", action="store_true", help="sample by vLLM in the trainer's process")
    parser.add_argument("--evaluate-every", type=int, default=0, metavar="N", help="updates; 0: never")
    parser.add_argument("--lr", type=float, help="in place of the recipe's")
    parser.add_argument("--constant", action="store_true", help="the rate stays, in place of falling to 0 in a line")
    parser.add_argument("--seed", type=int, default=0, help="of the prompts too, as run.seed is")
    options = parser.parse_args()
    config, num_updates = load(options.recipe, [f"--run.seed={options.seed}"]), options.num_updates
    pool, heldout = load_prompts(config)
    from trl import GRPOConfig, GRPOTrainer  # type: ignore[import-not-found]

    tokenizer = AutoTokenizer.from_pretrained(config.run.model)
    dataset = Dataset.from_dict({"prompt": [p.text for p in pool], "answer": [p.answer for p in pool]})
    with tempfile.TemporaryDirectory() as folder:
        arguments = GRPOConfig(
            output_dir=folder, use_cpu=not torch.cuda.is_available(), bf16=False, max_steps=num_updates,
            learning_rate=options.lr or config.learner.lr, seed=options.seed,
            lr_scheduler_type="constant" if options.constant else "linear", per_device_train_batch_size=PROMPTS * COMPLETIONS,
            num_generations=COMPLETIONS, beta=0.0, max_completion_length=config.sampling.max_tokens, save_strategy="no",
            report_to=[], logging_steps=20, use_vllm=options.vllm, vllm_mode="colocate",
            gradient_checkpointing=False,  # TRL's default saves memory, and costs a quarter of its speed here
            vllm_max_model_length=config.producer.max_model_len,
        )  # fmt: skip
        model = AutoModelForCausalLM.from_pretrained(config.run.model)
        watch = Watch(heldout, options.evaluate_every, tokenizer)
        trainer = GRPOTrainer(
            model, reward, args=arguments, train_dataset=dataset, processing_class=tokenizer, callbacks=[watch]
        )
        begin_s = time.monotonic()
        trainer.train()
        total_s = time.monotonic() - begin_s
        trained_s, trained_cpu_s = watch.seconds()
    num_rollouts = (num_updates - 1) * PROMPTS * COMPLETIONS
    figures = {
        "rollouts_per_s": num_rollouts / trained_s,
        "total_s": total_s,
        "cpu_ms": 1000 * trained_cpu_s / num_rollouts,
        "evaluations": watch.evaluations,
    }
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
