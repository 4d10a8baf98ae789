"""Grading outside of training: `rucksack verify [FILE]`, and the same as a function, `grade_answers`.

JSON lines with `gold` and `answer` in, one JSON line each out, in the same order, as soon as it is known.
"""

import argparse
import json
import queue
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO, NamedTuple

from stream.errors import UserError
from verifier.grade import Grade
from verifier.graders import check_name, known_graders
from verifier.pool import Pool

WINDOW = 256
"""Answers per worker that are under way at once."""
_SLICE_S = 0.05


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
        UserError: there is no such grader.

    Example:
        >>> [graded.grade.outcome for graded in grade_answers([("1/2", "0.5"), ("1/2", "2")])]
        ['correct', 'wrong']

    """
    check_name(grader)
    return _graded(answers, grader, workers, timeout_s)


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
                for key, grade, elapsed_s in pool.results(_SLICE_S):
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
    with _opened(options.file) as file:
        _run(file, options)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="rucksack verify",
        description="Grade answers: JSON lines with `gold` and `answer` in, one JSON line each out, in the same order, "
        "with `outcome` (correct, wrong, unparsable, timeout, error), `reward`, `reason` and `elapsed_ms`.",
    )
    parser.add_argument("file", nargs="?", default="-", metavar="FILE", help="JSON lines (default: standard input)")
    parser.add_argument(
        "--grader", default="math", metavar="NAME", help=f"{', '.join(known_graders())} (default: math)"
    )
    parser.add_argument("--workers", type=_positive, default=1, metavar="N", help="processes that grade (default: 1)")
    parser.add_argument(
        "--timeout", type=_positive, default=2, metavar="SECONDS", help="whole seconds per answer (default: 2)"
    )
    return parser


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"got {text!r}; want a whole number of at least 1")
    return int(text)


def _opened(name: str) -> BinaryIO:
    if name == "-":
        return sys.stdin.buffer
    try:
        return Path(name).open("rb")
    except OSError as error:
        raise UserError(f"{name} cannot be read: {error.strerror}; give a file of JSON lines, or - for input") from None


def _run(file: BinaryIO, options: argparse.Namespace) -> None:
    started = time.monotonic()
    outcomes: Counter[str] = Counter()
    unreadable: list[int] = []
    for grade, elapsed_s in _graded(_read(file, unreadable), options.grader, options.workers, options.timeout):
        outcomes[grade.outcome] += 1
        line = {
            "outcome": grade.outcome,
            "reward": grade.reward,
            "reason": grade.reason,
            "elapsed_ms": round(1000 * elapsed_s, 3),
        }
        sys.stdout.write(json.dumps(line) + "\n")
        sys.stdout.flush()
    counts = ", ".join(f"{outcome} {count}" for outcome, count in outcomes.most_common())
    print(f"{outcomes.total()} answers in {time.monotonic() - started:.1f} s: {counts or 'none'}", file=sys.stderr)
    if unreadable:
        where = ", ".join(map(str, unreadable[:10])) + (", ..." if len(unreadable) > 10 else "")
        print(f"warning: {len(unreadable)} lines could not be read (line {where}): outcome error", file=sys.stderr)


def _read(file: BinaryIO, unreadable: list[int]) -> Iterator[tuple[str, str] | Grade | None]:
    """(gold, answer) of each line, or why there is none; None while nothing comes. Blank lines are passed over."""
    lines: queue.Queue[bytes | None] = queue.Queue(maxsize=WINDOW)

    def feed() -> None:
        for line in file:
            lines.put(line)
        lines.put(None)

    threading.Thread(target=feed, daemon=True).start()
    number = 0
    while True:
        try:
            line = lines.get(timeout=_SLICE_S)
        except queue.Empty:
            yield None
            continue
        if line is None:
            return
        number += 1
        if line.strip():
            item = _pair(line, number)
            if isinstance(item, Grade):
                unreadable.append(number)
            yield item


def _pair(line: bytes, number: int) -> tuple[str, str] | Grade:
    def bad(why: str) -> Grade:
        return Grade("error", 0.0, f"line {number}: {why}; want an object with gold and answer")

    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        return bad(f"not JSON ({str(error)[:100]})")
    if not isinstance(row, dict):
        return bad(f"a JSON {type(row).__name__}, no object")
    texts = []
    for key in ("gold", "answer"):
        if key not in row:
            return bad(f"no {key!r}")
        value = row[key]
        if isinstance(value, bool) or not isinstance(value, str | int | float):
            return bad(f"{key!r} is {json.dumps(value)[:50]}, no text or number")
        texts.append(value if isinstance(value, str) else json.dumps(value))
    return texts[0], texts[1]
