"""Measures how fast and how safe grading is, against math-verify called inline in the same run.

    python -m benchmarks.verify [--out FILE.json] [--cases FILE.jsonl] [--flood 10000] [--quick]

Three parts. Integer answers and labelled cases: verdicts per second of CPU (one core), of the pool with everything that
it spends (parent, forkserver's forks, worker), against `math_verify.parse` and `verify` with their default limits in
one process; also what the pool costs the parent, and how long one answer takes. The flood: hostile answers mixed one to
nine with good ones; every good one must come out right and within the limit, nothing may be executed, and memory must
not grow. CPU time is used for rates, as the machine may be busy with other work.
"""

import argparse
import json
import os
import random
import resource
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import psutil
from rich.console import Console
from rich.table import Table

from benchmarks.results import as_line, load, machine
from stream.console import make_console
from verifier.pool import Pool

CASES = Path(__file__).parents[1] / "tests" / "verifier" / "math_cases.jsonl"
WANTED_INTEGERS, WANTED_CASES, WANTED_PARENT_MS = 3.0, 1.2, 0.15
TIMEOUT_S = 2
Pair = tuple[str, str]


@dataclass(frozen=True)
class Rate:
    """What grading a set of answers took."""

    name: str
    num_answers: int
    cpu_s: float
    """Of all processes, the start left out."""
    wall_s: float
    parent_cpu_s: float
    p50_ms: float
    p99_ms: float
    max_rss_mb: float
    """Of the largest process."""
    num_correct: int

    @property
    def per_cpu_s(self) -> float:
        """Verdicts per second on one core."""
        return self.num_answers / self.cpu_s


