"""Runs `rucksack allocate PROMPTS.jsonl --budget B`, for people who train with another framework.

A JSON line per prompt in, a line per prompt with its number of rollouts out. `allocator.allocate` decides; here are the file,
its mistakes and the picture.
"""

import argparse
import json
import math
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

import msgspec
import numpy as np

from allocator.modes import MODES, VALUES, Allocation, allocate
from stream.errors import UserError
from stream.json_lines import has_lone_surrogate, read_objects, source_name

KEYS = "prompt_id, successes and trials"
OUT_SUFFIXES = (".jsonl", ".parquet")
PLOT_SUFFIXES = (".html",)

DESCRIPTION = """\
Decide how many rollouts each prompt gets, from what is known of it.

PROMPTS.jsonl holds one object a line:
  prompt_id, successes, trials    needed; rewards between 0 and 1 count as fractions of a success
  task, level                     optional: what is learned of a prompt is shared most within its level of its task
  cost                            optional, on every line or on none: the cost of one rollout, e.g. its expected tokens

Printed, or written with --out, is one line a prompt, in the same order: prompt_id, num_rollouts and value, the value of
that many rollouts under the mode's value function."""

MODE_HELP = """\
bayes: most expected value, p(1-p)^2 x P(both outcomes), over a Beta posterior (default); paper: the rule of
arXiv 2509.25849 with its fallback, at the observed rates; uniform: the same for all; p_nonzero: most groups with a
gradient; variance: least gradient variance; learnability: most expected p(1-p), from 0 rollouts a prompt, where a
rollout is measured against a belief and needs no group"""


