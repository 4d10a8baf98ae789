"""Measures what batching costs: padding by how rollouts are put together, and peak memory by how logits are computed.

    python -m benchmarks.batches --out batches.json

Padding: lengths are drawn, nothing is trained. Memory: one forward and backward pass of a model of SmolLM2-135M's
width and vocabulary in a process of its own for each row; peak is the process's largest resident size, less what it had
before the pass. `whole` is the reference: all logits of the micro-batch at once.
"""

import argparse
import itertools
import json
import multiprocessing
import resource
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.table import Table

from benchmarks.results import as_line, machine
from stream.console import make_console

VOCABULARY, WIDTH = 49_152, 576


def padding_share(batches: Sequence[Sequence[int]]) -> float:
    """Share of the positions that are padding when each batch is as wide as its longest sequence."""
    used = sum(map(sum, batches))
    return 1 - used / sum(len(batch) * max(batch) for batch in batches)


def batch_by(lengths: Sequence[int], max_tokens: int) -> list[list[int]]:
    """In the order given, as many as fit `max_tokens` with padding."""
    batches: list[list[int]] = [[]]
    for length in lengths:
        if batches[-1] and (len(batches[-1]) + 1) * max(*batches[-1], length) > max_tokens:
            batches.append([])
        batches[-1].append(length)
    return batches


def learner_batches(lengths: Sequence[int], max_tokens: int) -> list[list[int]]:
    """As the learner does it."""
    from learner.batches import micro_batches

    class Sized:
        def __init__(self, length: int) -> None:
            self.length = length

    return [[sized.length for sized in batch] for batch in micro_batches([Sized(n) for n in lengths], max_tokens)]  # type: ignore[misc]


def padding_rows(num_rollouts: int, max_tokens: int) -> list[dict[str, Any]]:
    """Padding of three ways to batch, for three laws of length."""
    rng = np.random.default_rng(0)
    laws = {
        "lognormal, median 400": np.clip(rng.lognormal(6.0, 0.8, num_rollouts), 16, 4096),
        "uniform 64-1024": rng.uniform(64, 1024, num_rollouts),
        "a tenth at the limit of 4096": np.where(
            rng.random(num_rollouts) < 0.1, 4096, rng.uniform(64, 512, num_rollouts)
        ),
    }
    rows = []
    for law, drawn in laws.items():
        lengths = [int(length) for length in drawn]
        ways: dict[str, list[list[int]]] = {
            "8 at a time, as they come": [lengths[i : i + 8] for i in range(0, len(lengths), 8)],
            f"{max_tokens} tokens, as they come": batch_by(lengths, max_tokens),
            f"{max_tokens} tokens, by length (learner)": learner_batches(lengths, max_tokens),
        }
        for way, batches in ways.items():
            rows.append({"law": law, "way": way, "batches": len(batches), "padding": padding_share(batches)})
    return rows


def measure(layers: int, tokens: int, dtype: str, chunked: bool, checkpointing: bool, result: Any) -> None:
    """One pass; puts (seconds, peak MiB above the start, loss, gradient norm) into `result`."""
    from transformers import LlamaConfig, LlamaForCausalLM

    from learner import head
    from learner import model as network

    torch.set_num_threads(1)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=VOCABULARY, hidden_size=WIDTH, intermediate_size=1536, num_hidden_layers=layers,
        num_attention_heads=9, num_key_value_heads=3, tie_word_embeddings=True,
    )  # fmt: skip
    model = LlamaForCausalLM(config).eval()
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)  # of any method, so not counted
    if checkpointing:
        network.save_activations(model)
    if not chunked:
        head.LOGITS_PER_CHUNK = 1 << 62
    policy = network.Policy(model, dtype)
    rows = 8
    ids = torch.randint(0, VOCABULARY, (rows, tokens // rows))
    places = torch.arange(rows).repeat_interleave(tokens // rows - 1), torch.arange(tokens // rows - 1).repeat(rows)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    started = time.monotonic()
    logprobs, _ = policy(ids, *places, ids[:, 1:].flatten(), torch.ones(len(places[0])))
    logprobs.mean().backward()
    seconds = time.monotonic() - started
    peak = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    norm = torch.stack([p.grad.norm() for p in model.parameters() if p.grad is not None]).norm().item()
    result.put((seconds, peak, logprobs.mean().item(), norm))


def in_a_process(target: Callable[..., None], *arguments: Any) -> tuple[float, float, float, float]:
    """What the function puts into its result."""
    context = multiprocessing.get_context("spawn")
    result = context.SimpleQueue()
    process = context.Process(target=target, args=(*arguments, result))
    process.start()
    process.join()
    if process.exitcode != 0:
        raise SystemExit(f"measurement ended with exit code {process.exitcode}")
    measured: tuple[float, float, float, float] = result.get()
    return measured


def memory_rows(layers: int, tokens: int, dtypes: Sequence[str]) -> list[dict[str, Any]]:
    """Peak memory of the ways to compute logits and to keep activations."""
    rows = []
    for dtype, (chunked, checkpointing) in itertools.product(dtypes, ((False, False), (True, False), (True, True))):
        seconds, peak, loss, norm = in_a_process(measure, layers, tokens, dtype, chunked, checkpointing)
        rows.append({
            "dtype": dtype, "logits": "chunked" if chunked else "whole", "checkpointing": checkpointing,
            "peak_mib": peak, "seconds": seconds, "loss": loss, "grad_norm": norm,
        })  # fmt: skip
    return rows


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rollouts", type=int, default=480)
    parser.add_argument("--max-tokens", type=int, default=8192)
    parser.add_argument(
        "--layers", type=int, default=4, help="of the model whose memory is measured (SmolLM2-135M: 30)"
    )
    parser.add_argument("--tokens", type=int, default=1024, help="of the micro-batch whose memory is measured")
    parser.add_argument(
        "--dtypes", nargs="+", default=["float32"], help="of the body; bfloat16 is slow on CPUs without units for it"
    )
    parser.add_argument("--out", type=Path, help="write the results as JSON")
    options = parser.parse_args()
    console = make_console()
    settings = {**machine("torch"), "threads": 1, "rollouts": options.rollouts, "max_tokens": options.max_tokens}
    settings |= {"layers": options.layers, "tokens": options.tokens, "dtypes": options.dtypes}
    console.print(as_line(settings))
    padding, memory = (
        padding_rows(options.rollouts, options.max_tokens),
        memory_rows(options.layers, options.tokens, options.dtypes),
    )
    table = Table("lengths", "batches", "way", "padding", title=f"padding of {options.rollouts} rollouts")
    for row in padding:
        table.add_row(row["law"], str(row["batches"]), row["way"], f"{row['padding']:.1%}")
    console.print(table)
    table = Table(
        "body", "logits", "checkpointing", "peak MiB", "s", "mean logprob", "gradient norm",
        title=f"one pass over {options.tokens} tokens, {options.layers} layers, width {WIDTH}, vocabulary {VOCABULARY:,}",
    )  # fmt: skip
    for row in memory:
        table.add_row(
            row["dtype"], row["logits"], str(row["checkpointing"]), f"{row['peak_mib']:,.0f}", f"{row['seconds']:.1f}",
            f"{row['loss']:.5f}", f"{row['grad_norm']:.5f}",
        )  # fmt: skip
    console.print(table)
    if options.out:
        options.out.write_text(json.dumps({"settings": settings, "padding": padding, "memory": memory}, indent=1))


if __name__ == "__main__":
    main()
