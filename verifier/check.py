"""Runs `rucksack prompts check FILE`: checks every prompt's reference answer before any rollout is spent on it.

A prompt is sound if it has text and answer, an id of its own, a grader that there is, a gold answer that this grader
can use, and if the gold answer, given as an answer, is correct. What was taken from which key goes to standard error.
"""

import argparse
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from prompts.layouts import LeftOut
from prompts.sources import content_of, described, outcomes_of, read_prompts
from stream.config import Config, PromptsTable, load
from stream.errors import UserError
from stream.messages import Prompt
from verifier.golds import ambiguity_of, damage_in
from verifier.graders import check_name
from verifier.pool import Pool

PLACES_SHOWN = 5
"""Places that are named of a problem that many prompts have."""
REMEDY = "mend it, or give the row another grader"
"""What to do about a gold answer that cannot be used."""
OPTIONS = {f"prompts.{key}_key": f"--{key}-key (prompts.{key}_key of a recipe)" for key in ("text", "answer")}
READS_LATEX = frozenset({"math", "math_strict"})
"""Graders whose gold answer is LaTeX."""
ANSWERS_ITSELF = {name: name for name in ("choice", "integer", "math", "string")} | {"math_strict": "math"}
"""Graders whose gold answer is an answer, and must be a correct one; by which grader, as math_strict wants a mark."""


@dataclass(frozen=True, slots=True)
class Problem:
    """Something that makes a prompt useless, or, as a warning, may."""

    source: str
    """The file, or the set of a recipe."""
    number: int
    """Of the line in the file, or of the prompt in the set."""
    prompt: str
    """What names the prompt, e.g. `prompt 'q7'`; empty for a line that is none."""
    text: str
    kind: str = ""
    """What it shares with other problems whose texts differ."""
    is_warning: bool = False


def main(argv: Sequence[str] | None = None) -> int:
    """`rucksack prompts`; returns the exit code (0 all prompts are sound, 2 some are not)."""
    options = _parser().parse_args(argv)
    problems: list[Problem] = []
    prompts = list(_prompts(options, problems))
    num_prompts = len(prompts) + len(problems)
    if not num_prompts:
        raise UserError(
            f"{options.source} has no prompt; expected one in each line, e.g. "
            '{"prompt": "What is 12 + 30?", "answer": "42"}'
        )
    problems += check_prompts(prompts)
    problems.sort(key=lambda problem: (problem.source, problem.number))  # unreadable lines were found before the others
    for line in folded(problems):
        print(line)
    num_warnings = sum(problem.is_warning for problem in problems)
    warnings = f", {num_warnings} to look at" if num_warnings else ""
    print(f"{num_prompts} prompts, {len(problems) - num_warnings} with problems{warnings}", file=sys.stderr)
    return 2 if len(problems) > num_warnings else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="rucksack prompts", description="Look after prompts.")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    check = commands.add_parser(
        "check",
        help="check every reference answer",
        description="Check every prompt of a file, or of a recipe's pool and held-out set, before rollouts are spent.",
    )
    check.add_argument(
        "source",
        metavar="SOURCE",
        help="a .jsonl, .json or .parquet file, a folder of them, hf:DATASET, codes, gym:TASK, or a recipe (.toml)",
    )
    check.add_argument(
        "--config", type=Path, metavar="RECIPE", help="recipe whose [prompts] table names grader and keys"
    )
    check.add_argument("--grader", help="for lines that name none (default: the recipe's, else math)")
    check.add_argument("--text-key", help="key of the text (default: the recipe's, else it is found)")
    check.add_argument("--answer-key", help="key of the answer (default: the recipe's, else it is found)")
    return parser


def folded(problems: Sequence[Problem]) -> list[str]:
    """One line for each kind of problem: of many prompts with the same one the first, their count and first places."""
    kinds: dict[tuple[str, str], list[Problem]] = {}
    for problem in problems:
        kinds.setdefault((problem.source, problem.kind or problem.text), []).append(problem)
    return [_line(same) for same in kinds.values()]


def _line(same: Sequence[Problem]) -> str:
    first = same[0]
    subject = f"{first.prompt}: " if first.prompt else ""
    line = f"{first.source}:{first.number}: {'warning: ' if first.is_warning else ''}{subject}{first.text}"
    if len(same) == 1:
        return line
    numbers = ", ".join(str(problem.number) for problem in same[1 : PLACES_SHOWN + 1])
    return f"{line} (and {len(same) - 1} more: {numbers}{', ...' if len(same) > PLACES_SHOWN + 1 else ''})"


