"""Grades answers outside of training: `rucksack verify [FILE]`, and the same as a function, `grade_answers`.

JSON lines with `gold` and `answer` in, one JSON line each out, in the same order, as soon as its grade is known.
"""

import argparse
import itertools
import json
import math
import queue
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO, NamedTuple

from stream.errors import UserError
from stream.json_lines import STANDARD_INPUT, numbered_lines, open_lines, parse_object
from verifier.grade import Grade
from verifier.graders import check_name, known_graders
from verifier.pool import Pool

WANTED = "an object with gold and answer"
WINDOW = 256
"""Answers per worker that are graded or waiting at once."""
MAX_WORKERS = 512
"""That the command starts: a thousand times as many, asked for by mistake, take all of a machine's memory."""
_POLL_S = 0.05


class Graded(NamedTuple):
    """One answer's grade, and how long it took."""

    grade: Grade
    elapsed_s: float


def grade_answers(
    answers: Iterable[tuple[str, str]], grader: str = "math", *, workers: int = 1, timeout_s: int = 2
) -> Iterator[Graded]:
    """Grade (gold, answer) pairs in worker processes that can be killed; yields in the order of the pairs.

    Args:
        answers: taken as needed, `WINDOW` per worker ahead of what is yielded.
        grader: name of the grader, see `verifier.graders`.
        workers: processes that grade side by side.
        timeout_s: whole seconds one answer may take; then its outcome is `timeout`.

    Raises:
        UserError: there is no such grader, or a pair is not two texts.

    Example:
        >>> [graded.grade.outcome for graded in grade_answers([("1/2", "0.5"), ("1/2", "2")])]
        ['correct', 'wrong']

    """
    check_name(grader)
    return _graded(map(_two_texts, answers, itertools.count(1)), grader, workers, timeout_s)


def _two_texts(pair: tuple[str, str], number: int) -> tuple[str, str]:
    """The pair; raises UserError if it is something else."""
    match pair:
        case (str(), str()):
            return pair
    raise UserError(f"pair {number} is {repr(pair)[:100]}; want two texts, (gold, answer), such as ('42', 'It is 42.')")


def _graded(
    answers: Iterable[tuple[str, str] | Grade | None], grader: str, workers: int, timeout_s: int
) -> Iterator[Graded]:
    """The same for a source that may also yield a Grade that is final, or None if it has nothing right now."""
    pool = Pool(workers, timeout_s)
    waiting: dict[int, Graded | None] = {}  # in order; None until it is known
    source = iter(answers)
    try:
        number, ended = 0, False
        while not ended or waiting:
            while not ended and len(waiting) < WINDOW * workers:
                try:
                    item = next(source)
                except StopIteration:
                    ended = True
                    break
                if item is None:
                    break
                waiting[number] = Graded(item, 0.0) if isinstance(item, Grade) else None
                if not isinstance(item, Grade):
                    pool.submit(str(number), grader, *item)
                number += 1
            if pool.num_pending:
                for key, grade, elapsed_s in pool.results(_POLL_S):
                    waiting[int(key)] = Graded(grade, elapsed_s)
            while waiting and (first := waiting[next(iter(waiting))]) is not None:
                del waiting[next(iter(waiting))]
                yield first
    finally:
        pool.close()


# -- the command ------------------------------------------------------------------------------------------------------


def main(argv: Sequence[str] | None = None) -> int:
    """`rucksack verify`; returns 0 once all lines are answered."""
    options = _parser().parse_args(argv)
    check_name(options.grader)
    with open_lines(options.file, f"{WANTED} on each line") as lines:
        return _run(lines, options)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="rucksack verify",
        description="Grade answers: JSON lines with `gold` and `answer` in, one JSON line each out, in the same order, "
        "with `outcome` (correct, wrong, unparsable, timeout, error), `reward`, `reason`, `found_by` (where the answer was "
        "found), `rule` and `elapsed_ms`.",
    )
    parser.add_argument(
        "file", nargs="?", type=Path, default=STANDARD_INPUT, metavar="FILE", help="JSON lines (default: stdin)"
    )
    parser.add_argument(
        "--grader", default="math", metavar="NAME", help=f"{', '.join(known_graders())} (default: math)"
    )
    parser.add_argument("--workers", type=_workers, default=1, metavar="N", help="processes that grade (default: 1)")
    parser.add_argument(
        "--timeout", type=_positive, default=2, metavar="SECONDS", help="whole seconds per answer (default: 2)"
    )
    return parser


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"got {text!r}; want a whole number of at least 1")
    return int(text)


def _workers(text: str) -> int:
    if _positive(text) > MAX_WORKERS:
        raise argparse.ArgumentTypeError(f"got {text!r}; want at most {MAX_WORKERS}: each takes 20 MB")
    return int(text)


def _run(lines: BinaryIO, options: argparse.Namespace) -> int:
    """Grade all lines; returns the exit code."""
    started = time.monotonic()
    outcomes: Counter[str] = Counter()
    unreadable: list[int] = []
    for grade, elapsed_s in _graded(_read(lines, unreadable), options.grader, options.workers, options.timeout):
        outcomes[grade.outcome] += 1
        line = {
            "outcome": grade.outcome,
            "reward": grade.reward,
            "reason": grade.reason,
            "found_by": grade.found_by,
            "rule": grade.rule,
            "elapsed_ms": round(1000 * elapsed_s, 3),
        }
        sys.stdout.write(json.dumps(line) + "\n")
        sys.stdout.flush()
    counts = ", ".join(f"{outcome} {count}" for outcome, count in outcomes.most_common())
    print(f"{outcomes.total()} answers in {time.monotonic() - started:.1f} s: {counts or 'none'}", file=sys.stderr)
    if unreadable:
        numbers = ", ".join(map(str, unreadable[:10])) + (", ..." if len(unreadable) > 10 else "")
        print(f"warning: {len(unreadable)} lines could not be read (line {numbers}): outcome error", file=sys.stderr)
    return 2 if unreadable else 0


def _read(lines: BinaryIO, unreadable: list[int]) -> Iterator[tuple[str, str] | Grade | None]:
    """(gold, answer) of each line, or a Grade for a line that cannot be read; None while nothing comes."""
    read: queue.Queue[tuple[int, bytes] | None] = queue.Queue(maxsize=WINDOW)

    def feed() -> None:
        for numbered in numbered_lines(lines):
            read.put(numbered)
        read.put(None)

    threading.Thread(target=feed, daemon=True).start()
    while True:
        try:
            numbered = read.get(timeout=_POLL_S)
        except queue.Empty:
            yield None
            continue
        if numbered is None:
            return
        number, line = numbered
        try:
            yield _pair(line)
        except ValueError as error:
            unreadable.append(number)
            yield Grade("error", 0.0, f"line {number}: {error}; want {WANTED}")


def _pair(line: bytes) -> tuple[str, str]:
    """(gold, answer) of one line; raises ValueError if there are none."""
    row = parse_object(line)
    for key in ("gold", "answer"):
        if key not in row:
            raise ValueError(f"no {key!r}")
        if isinstance(row[key], bool) or not isinstance(row[key], str | int | float) or _is_endless(row[key]):
            raise ValueError(f"{key!r} is {json.dumps(row[key])[:50]}, no text or number")
    gold, answer = (row[key] if isinstance(row[key], str) else json.dumps(row[key]) for key in ("gold", "answer"))
    return gold, answer


def _is_endless(value: str | float) -> bool:
    """Whether this is NaN or infinite, as Python reads from `NaN` and `1e400`: no number that could be meant."""
    return isinstance(value, float) and not math.isfinite(value)