class Line(msgspec.Struct, frozen=True):
    """One prompt of the file; other keys are passed over."""

    prompt_id: str | int
    successes: float
    trials: float
    task: str | int | float | None = None
    level: str | int | float | None = None
    cost: float | None = None


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns 0."""
    run(parser().parse_args(argv))
    return 0


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message}; see `{self.prog} --help`")


def parser() -> argparse.ArgumentParser:
    """The command line."""
    arguments = _Parser(
        prog="rucksack allocate", description=DESCRIPTION, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    arguments.add_argument("prompts", type=Path, metavar="PROMPTS.jsonl", help="file to read; - for standard input")
    arguments.add_argument(
        "--budget",
        type=_number,
        required=True,
        metavar="B",
        help="rollouts to spend, all of them; where the lines hold a cost, the most that the rollouts may cost together",
    )
    arguments.add_argument("--mode", choices=tuple(MODES), default="bayes", help=MODE_HELP)
    arguments.add_argument(
        "--min", type=_whole, help="fewest rollouts of a prompt, at least 2 (default: 2; with learnability 0)"
    )
    arguments.add_argument("--max", type=_whole, default=128, help="most rollouts of a prompt (default: 128)")
    arguments.add_argument(
        "--prior", type=_prior, metavar="A,B", help="fixed Beta prior of every success rate (default: learned)"
    )
    arguments.add_argument(
        "--out", type=_file(OUT_SUFFIXES), metavar="FILE", help="write here, .jsonl or .parquet, instead of printing"
    )
    arguments.add_argument(
        "--plot", type=_file(PLOT_SUFFIXES), metavar="FILE", help="draw the allocation on a page, .html"
    )
    return arguments


def run(options: argparse.Namespace) -> None:
    """Read, decide, write, draw."""
    lines = read(options.prompts)
    costs = None if lines[0].cost is None else [line.cost for line in lines]
    try:
        allocation = allocate(
            [line.successes for line in lines],
            [line.trials for line in lines],
            options.budget,
            mode=options.mode,
            min_rollouts=options.min,
            max_rollouts=options.max,
            cost=costs,  # type: ignore[arg-type]
            task=[line.task for line in lines],
            level=[line.level for line in lines],
            prior=options.prior,
        )
    except ValueError as error:
        raise UserError(str(error)) from None
    _write(options.out, lines, allocation)
    if options.plot is not None:
        from allocator.picture import draw

        trials = np.array([line.trials for line in lines])
        title = f"{options.mode}: {_amount(options.budget, costs is not None)} on {len(lines):,} prompts"
        with _writing(options.plot):
            draw(options.plot, allocation, trials, title)
    print(_summary(options, allocation, costs is not None), file=sys.stderr)


# -- in ---------------------------------------------------------------------------------------------------------------


def read(file: Path) -> list[Line]:
    """The prompts of a file.

    Raises:
        UserError: no such file, or the first line that cannot be used, with what is wrong with it.

    """
    lines: list[Line] = []
    first: dict[str | int, int] = {}
    for number, row in read_objects(file, KEYS):
        where = f"{source_name(file)}:{number}"
        try:
            line = msgspec.convert(row, Line)
        except msgspec.ValidationError as error:
            raise UserError(f"{where} {_mistake(row, error)}") from None
        _check(line, lines, first, where)
        first[line.prompt_id] = number
        lines.append(line)
    if not lines:
        raise UserError(f"{source_name(file)} has no prompts; want a JSON line for each, with {KEYS}")
    return lines


def _check(line: Line, before: list[Line], first: dict[str | int, int], where: str) -> None:
    """Refuse a line that is well formed and yet cannot be."""
    if has_lone_surrogate(str(line.prompt_id)):
        raise UserError(f"{where} has half a character (surrogate) in its prompt_id")
    if line.prompt_id in first:
        raise UserError(
            f"{where} has prompt_id {line.prompt_id!r}, as line {first[line.prompt_id]} has; every prompt needs its own"
        )
    for key, value in (("successes", line.successes), ("trials", line.trials)):
        if not 0 <= value < math.inf:
            raise UserError(f"{where} has {key} {value:g}; want a finite number >= 0")
    if line.successes > line.trials:
        raise UserError(f"{where} has {line.successes:g} successes in {line.trials:g} trials; want successes <= trials")
    if line.cost is not None and not 0 < line.cost < math.inf:
        raise UserError(f"{where} has cost {line.cost:g}; want a finite number > 0")
    if before and (line.cost is None) != (before[0].cost is None):
        raise UserError(
            f"{where} has {'no' if line.cost is None else 'a'} cost, unlike the lines before; give all or none"
        )


def _mistake(row: dict[str, Any], error: Exception) -> str:
    """What is wrong with an object that does not describe a prompt, in words."""
    for key in ("prompt_id", "successes", "trials"):
        if key not in row:
            return f"has no {key}; want {KEYS}"
    for key in ("successes", "trials", "cost"):
        if key in row and (isinstance(row[key], bool) or not isinstance(row[key], int | float)):
            return f"has {key} {json.dumps(row[key])}; want a number"
    return f"cannot be read ({error})"


# -- out --------------------------------------------------------------------------------------------------------------


def _write(out: Path | None, lines: list[Line], allocation: Allocation) -> None:
    ids = [line.prompt_id for line in lines]
    columns = {"num_rollouts": allocation.num_rollouts.tolist(), "value": allocation.value.tolist()}
    if out is not None and out.suffix == ".parquet":
        import pyarrow as pa
        import pyarrow.parquet as pq

        if not all(isinstance(prompt_id, int) for prompt_id in ids):  # a column has one type
            ids = [str(prompt_id) for prompt_id in ids]
        with _writing(out):
            pq.write_table(pa.table({"prompt_id": ids, **columns}), out)
        return
    encode = msgspec.json.Encoder().encode_lines
    rows = ({"prompt_id": i, "num_rollouts": n, "value": v} for i, n, v in zip(ids, *columns.values(), strict=True))
    if out is None:
        sys.stdout.buffer.write(encode(rows))
        sys.stdout.buffer.flush()
        return
    with _writing(out):
        out.write_bytes(encode(rows))


@contextmanager
def _writing(file: Path) -> Iterator[None]:
    """Names the file where it cannot be written."""
    try:
        yield
    except OSError as error:
        raise UserError(f"{file} cannot be written ({error.strerror}); give another file") from None


def _summary(options: argparse.Namespace, allocation: Allocation, costly: bool) -> str:
    rollouts = allocation.num_rollouts
    parts = [
        f"mode={options.mode} prompts={rollouts.size} rollouts={rollouts.sum()} least={rollouts.min()}",
        f"most={rollouts.max()} value={allocation.value.sum():.6g} price={allocation.price:.6g}",
    ]
    if costly:
        certified = (
            f", value within {allocation.gap:.2g} of the best" if options.mode in {*VALUES, "learnability"} else ""
        )
        parts.append(f"cost={allocation.spent:.10g} of {options.budget:.10g}{certified}")
    return " ".join(parts)


def _amount(budget: float, costly: bool) -> str:
    return f"a cost of {budget:,g}" if costly else f"{budget:,} rollouts"


# -- arguments --------------------------------------------------------------------------------------------------------


def _number(text: str) -> float:
    """A whole number as an integer, so that no digit is lost."""
    try:
        return int(text)
    except ValueError:
        pass
    try:
        number = float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"got {text!r}; want a number") from None
    return int(number) if number.is_integer() else number


def _whole(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"got {text!r}; want a whole number") from None


def _prior(text: str) -> tuple[float, float]:
    try:
        a, b = (float(part) for part in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"got {text!r}; want two numbers, e.g. 0.5,0.5") from None
    return a, b


def _file(suffixes: Sequence[str]) -> Any:
    def check(text: str) -> Path:
        file = Path(text)
        if file.suffix not in suffixes:
            raise argparse.ArgumentTypeError(f"got {text!r}; want a file that ends in {', '.join(suffixes)}")
        if not file.absolute().parent.is_dir():
            raise argparse.ArgumentTypeError(f"got {text!r}, but the folder {file.parent} does not exist")
        return file

    return check


if __name__ == "__main__":
    sys.exit(main())
