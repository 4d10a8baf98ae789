"""Measures how fast budgets are: the exact solver against the paper's dynamic program (compiled), and at a million prompts; how
fast the allocator comes back with a million beliefs.

    python -m benchmarks.allocate [--out FILE.json] [--quick] [--only solver|million|start-up]

Success rates are drawn from Beta(.3, .3), N between 2 and 128. Two dynamic programs, O(M B 126), both compiled by numba:
one as the paper's code has it, with the value function in the inner loop and whole tables of totals and choices, and a
tuned one with the values tabulated and one row of totals. All find the same total value; the target of 5,000 times is
against the first. Memory is the peak of a process of its own.

Start-up: a million beliefs are written to the compacted topic of a real local broker; timed is the allocator from its
pool of prompts (in memory) to being ready to admit a round: reading, decoding and taking in all beliefs.
"""

import argparse
import json
import multiprocessing
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from allocator import allocate
from allocator.budget import solve
from allocator.values import PlugIn, paper_value
from benchmarks.results import as_line, load, machine
from localkafka.local import LocalKafka
from stream.config import Config
from stream.console import make_console
from stream.kafka import KafkaBroker
from stream.messages import Belief, Budgeting, Commit, OpenGroup, Position, Prompt, Visit
from stream.run_topics import RunTopics
from stream.topics import BELIEFS, TOPICS, VERDICTS

LOW, HIGH = 2, 128
SIZES = ((256, 2048), (512, 8192), (1024, 16_384))
MILLION = (1_000_000, 16_000_000)
WANTED_SPEEDUP, WANTED_S, WANTED_MB, WANTED_START_S = 5000, 2.0, 1000, 30.0
RUN = "start-up"
PER_RECORD = 480
"""Beliefs, as a round of the demo changes them."""


def main() -> int:
    """Print the tables; returns 1 if a target is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="write the figures as JSON")
    parser.add_argument("--quick", action="store_true", help="leave out the largest dynamic program (about a minute)")
    parser.add_argument("--only", choices=("solver", "million", "start-up"), help="one section")
    options = parser.parse_args()

    def wanted(section: str) -> bool:
        return options.only in (None, section)

    console = make_console()
    versus = [against_the_program(*size) for size in SIZES[: len(SIZES) - options.quick] if wanted("solver")]
    large = [apart(a_million, mode) for mode in ("plug-in", "bayes", "paper", "uniform") if wanted("million")]
    back = [start_up(MILLION[0])] if wanted("start-up") else []
    settings = {**machine("numpy", "numba"), "threads": os.environ.get("OMP_NUM_THREADS", ""), "load": load()}
    show(console, versus, large, back, settings)
    if options.out:
        figures = {"machine": settings, "versus": versus, "million": large, "start_up": back}
        options.out.write_text(json.dumps(figures, indent=2) + "\n")
    missed = [row for row in versus if row["prompts"] == 1024 and row["speedup"] < WANTED_SPEEDUP]
    missed += [row for row in large[:1] if row["seconds"] > WANTED_S or row["peak_mb"] > WANTED_MB]
    missed += [row for row in back if row["seconds"] > WANTED_START_S]
    return 1 if missed else 0


def against_the_program(num_prompts: int, budget: int) -> dict[str, Any]:
    """Each dynamic program once (compiled before), the solver 51 times, of which the median."""
    p = rates(num_prompts)
    table = np.stack([paper_value(p, np.full(num_prompts, n)) for n in range(LOW, HIGH + 1)], axis=1)
    above_low = budget - LOW * num_prompts
    published, tuned = compiled_programs()
    published(p[:2], LOW, HIGH, 8)
    tuned(table[:2], 8)
    best, published_s = timed(lambda: published(p, LOW, HIGH, above_low))
    same, tuned_s = timed(lambda: tuned(table, above_low))
    assert abs(best - same) < 1e-9, (best, same)
    low, high = np.full(num_prompts, LOW), np.full(num_prompts, HIGH)
    seconds = []
    for _ in range(51):
        begin = time.perf_counter()
        rollouts = solve(PlugIn(p).marginal, budget, low, high).num_rollouts
        seconds.append(time.perf_counter() - begin)
    assert rollouts.sum() == budget
    value = float(paper_value(p, rollouts).sum())
    assert abs(value - best) < 1e-9, (value, best)
    solver_s = statistics.median(seconds)
    return {
        "prompts": num_prompts,
        "budget": budget,
        "published_s": published_s,
        "tuned_s": tuned_s,
        "solver_s": solver_s,
        "solver_best_s": min(seconds),
        "speedup": published_s / solver_s,
        "speedup_tuned": tuned_s / solver_s,
        "value": value,
        "value_lost": best - value,
    }


def timed(call: Callable[[], float]) -> tuple[float, float]:
    """Result and seconds."""
    begin = time.perf_counter()
    return call(), time.perf_counter() - begin


def compiled_programs() -> tuple[Any, Any]:
    """Two dynamic programs for the best total value of `total` rollouts above the lower bounds."""
    import numba

    @numba.njit  # type: ignore[untyped-decorator]
    def published(p: Any, low: int, high: int, total: int) -> float:
        best = np.full((p.size + 1, total + 1), -np.inf)
        choice = np.zeros((p.size + 1, total + 1, 2), np.int32)
        best[0, 0] = 0.0
        for i in range(1, p.size + 1):
            rate = p[i - 1]
            for spent in range(total + 1):
                for extra in range(min(high - low, spent) + 1):
                    n = low + extra
                    value = (1.0 - rate**n - (1.0 - rate) ** n) * rate * (1.0 - rate) ** 2
                    reached = best[i - 1, spent - extra] + value
                    if reached > best[i, spent]:
                        best[i, spent] = reached
                        choice[i, spent, 0] = spent - extra
                        choice[i, spent, 1] = extra
        return best[p.size, total]  # type: ignore[no-any-return]

    @numba.njit  # type: ignore[untyped-decorator]
    def tuned(table: Any, total: int) -> float:
        num_prompts, num_choices = table.shape
        best = np.full(total + 1, -np.inf)
        best[0] = 0.0
        choice = np.zeros((num_prompts, total + 1), np.int16)  # what a caller needs to read the budgets back
        for i in range(num_prompts):
            following = np.full(total + 1, -np.inf)
            for spent in range(total + 1):
                for extra in range(min(num_choices - 1, spent) + 1):
                    reached = best[spent - extra] + table[i, extra]
                    if reached > following[spent]:
                        following[spent] = reached
                        choice[i, spent] = extra
            best = following
        return best[total]  # type: ignore[no-any-return]

    return published, tuned


def apart(measure: Callable[..., dict[str, Any]], *arguments: Any) -> dict[str, Any]:
    """A measurement in a process of its own, so that its peak memory is its own."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(measure, arguments)