def main() -> int:
    """Print the tables; returns 1 if a target is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="write the figures as JSON")
    parser.add_argument("--cases", type=Path, default=CASES, help="JSON lines with gold and answer (default: our own)")
    parser.add_argument("--flood", type=int, default=10_000, help="hostile answers in the flood (default: 10000)")
    parser.add_argument("--quick", action="store_true", help="a twentieth of everything")
    options = parser.parse_args()
    console, share = make_console(), 20 if options.quick else 1
    integers = [(str(n), rf"The answer is \boxed{{{n}}}") for n in range(20_000 // share)]
    cases = [(row["gold"], row["answer"]) for row in map(json.loads, options.cases.read_text("utf-8").splitlines())]
    num_inline = 2000 // share
    rates = {
        "integers": (
            inline("math-verify inline", integers[:num_inline]),
            pooled("pool, grader math", integers, "math"),
        ),
        "integers, grader integer": (None, pooled("pool, grader integer", integers, "integer")),
        f"cases ({options.cases.name})": (
            inline("math-verify inline", cases),
            pooled("pool, grader math", cases, "math"),
        ),
    }
    versions = ("math-verify", "sympy", "latex2sympy2_extended", "antlr4-python3-runtime")
    settings = {**machine(*versions), "load": load(), "timeout_s": TIMEOUT_S}
    show_rates(console, rates)
    flood = run_flood(options.flood // share, share)
    show_flood(console, flood)
    console.print(as_line(settings), soft_wrap=True)
    missed = missed_targets(rates, flood)
    console.print(*(f"MISSED: {line}" for line in missed), sep="\n")
    if options.out:
        tables = {name: [asdict(rate) for rate in pair if rate] for name, pair in rates.items()}
        text = json.dumps({"machine": settings, "rates": tables, "flood": flood, "missed": missed}, indent=2)
        options.out.write_text(text + "\n")
    return 1 if missed else 0


# -- rates ------------------------------------------------------------------------------------------------------------


def inline(name: str, pairs: Sequence[Pair]) -> Rate:
    """math-verify in a process of its own, as its documentation calls it; the gold in a box, as bare LaTeX needs."""
    from multiprocessing import get_context

    with get_context("spawn").Pool(1) as one:
        return one.apply(_inline, (name, list(pairs)))


def _inline(name: str, pairs: list[Pair]) -> Rate:
    import logging

    from math_verify import parse, verify

    logging.disable(logging.CRITICAL)
    verify(parse(r"\boxed{1}"), parse(r"\boxed{1}"))
    took: list[float] = []
    num_correct = 0
    cpu_s, wall_s = time.process_time(), time.perf_counter()
    for gold, answer in pairs:
        started = time.perf_counter()
        num_correct += bool(verify(parse(rf"\boxed{{{gold}}}"), parse(answer)))
        took.append(time.perf_counter() - started)
    cpu_s, wall_s = time.process_time() - cpu_s, time.perf_counter() - wall_s
    rss = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return _rate(name, took, cpu_s, wall_s, cpu_s, rss, num_correct)


def pooled(name: str, pairs: Sequence[Pair], grader: str) -> Rate:
    """One worker, from its second answer on: the start is left out."""
    took, cpu_s, wall_s, parent_s, rss, num_correct = _run(pairs, grader)
    return _rate(name, took, cpu_s, wall_s, parent_s, rss, num_correct)


def _run(pairs: Sequence[Pair], grader: str) -> tuple[list[float], float, float, float, float, int]:
    pool = Pool(1, TIMEOUT_S)
    pool.submit("start", grader, "1", "1")
    while pool.num_pending:
        pool.results(1.0)
    children_s = _children_cpu_s(pool)
    parent_s, wall_s = time.process_time(), time.perf_counter()
    took: list[float] = []
    num_correct, waiting, rss = 0, iter(pairs), 0.0
    ended = False
    while not ended or pool.num_pending:
        while not ended and pool.num_pending < 256:
            pair = next(waiting, None)
            if pair is None:
                ended = True
            else:
                pool.submit("", grader, *pair)
        for _key, grade, elapsed_s in pool.results(1.0):
            num_correct += grade.outcome == "correct"
            took.append(elapsed_s)
        if len(took) % 500 < 64:
            rss = max([rss, *map(_rss_mb, pool.worker_pids)])
    parent_s, wall_s = time.process_time() - parent_s, time.perf_counter() - wall_s
    children_s = _children_cpu_s(pool) - children_s
    pool.close()
    return took, children_s + parent_s, wall_s, parent_s, rss, num_correct


def _rate(
    name: str, took: list[float], cpu_s: float, wall_s: float, parent_s: float, rss: float, num_correct: int
) -> Rate:
    percentiles = statistics.quantiles(took, n=100)
    return Rate(
        name=name,
        num_answers=len(took),
        cpu_s=cpu_s,
        wall_s=wall_s,
        parent_cpu_s=parent_s,
        p50_ms=1000 * percentiles[49],
        p99_ms=1000 * percentiles[98],
        max_rss_mb=rss,
        num_correct=num_correct,
    )


def _children_cpu_s(pool: Pool) -> float:
    """CPU seconds of the forkserver, of its ended workers and of the running ones."""
    forkserver = psutil.Process(pool.forkserver_pid)
    own = forkserver.cpu_times()
    workers = [worker.cpu_times() for worker in forkserver.children()]
    return float(sum(own[:4]) + sum(sum(worker[:2]) for worker in workers))


def _rss_mb(pid: int) -> float:
    try:
        return float(psutil.Process(pid).memory_info().rss / 2**20)
    except psutil.NoSuchProcess:
        return 0.0


# -- the flood --------------------------------------------------------------------------------------------------------


def hostile_answers(planted: Path) -> Iterator[str]:
    """Without end: what hangs, devours, crashes or runs in one grader or another, each a little different."""
    rng = random.Random(5)
    code = f"__import__('os').system('touch {planted}')"
    while True:
        n = rng.randrange(9, 99)
        yield rf"\boxed{{{n}^{{{n}^{{{n}^{n}}}}}}}"
        yield f"{n}**{n}**{n}**{n}"
        yield rf"${n}^{{{n}^{{{n}}}}}$"
        yield rf"\boxed{{({n}^9)!}}"
        yield f"{n}00000000!"
        yield r"\boxed{((9!)!)!}"
        yield rf"$\binom{{10^9}}{{5 \cdot 10^8 + {n}}}$"
        yield r"\boxed{" + r"\frac{1}{" * 50 + f"{n}" + "}" * 51
        yield r"\boxed{" + "(" * 500 + f"{n}" + ")" * 500 + "}"
        yield f"{n}" + " " * 20_000 + "x"
        yield r"\boxed{" + str(n) * 500_000 + "}"
        yield "0." + "3" * 100_000
        yield f"\x00{n}" * 500
        yield "\ud800" * n
        yield "\U0001f600" * 5000
        yield code
        yield rf"\boxed{{{code}}}"
        yield rf"${code}$"
        yield rf"{code} * \pi"
        yield rf"\boxed{{open('{planted}', 'w').write('{n}')}}"
        yield r"$" + r"\sqrt{" * 200 + f"{n}" + "}" * 200 + "$"
        yield r"\( \boxed{ a" * 300
        yield r"\[ a" * 3000
        yield rf"$\sum_{{k=1}}^{{10^9}} \sin(k^2 + {n})$"
        yield "$" + "x+" * 5000 + "x$"
        yield rf"$(x+{n})^{{1000}}$"
        yield r"\{" * 20_000
        yield "\\" * 20_000


GOOD: tuple[tuple[str, str, str, str], ...] = (
    ("math", "42", r"So we get \boxed{42}.", "correct"),
    ("math", r"\frac{3}{4}", "The answer is 0.75.", "correct"),
    ("math", "42", r"\boxed{43}", "wrong"),
    ("math", "(3, 4)", "(3,4)", "correct"),
    ("math", "x^2+2x+1", "$(x+1)^2$", "correct"),
    ("integer", "1000", "1,000", "correct"),
    ("string", "058", "058", "correct"),
    ("string", "058", "58", "wrong"),
    ("choice", "B", "The answer is (B).", "correct"),
)


def run_flood(num_hostile: int, share: int) -> dict[str, Any]:
    """`num_hostile` hostile answers and nine times as many good ones, shuffled, through two workers."""
    rng = random.Random(share)
    with tempfile.TemporaryDirectory() as folder:
        planted = Path(folder) / "planted"
        os.chmod(folder, 0o777)
        kinds = [True] * num_hostile + [False] * (9 * num_hostile)
        rng.shuffle(kinds)
        hostile = hostile_answers(planted)
        golds = (("math", "42"), ("math", r"x^2 + \sqrt{2}"), ("integer", "42"), ("string", "42"), ("regex", r"\d+"))
        pool = Pool(2, TIMEOUT_S)
        parent = psutil.Process()
        outcomes: dict[str, Counter[str]] = {"hostile": Counter(), "good": Counter()}
        expected: dict[str, str] = {}
        wrong_good = late_good = num_seen = 0
        slowest_s = wall_s = 0.0
        parent_rss: list[float] = []
        worker_rss: list[float] = []
        started = time.perf_counter()
        waiting = iter(enumerate(kinds))
        ended = False
        while not ended or pool.num_pending:
            while not ended and pool.num_pending < 512:
                number, is_hostile = next(waiting, (-1, False))
                if number < 0:
                    ended = True
                elif is_hostile:
                    pool.submit(f"h{number}", *golds[number % len(golds)], next(hostile))
                else:
                    grader, gold, answer, expected[f"g{number}"] = GOOD[number % len(GOOD)]
                    pool.submit(f"g{number}", grader, gold, answer)
            for key, grade, elapsed_s in pool.results(1.0):
                num_seen += 1
                slowest_s = max(slowest_s, elapsed_s)
                outcomes["good" if key[0] == "g" else "hostile"][grade.outcome] += 1
                if key[0] == "g":
                    wrong_good += grade.outcome != expected.pop(key)
                    late_good += elapsed_s > TIMEOUT_S
                if num_seen % max(1, len(kinds) // 20) == 0:
                    parent_rss.append(parent.memory_info().rss / 2**20)
                    worker_rss += map(_rss_mb, pool.worker_pids)
        wall_s = time.perf_counter() - started
        pool.close()
        num_planted = len(list(Path(folder).iterdir()))
    return {
        "num_hostile": num_hostile,
        "num_good": 9 * num_hostile,
        "num_lost": len(expected),
        "num_good_misjudged": wrong_good,
        "num_good_late": late_good,
        "num_files_planted": num_planted,
        "hostile_outcomes": dict(outcomes["hostile"]),
        "good_outcomes": dict(outcomes["good"]),
        "slowest_s": slowest_s,
        "wall_s": wall_s,
        "parent_rss_mb_first_last": [parent_rss[0], parent_rss[-1]],
        "worker_rss_mb_max": max(worker_rss, default=0.0),
    }


# -- what is shown ----------------------------------------------------------------------------------------------------


def show_rates(console: Console, rates: dict[str, tuple[Rate | None, Rate]]) -> None:
    """One row a measurement."""
    table = Table(title="Grading", title_justify="left")
    for column in (
        "answers",
        "how",
        "number",
        "per CPU s",
        "ratio",
        "parent ms each",
        "p50 ms",
        "p99 ms",
        "MB",
        "correct",
    ):
        table.add_column(column, justify="left" if column in ("answers", "how") else "right")
    reference = rates["integers"][0]
    for name, (slow, fast) in rates.items():
        for rate in (slow, fast):
            base = slow or reference
            if rate is None or base is None:
                continue
            table.add_row(
                name,
                rate.name,
                f"{rate.num_answers:,}",
                f"{rate.per_cpu_s:,.0f}",
                f"{rate.per_cpu_s / base.per_cpu_s:.2f}",
                f"{1000 * rate.parent_cpu_s / rate.num_answers:.3f}" if rate is fast else "-",
                f"{rate.p50_ms:.2f}",
                f"{rate.p99_ms:.1f}",
                f"{rate.max_rss_mb:.0f}",
                f"{rate.num_correct:,}",
            )
    console.print(table)


def show_flood(console: Console, flood: dict[str, Any]) -> None:
    """One row a figure."""
    table = Table(title="Flood", title_justify="left", show_header=False)
    for key, value in flood.items():
        table.add_row(key, f"{value:,.1f}" if isinstance(value, float) else str(value))
    console.print(table)


def missed_targets(rates: dict[str, tuple[Rate | None, Rate]], flood: dict[str, Any]) -> list[str]:
    """What falls short of the figures wanted above, and of no answer lost, misjudged or late."""
    missed = []
    for name, (slow, fast) in rates.items():
        wanted = WANTED_INTEGERS if name == "integers" else WANTED_CASES
        if slow and fast.per_cpu_s < wanted * slow.per_cpu_s:
            missed.append(f"{name}: {fast.per_cpu_s / slow.per_cpu_s:.2f} times math-verify inline; want {wanted}")
        if (parent_ms := 1000 * fast.parent_cpu_s / fast.num_answers) > WANTED_PARENT_MS:
            missed.append(f"{name}: {parent_ms:.3f} ms of the parent per verdict; want at most {WANTED_PARENT_MS}")
    zeros = ("num_lost", "num_good_misjudged", "num_good_late", "num_files_planted")
    missed += [f"flood: {key} is {flood[key]}; want 0" for key in zeros if flood[key]]
    first, last = flood["parent_rss_mb_first_last"]
    if last > first + 50:
        missed.append(f"flood: the parent grew from {first:.0f} to {last:.0f} MB")
    return missed


if __name__ == "__main__":
    sys.exit(main())
