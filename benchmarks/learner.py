"""Measures the learner's update beside a plain transformers training loop: same model, rollouts, threads and precision.

    python -m benchmarks.learner [--shape 135m] [--device cpu] [--dtype float32] [--out FILE.json]

Weights are random, of a known model's shape. Rollouts have prompts of 60 to 200 tokens and completions of a long-tailed
length. The learner's side is `Trainer.update`: micro-batches by length, logits of completion tokens only, fused AdamW. The
plain loop is what one would write first: as many rollouts at a time as fit the same number of positions, in the order in which they come,
padded, with an attention mask; logits of all positions, log-softmax, the same loss (-A log pi), torch's AdamW as it is by default.
Both take turns, so that both see the same load of the machine. A figure is the best of the rounds; the ratio that of the sums.

Tokens are those of prompts and completions, without padding. MFU by 6 N D: 6 operations for each parameter and token, and
"with attention" 12 layers x width x (mean position) more for each token; both count no recomputation (PaLM, arXiv 2204.02311,
appendix B).
"""

import argparse
import gc
import resource
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.table import Table
from torch import Tensor

from benchmarks.results import as_line, load, machine, write_rows
from learner.batches import Sample, samples_of
from learner.groups import Group
from learner.trainer import Trainer
from stream.config import LearnerTable
from stream.console import make_console
from stream.messages import Budgeting, Job, Prompt, Sampling, Span, Timing, Trajectory, Verdict

SHAPES: dict[str, dict[str, Any]] = {
    name: dict(
        zip(
            ("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads",
             "num_key_value_heads", "tie_word_embeddings"),
            values,
            strict=True,
        )
    )
    for name, values in {
        "135m": (49_152, 576, 1536, 30, 9, 3, True),
        "0.5b": (151_936, 896, 4864, 24, 14, 2, True),
        "1.5b": (151_936, 1536, 8960, 28, 12, 2, True),
        "7b": (152_064, 3584, 18_944, 28, 28, 4, False),
    }.items()
}  # fmt: skip
"""Of SmolLM2-135M, Qwen2.5-0.5B, -1.5B and -7B."""
PEAKS = {"H100": 989e12, "H200": 989e12, "A100": 312e12}
"""Dense bfloat16 operations per second of a card, from its data sheet, by a part of its name."""


def make_model(shape: str, device: torch.device, checkpointing: bool) -> Any:
    """A model of the shape, random weights, float32."""
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    with device:
        model: Any = LlamaForCausalLM(LlamaConfig(**SHAPES[shape], max_position_embeddings=8192)).eval()
    if checkpointing:
        model.gradient_checkpointing_enable({"use_reentrant": False})
    return model


def make_groups(num_rollouts: int, vocabulary: int, most: int, rng: np.random.Generator) -> list[Group]:
    """Rollouts with rewards of 0 and 1, measured against beliefs, a group each."""
    groups = []
    for number in range(num_rollouts):
        num_prompt = int(rng.integers(60, 201))
        num_tokens = int(np.clip(rng.lognormal(np.log(most / 4), 0.7), 16, most))
        group_id = f"p{number}.0000"
        job = Job(
            group_id=group_id, start=0, stop=1, num_rollouts=1,
            prompt=Prompt(prompt_id=f"p{number}", text="", answer="", grader="string"),
            prompt_token_ids=rng.integers(0, vocabulary, num_prompt).astype(np.int32),
            sampling=Sampling(temperature=1.0, top_p=1.0, top_k=0, max_tokens=most),
            budgeting=Budgeting(mode="learnability", success_rate=0.5, num_observed=2, value=0.0, price=0.0, a=1.0, b=1.0),
        )  # fmt: skip
        trajectory = Trajectory(
            job=job, rollout_index=0, trajectory_id=group_id,
            token_ids=rng.integers(0, vocabulary, num_tokens).astype(np.int32),
            behavior_logprobs=np.full(num_tokens, -np.log(vocabulary), np.float32),
            spans=(Span(policy_version=0, start=0, stop=num_tokens),), text="", finish_reason="stop",
            timing=Timing(queued_s=0.0, generated_s=0.0), producer="benchmark",
        )  # fmt: skip
        group = Group(group_id=group_id, num_rollouts=1)
        group.verdicts[0] = Verdict(
            trajectory=trajectory, outcome="correct" if number % 2 else "wrong", reward=float(number % 2)
        )
        groups.append(group)
    return groups


