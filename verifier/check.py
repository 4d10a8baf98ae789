"""`rucksack prompts check FILE`: every prompt's reference answer, before any rollout is spent on it.

A prompt is sound if it has text and answer, an id of its own, a grader that there is, a gold answer that this grader
can use, and if the gold answer, given as an answer, is correct.
"""

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from prompts.sources import load_prompts, prompt_of
from stream.config import Config, PromptsTable, load
from stream.errors import UserError
from stream.messages import Prompt
from verifier.graders import check_name
from verifier.pool import Pool

ANSWERS_ITSELF = frozenset({"choice", "integer", "math", "string"})
"""Graders whose gold answer is an answer, and must be a correct one."""


@dataclass(frozen=True, slots=True)
class Problem:
    """Something that makes a prompt useless."""

    where: str
    what: str

    @property
    def place(self) -> tuple[str, int]:
        """What to sort by: the file or set, then the number in it."""
        name = self.where.rstrip("0123456789")
        return name, int(self.where[len(name) :])


def main(argv: Sequence[str] | None = None) -> int:
    """`rucksack prompts`; returns the exit code (0 all prompts are sound, 2 some are not)."""
    parser = argparse.ArgumentParser(prog="rucksack prompts", description="Look after prompts.")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    check = commands.add_parser(
        "check",
        help="check every reference answer",
        description="Check every prompt of a file, or of a recipe's pool and held-out set, before rollouts are spent.",
    )
    check.add_argument("file", type=Path, metavar="FILE", help="JSON lines with text and answer, or a recipe (.toml)")
    defaults = PromptsTable()
    check.add_argument("--grader", default=defaults.grader, help="for lines that name none (default: %(default)s)")
    check.add_argument("--text-key", default=defaults.text_key, help="key of the text (default: %(default)s)")
    check.add_argument("--answer-key", default=defaults.answer_key, help="key of the answer (default: %(default)s)")
    options = parser.parse_args(argv)
    problems: list[Problem] = []
    prompts = dict(_prompts(options, problems))
    num_prompts = len(prompts) + len(problems)
    problems += check_prompts(prompts)
    # Lines that cannot be read were found before any gold answer was judged.
    problems.sort(key=lambda problem: problem.place)
    for problem in problems:
        print(f"{problem.where}: {problem.what}")
    print(f"{num_prompts} prompts, {len(problems)} with problems", file=sys.stderr)
    return 2 if problems else 0


def check_prompts(prompts: dict[str, Prompt], workers: int = 1, timeout_s: int = 2) -> list[Problem]:
    """What is wrong with the graders and gold answers of prompts; keys tell where a prompt stands. One at most each."""
    problems: dict[str, Problem] = {}
    sound: dict[str, Prompt] = {}
    for where, prompt in prompts.items():
        try:
            check_name(prompt.grader)
            sound[where] = prompt
        except UserError as error:
            problems[where] = Problem(where, f"prompt {prompt.prompt_id!r}: {error}")
    for where, found in _graded(sound, workers, timeout_s):
        prompt = sound[where]
        problems[where] = Problem(where, f"prompt {prompt.prompt_id!r}, grader {prompt.grader}: {found}")
    return [problems[where] for where in prompts if where in problems]


def _graded(prompts: dict[str, Prompt], workers: int, timeout_s: int) -> Iterator[tuple[str, str]]:
    """(where, what is wrong) of each gold answer that cannot be used. They are graded in workers: they may be hostile."""
    pool = Pool(workers, timeout_s)
    try:
        for where, prompt in prompts.items():
            itself = prompt.grader in ANSWERS_ITSELF
            pool.submit(where, prompt.grader, prompt.answer, prompt.answer if itself else "")
        while pool.num_pending:
            for where, grade, _elapsed_s in pool.results(1.0):
                if grade.outcome in ("error", "timeout"):
                    yield where, grade.reason.removeprefix("gold: ")
                elif grade.outcome != "correct" and prompts[where].grader in ANSWERS_ITSELF:
                    answer = prompts[where].answer
                    yield where, f"the gold answer {answer[:100]!r} is no correct answer to itself: {grade.reason}"
    finally:
        pool.close()


def _prompts(options: argparse.Namespace, problems: list[Problem]) -> Iterator[tuple[str, Prompt]]:
    """(where, prompt) of the file; what cannot be read goes to problems."""
    file: Path = options.file
    if not file.is_file():
        raise UserError(f"{file} does not exist; give a file of JSON lines, or a recipe (.toml)")
    if file.suffix == ".toml":
        for name, prompts in zip(("pool", "held-out set"), load_prompts(load(file)), strict=True):
            yield from ((f"{name}, prompt {number}", prompt) for number, prompt in enumerate(prompts, 1))
        return
    keys = PromptsTable(grader=options.grader, text_key=options.text_key, answer_key=options.answer_key)
    yield from _lines(file, Config(prompts=keys), problems)


def _lines(file: Path, config: Config, problems: list[Problem]) -> Iterator[tuple[str, Prompt]]:
    seen: dict[str, str] = {}
    with file.open("rb") as lines:
        for number, line in enumerate(lines, 1):
            where = f"{file}:{number}"
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except (ValueError, RecursionError) as error:
                problems.append(Problem(where, f"not JSON ({str(error)[:100]})"))
                continue
            try:
                if not isinstance(row, dict):
                    raise ValueError(f"a JSON {type(row).__name__}, no object")
                prompt = prompt_of(row, number, str(file), config)
            except ValueError as error:
                problems.append(Problem(where, str(error).removeprefix(f"{file}: ")))
                continue
            if prompt.prompt_id in seen:
                problems.append(
                    Problem(where, f"prompt id {prompt.prompt_id!r} stands in {seen[prompt.prompt_id]} too")
                )
                continue
            seen[prompt.prompt_id] = where
            yield where, prompt


if __name__ == "__main__":
    sys.exit(main())