def a_million(mode: str) -> dict[str, Any]:
    """A million prompts: the least of three runs, and the peak memory."""
    num_prompts, budget = MILLION
    p = rates(num_prompts)
    low, high = np.full(num_prompts, LOW), np.full(num_prompts, HIGH)
    trials = np.random.default_rng(1).integers(0, 33, num_prompts)
    successes = np.random.default_rng(2).binomial(trials, p)
    before_mb = peak_mb()
    seconds = []
    for _ in range(3):
        begin = time.perf_counter()
        if mode == "plug-in":
            rollouts = solve(PlugIn(p).marginal, budget, low, high).num_rollouts
        else:
            rollouts = allocate(successes, trials, budget, mode=mode, min_rollouts=LOW, max_rollouts=HIGH).num_rollouts
        seconds.append(time.perf_counter() - begin)
        assert rollouts.sum() == budget and rollouts.min() >= LOW and rollouts.max() <= HIGH
    return {
        "what": "solver, known rates" if mode == "plug-in" else f"allocate, mode {mode}",
        "prompts": num_prompts,
        "budget": budget,
        "seconds": min(seconds),
        "peak_mb": peak_mb(),
        "peak_before_mb": before_mb,
    }


def start_up(num_prompts: int) -> dict[str, Any]:
    """Write the beliefs, then let an allocator restore them."""
    with tempfile.TemporaryDirectory() as folder, LocalKafka(Path(folder)) as local:
        begin = time.perf_counter()
        apart(write_beliefs, local.bootstrap_servers, num_prompts)
        written_s = time.perf_counter() - begin
        return {"written_s": written_s, **apart(restore, local.bootstrap_servers, num_prompts)}