def lengths_of(groups: Sequence[Group]) -> list[tuple[int, int]]:
    """Tokens of prompt and completion of each rollout."""
    found = [verdict.trajectory for group in groups for verdict in group.graded]
    return [(trajectory.job.prompt_token_ids.size, trajectory.token_ids.size) for trajectory in found]


class PlainLoop:
    """What one would write first."""

    def __init__(self, model: Any, dtype: torch.dtype, most_positions: int) -> None:
        self._model, self._dtype, self._most = model, dtype, most_positions
        self._optimizer = torch.optim.AdamW(model.parameters(), lr=1e-6, weight_decay=0.0)

    def update(self, samples: Sequence[Sample]) -> None:
        """One step of the optimizer on all samples."""
        for batch in self._batches(samples):
            self._backward(batch)
        torch.nn.utils.clip_grad_norm_(self._model.parameters(), 1.0)
        self._optimizer.step()
        self._optimizer.zero_grad()

    def _batches(self, samples: Sequence[Sample]) -> list[list[Sample]]:
        batches: list[list[Sample]] = [[]]
        for sample in samples:
            longest = max(other.length for other in [*batches[-1], sample]) + 1
            if batches[-1] and longest * (len(batches[-1]) + 1) > self._most:
                batches.append([])
            batches[-1].append(sample)
        return batches

    def _backward(self, batch: Sequence[Sample]) -> None:
        device = self._model.device
        longest = max(sample.length for sample in batch) + 1  # it reads the last token too
        ids, mask, loss_mask = (torch.zeros(len(batch), longest, dtype=torch.int64) for _ in range(3))
        for row, sample in enumerate(batch):
            trajectory = sample.verdict.trajectory
            tokens = np.concatenate([trajectory.job.prompt_token_ids, trajectory.token_ids])
            ids[row, : tokens.size] = torch.as_tensor(tokens)
            mask[row, : tokens.size] = 1
            loss_mask[row, trajectory.job.prompt_token_ids.size : tokens.size] = 1
        ids, mask, loss_mask = ids.to(device), mask.to(device), loss_mask.to(device)
        scale = torch.tensor([sample.advantage * sample.token_weight for sample in batch], device=device)
        with torch.autocast(device.type, dtype=torch.bfloat16, enabled=self._dtype == torch.bfloat16):
            logits: Tensor = self._model(input_ids=ids, attention_mask=mask, use_cache=False).logits
        logprobs = torch.log_softmax(logits[:, :-1].float(), dim=-1)
        chosen = logprobs.gather(-1, ids[:, 1:, None]).squeeze(-1)
        loss = -(chosen * loss_mask[:, 1:] * scale[:, None]).sum()
        loss.backward()