def check_prompts(prompts: Sequence[tuple[str, int, Prompt]], workers: int = 1, timeout_s: int = 2) -> list[Problem]:
    """What is wrong with the graders and gold answers of (source, number, prompt); one problem of a prompt at most."""
    problems: list[Problem] = []
    sound: dict[str, tuple[str, int, Prompt]] = {}
    for position, (source, number, prompt) in enumerate(prompts):
        name = f"prompt {prompt.prompt_id!r}"
        try:
            check_name(prompt.grader)
        except UserError as error:
            problems.append(Problem(source, number, name, str(error)))
            continue
        if prompt.grader in READS_LATEX and (damage := damage_in(prompt.answer)) is not None:
            problems.append(Problem(source, number, name, damage, kind="control character"))
            continue
        sound[str(position)] = (source, number, prompt)
    bad = dict(_graded({key: prompt for key, (_, _, prompt) in sound.items()}, workers, timeout_s))
    for key, (source, number, prompt) in sound.items():
        name = f"prompt {prompt.prompt_id!r}"
        if key in bad:
            problems.append(Problem(source, number, f"{name}, grader {prompt.grader}", bad[key]))
        elif prompt.grader in READS_LATEX and (ambiguity := ambiguity_of(prompt.answer)) is not None:
            problems.append(Problem(source, number, name, ambiguity, kind="two readings", is_warning=True))
    return problems


def _graded(prompts: dict[str, Prompt], workers: int, timeout_s: int) -> Iterator[tuple[str, str]]:
    """(key, what is wrong) of each gold answer that cannot be used. They are graded in workers: they may be hostile."""
    pool = Pool(workers, timeout_s)
    try:
        for key, prompt in prompts.items():
            grader = ANSWERS_ITSELF.get(prompt.grader)
            pool.submit(key, grader or prompt.grader, prompt.answer, prompt.answer if grader else "")
        while pool.num_pending:
            for key, grade, _elapsed_s in pool.results(1.0):
                if grade.outcome in ("error", "timeout"):
                    yield key, f"{grade.reason.removeprefix('gold: ')}; {REMEDY}"
                elif grade.outcome != "correct" and prompts[key].grader in ANSWERS_ITSELF:
                    answer = prompts[key].answer
                    yield (
                        key,
                        f"the gold answer {answer[:100]!r} is no correct answer to itself: {grade.reason}; {REMEDY}",
                    )
    finally:
        pool.close()


def _prompts(options: argparse.Namespace, problems: list[Problem]) -> Iterator[tuple[str, int, Prompt]]:
    """(source, number, prompt) of the source; what is wrong with its rows goes to problems."""
    source: str = options.source
    if source.endswith(".toml") or source == "codes" or source.startswith("gym:"):
        loaded = read_prompts(load(source) if source.endswith(".toml") else Config(prompts=PromptsTable(source=source)))
        for line in loaded.lines:
            print(line, file=sys.stderr)
        for name, prompts in (("pool", loaded.pool), ("held-out set", loaded.heldout)):
            yield from ((f"{name}, prompt", number, prompt) for number, prompt in enumerate(prompts, 1))
        return
    table = load(options.config).prompts if options.config else PromptsTable()
    given = {"grader": options.grader, "text_key": options.text_key, "answer_key": options.answer_key}
    keys = table.model_copy(update={name: value for name, value in given.items() if value is not None})
    yield from _rows(source, Config(prompts=keys), problems)


def _rows(source: str, config: Config, problems: list[Problem]) -> Iterator[tuple[str, int, Prompt]]:
    try:
        layout, outcomes = outcomes_of(source, config)
    except UserError as error:
        raise UserError(_with_options(str(error))) from None
    ids: dict[str, str] = {}
    prompts: dict[object, Prompt] = {}
    for row, outcome in outcomes:
        if isinstance(outcome, UserError):
            text = _with_options(str(outcome).removeprefix(row.where).removeprefix(":").strip())
            problems.append(Problem(row.source, row.number, "", text, _kind(text), isinstance(outcome, LeftOut)))
            continue
        if (taken := prompts.setdefault(content_of(outcome), outcome)) is not outcome:
            text = "comes again; it is taken once"
            if taken.answer != outcome.answer:
                text = f"comes again with the answer {outcome.answer!r}; the first one, {taken.answer!r}, counts"
            problems.append(Problem(row.source, row.number, "", text, _kind(text), is_warning=True))
            continue
        first = ids.setdefault(outcome.prompt_id, row.where)
        if first != row.where:
            text = f"its id is that of {first}; every prompt needs its own"
            problems.append(Problem(row.source, row.number, f"prompt {outcome.prompt_id!r}", text, kind="id twice"))
            continue
        yield row.source, row.number, outcome
    if layout is not None and prompts:
        print(f"{source}: {described(list(prompts.values()), layout)}", file=sys.stderr)


def _with_options(text: str) -> str:
    """The message with this command's options in place of a recipe's keys."""
    return re.sub("|".join(map(re.escape, OPTIONS)), lambda key: OPTIONS[key[0]], text)


def _kind(text: str) -> str:
    """What a message shares with those of other rows: itself, without the values and where in its line JSON ends."""
    text = re.sub(r"(?<=^is not JSON) \(.*\)", "", text.partition("; it has ")[0])
    return re.sub(r"'[^']*'|\"[^\"]*\"", "'...'", text)