def write_beliefs(servers: str, num_prompts: int) -> dict[str, Any]:
    """One belief a prompt, of two graded groups; a thousandth of the prompts have an open one."""
    broker = KafkaBroker(servers)
    broker.create_topics(RUN, TOPICS, 4)
    log = RunTopics(broker, RUN, "benchmark")
    why = Budgeting(mode="bayes", success_rate=0.3, num_observed=9.0, value=0.08, price=0.002)
    positions = (Position(topic=VERDICTS.of(RUN), partition=0, offset=0),)
    correct, beliefs = np.random.default_rng(3).binomial(8, rates(num_prompts)).tolist(), list[Belief]()
    for i, wins in enumerate(correct):
        group = OpenGroup(group_id=f"prompt-{i:07d}.0002", num_rollouts=8, round=2, budgeting=why)
        belief = Belief(
            prompt_id=f"prompt-{i:07d}",
            num_groups=3 if i % 1000 == 0 else 2,
            num_trials=16,
            num_correct=2.0 * wins,
            recent_trials=12.0,
            recent_correct=1.5 * wins,
            recent_sampled=12.0,
            recent_tokens=1234.5,
            visits=(Visit(num_correct=wins, num_graded=8),) * 2,
            open_group=group if i % 1000 == 0 else None,
        )
        beliefs.append(belief)
        if len(beliefs) == PER_RECORD or i == num_prompts - 1:
            slot = i // PER_RECORD
            log.send(BELIEFS, str(slot), Commit(slot=slot, beliefs=tuple(beliefs), positions=positions, losses=()))
            beliefs.clear()
    log.writer.flush()
    log.writer.close()
    broker.close()
    return {}


def restore(servers: str, num_prompts: int) -> dict[str, Any]:
    """The allocator from its pool to being ready."""
    from allocator.admission import admission_of
    from allocator.role import Allocator

    pool = [
        Prompt(
            prompt_id=f"prompt-{i:07d}",
            text=f"What is {i} plus {i % 97}?",
            answer=str(i + i % 97),
            grader="math",
            task=f"task-{i % 7}",
            level=f"level-{i % 5}",
        )
        for i in range(num_prompts)
    ]
    tokens = {prompt.prompt_id: np.arange(12, dtype=np.int32) for prompt in pool}
    config = Config(run={"name": RUN}, evaluator={"enabled": False})  # type: ignore[arg-type]
    broker = KafkaBroker(servers)
    log = RunTopics(broker, RUN, "allocator-0")
    before_mb = peak_mb()
    begin = time.perf_counter()
    allocator = Allocator(config, log, pool, tokens, admission_of(config))
    seconds = time.perf_counter() - begin
    groups = allocator.metrics()["allocator/groups"]
    assert groups == 2 * num_prompts + -(-num_prompts // 1000), groups
    allocator.reader.close()
    log.writer.close()
    broker.close()
    return {"prompts": num_prompts, "seconds": seconds, "peak_mb": peak_mb(), "peak_before_mb": before_mb}


def rates(num_prompts: int) -> np.ndarray:
    """Success rates: many near 0 and 1, as in training."""
    return np.random.default_rng(0).beta(0.3, 0.3, num_prompts).clip(1e-3, 1 - 1e-3)


def peak_mb() -> float:
    """Peak resident memory of this process, MB (Linux; getrusage would count the parent's as well)."""
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(status["VmHWM"].split()[0]) * 1024 / 1e6


def show(
    console: Console,
    versus: list[dict[str, Any]],
    large: list[dict[str, Any]],
    back: list[dict[str, Any]],
    settings: dict[str, Any],
) -> None:
    """The tables and the machine."""
    first = Table(title="Exact solver against the dynamic program (numba)", title_justify="left")
    columns = ("prompts", "budget", "program, s", "tuned, s", "solver, ms", "faster", "than tuned", "loss")
    for column in columns:
        first.add_column(column, justify="right")
    for row in versus:
        first.add_row(
            f"{row['prompts']:,}",
            f"{row['budget']:,}",
            f"{row['published_s']:.2f}",
            f"{row['tuned_s']:.2f}",
            f"{row['solver_s'] * 1e3:.2f}",
            f"{row['speedup']:,.0f}",
            f"{row['speedup_tuned']:,.0f}",
            f"{row['value_lost']:.0e}",
        )
    second = Table(title=f"{MILLION[0]:,} prompts, {MILLION[1]:,} rollouts", title_justify="left")
    for column in ("what", "seconds (best of 3)", "peak memory, MB", "of which input, MB"):
        second.add_column(column, justify="left" if column == "what" else "right")
    for row in large:
        second.add_row(row["what"], f"{row['seconds']:.2f}", f"{row['peak_mb']:,.0f}", f"{row['peak_before_mb']:,.0f}")
    third = Table(title="Allocator's start with its beliefs on a broker", title_justify="left")
    for column in ("beliefs", "seconds", "peak memory, MB", "of which pool, MB", "(writing them, s)"):
        third.add_column(column, justify="right")
    for row in back:
        third.add_row(
            f"{row['prompts']:,}",
            f"{row['seconds']:.1f}",
            f"{row['peak_mb']:,.0f}",
            f"{row['peak_before_mb']:,.0f}",
            f"{row['written_s']:.0f}",
        )
    console.print(*(table for table in (first, second, third) if table.row_count))
    console.print(as_line(settings), soft_wrap=True)


if __name__ == "__main__":
    sys.exit(main())