def peak_gib(device: torch.device) -> float:
    """Most memory that was in use so far: of the card's tensors, or of this process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**30
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def timed(step: Callable[[], object], device: torch.device) -> float:
    """Seconds."""
    started = time.perf_counter()
    step()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - started


def measure(arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """A row for the plain loop and one for the learner."""
    device, dtype = torch.device(arguments.device), getattr(torch, arguments.dtype)
    torch.set_num_threads(arguments.threads)
    table = LearnerTable(
        lr=1e-6, dtype=arguments.dtype, objective="belief", micro_batch_tokens=arguments.micro_batch_tokens,
        gradient_checkpointing=arguments.gradient_checkpointing, threads=arguments.threads,
        compile=arguments.compile,
    )  # fmt: skip
    rng = np.random.default_rng(0)
    groups = make_groups(arguments.rollouts, SHAPES[arguments.shape]["vocab_size"], arguments.max_tokens, rng)
    lengths = lengths_of(groups)
    seconds: dict[str, list[float]] = {"plain loop": [], "learner": []}
    peaks: dict[str, float] = {}
    model = make_model(arguments.shape, device, arguments.gradient_checkpointing)
    trainer = Trainer(model, table)
    samples = samples_of(groups, trainer.objective)
    steps: dict[str, Callable[[], object]] = {"learner": lambda: trainer.update(groups, 0, 0)}
    if not arguments.alone:
        plain_model = make_model(arguments.shape, device, arguments.gradient_checkpointing)
        if arguments.gradient_checkpointing:
            plain_model.train()
        loop = PlainLoop(plain_model, dtype, arguments.micro_batch_tokens)
        steps["plain loop"] = lambda: loop.update(samples)
    for number in range(arguments.rounds + 1):
        for name, step in list(steps.items()):
            gc.collect()
            if device.type == "cuda":
                torch.cuda.reset_peak_memory_stats(device)
            try:
                elapsed_s = timed(step, device)
            except torch.OutOfMemoryError:
                if name == "learner":
                    raise
                make_console().print("the plain loop does not fit into the card's memory: it is left out")
                del steps[name]
                continue
            if number:  # the first round allocates
                seconds[name].append(elapsed_s)
            peaks[name] = peak_gib(device)
    return figures_of(model, lengths, {name: times for name, times in seconds.items() if times}, peaks, device)


def figures_of(
    model: Any,
    lengths: Sequence[tuple[int, int]],
    seconds: Mapping[str, Sequence[float]],
    peaks: Mapping[str, float],
    device: torch.device,
) -> list[dict[str, Any]]:
    """A row for each way, of the seconds that its updates took and of its peak memory in GiB."""
    num_parameters = sum(parameter.numel() for parameter in model.parameters())
    num_tokens = sum(prompt + tokens for prompt, tokens in lengths)
    attention = 12 * model.config.num_hidden_layers * model.config.hidden_size
    work = 6.0 * num_parameters * num_tokens
    with_attention = work + sum(attention * (p + t) ** 2 / 2 for p, t in lengths)
    card = torch.cuda.get_device_name(device) if device.type == "cuda" else ""
    peak = next((value for name, value in PEAKS.items() if name in card), None)
    return [
        {
            "way": name,
            "parameters": num_parameters,
            "tokens": num_tokens,
            "best_s": min(times),
            "tokens_per_s": num_tokens / min(times),
            "tflop_per_s": work / min(times) / 1e12,
            "mfu": peak and work / min(times) / peak,
            "mfu_with_attention": peak and with_attention / min(times) / peak,
            "peak_gib": peaks[name],
            "sum_s": sum(times),
        }
        for name, times in seconds.items()
    ]


def show(rows: Sequence[dict[str, Any]]) -> None:
    """The table, and the ratio."""
    console, cuda = make_console(), rows[0]["mfu"] is not None
    table = Table(title=f"An update of {rows[0]['tokens']:,} tokens, {rows[0]['parameters'] / 1e6:,.0f} M parameters")
    table.add_column("way", no_wrap=True)
    for name in ("tokens/s", "TFLOP/s (6ND)", *(("MFU, %", "with attention, %") if cuda else ()), "peak, GiB", "s"):
        table.add_column(name, justify="right")
    for row in rows:
        shares = (f"{100 * row['mfu']:.1f}", f"{100 * row['mfu_with_attention']:.1f}") if cuda else ()
        table.add_row(
            row["way"], f"{row['tokens_per_s']:,.0f}", f"{row['tflop_per_s']:.3f}", *shares, f"{row['peak_gib']:.2f}",
            f"{row['best_s']:.2f}",
        )  # fmt: skip
    console.print(table)
    by_way = {row["way"]: row for row in rows}
    if len(by_way) == 2:
        ratio = by_way["plain loop"]["sum_s"] / by_way["learner"]["sum_s"]
        console.print(f"the learner is {ratio:.2f} times as fast as the plain loop")


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, print, and write JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", choices=SHAPES, default="135m", help="of SmolLM2-135M, Qwen2.5-0.5B, -1.5B, -7B")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32", help="of the products")
    parser.add_argument("--threads", type=int, default=2, help="CPU threads of both")
    parser.add_argument("--rollouts", type=int, default=32, help="of one update")
    parser.add_argument("--max-tokens", type=int, default=256, help="of a completion; the median is a quarter of it")
    parser.add_argument("--micro-batch-tokens", type=int, default=1024, help="positions of one pass, of both")
    parser.add_argument("--gradient-checkpointing", action="store_true", help="of both")
    parser.add_argument("--compile", action="store_true", help="the learner's blocks, not the plain loop's")
    parser.add_argument("--rounds", type=int, default=3, help="measured updates of each")
    parser.add_argument("--alone", action="store_true", help="without the plain loop, where memory is short")
    parser.add_argument("--out", type=Path, help="write the figures as JSON")
    arguments = parser.parse_args(argv)
    settings = {
        **machine("torch", "transformers"),
        **({"card": torch.cuda.get_device_name()} if arguments.device == "cuda" else {}),
        **{key: value for key, value in vars(arguments).items() if key != "out"},
    }
    make_console().print(as_line(settings), soft_wrap=True, highlight=False)
    rows = measure(arguments)
    show(rows)
    if arguments.out:
        write_rows(arguments.out, {**settings, "load": load()}, "ways", rows)


if __name__ == "__main__":
    main()
