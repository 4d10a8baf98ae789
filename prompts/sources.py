"""Loads prompts from files, Hugging Face datasets or a generator. Config in, prompts out, with lines that say what was taken.

The allocator trains on the pool, the evaluator asks the held-out set; both load them here and see the same.
"""

import logging
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice

from msgspec.structs import replace

from prompts.layouts import Layout, LeftOut, find_layout, prompt_of
from prompts.rows import Row, rows_of
from stream.config import Config
from stream.errors import UserError
from stream.messages import Prompt

log = logging.getLogger(__name__)

SAMPLE_ROWS = 100
"""Rows by which a source's layout is recognized."""


@dataclass(frozen=True, slots=True)
class Loaded:
    """The prompts of a run."""

    pool: list[Prompt]
    heldout: list[Prompt]
    lines: list[str]
    """What was taken from where and what was left out, for people."""


def load_prompts(config: Config) -> tuple[list[Prompt], list[Prompt]]:
    """The pool and the held-out set, as `read_prompts` has them; what was taken goes to the log."""
    loaded = read_prompts(config)
    for line in loaded.lines:
        log.info("%s", line)
    return loaded.pool, loaded.heldout


def read_prompts(config: Config) -> Loaded:
    """The pool and the held-out set: no id and no text is in both, nor twice in one of them.

    Raises:
        UserError: a missing file or dataset, a prompt without text or answer, an id that is used twice, too few prompts.

    """
    table, lines = config.prompts, list[str]()
    if table.heldout_source or is_generated(table.source):
        pool = _read(config, table.source, "pool", table.num_prompts, lines)
        heldout = _read(config, table.heldout_source or table.source, "heldout", table.num_heldout, lines)
    else:
        together = _read(config, table.source, "pool", table.num_prompts + table.num_heldout, lines)
        cut = len(together) - min(table.num_heldout, len(together) // 5)
        pool, heldout = together[:cut], together[cut:]
        lines.append(f"held out: the last {len(heldout):,} of {len(together):,}")
    pool, heldout = _apart(pool, heldout, lines)
    _check_size(config, pool)
    return Loaded(pool, heldout, lines)


def load_set(config: Config, source: str) -> list[Prompt]:
    """Another set of prompts to evaluate on, as large as the held-out set at most."""
    lines = list[str]()
    prompts = _read(config, source, "heldout", config.prompts.num_heldout, lines)
    for line in lines:
        log.info("%s", line)
    return prompts


def is_generated(source: str) -> bool:
    """Whether a source makes its prompts, and splits of its own."""
    return source == "codes" or source.startswith("gym:")


def outcomes_of(source: str, config: Config) -> tuple[Layout | None, Iterator[tuple[Row, Prompt | UserError]]]:
    """The layout of a source (None if there is no good row), and of each row its prompt, or what is wrong with it.

    Raises:
        UserError: the source cannot be read, or its layout is not known.

    """
    rows = rows_of(source, config.prompts.split)
    sample = list(islice(rows, SAMPLE_ROWS))
    layout = find_layout(sample, config.prompts) if any(not row.problem for row in sample) else None
    return layout, _outcomes(chain(sample, rows), layout or Layout(("prompt",), ("answer",)), config)


def _outcomes(rows: Iterable[Row], layout: Layout, config: Config) -> Iterator[tuple[Row, Prompt | UserError]]:
    for row in rows:
        try:
            yield row, prompt_of(row, layout, config.prompts)
        except UserError as error:
            yield row, error


# -- one source -------------------------------------------------------------------------------------------------------


def _read(config: Config, source: str, split: str, num_prompts: int, lines: list[str]) -> list[Prompt]:
    """The first prompts of a source; adds the lines that say what was taken."""
    if num_prompts == 0:
        return []
    if is_generated(source):
        return list(_generated(config, source, split, num_prompts))
    layout, outcomes = outcomes_of(source, config)
    taken = Taken()
    for row, outcome in outcomes:
        taken.add(row, outcome)
        if len(taken.prompts) == num_prompts:
            break
    prompts = list(taken.prompts.values())
    if layout is not None:
        lines.append(f"{source}: {described(prompts, layout)}")
    lines += [f"{source}: {line}" for line in taken.lines()]
    return prompts


def described(prompts: Sequence[Prompt], layout: Layout) -> str:
    """What was taken from a source, in one line."""
    chats = sum(bool(prompt.messages) for prompt in prompts)
    graders = ", ".join(sorted({prompt.grader for prompt in prompts})) or "none"
    kind = " (chat messages)" if chats == len(prompts) and chats else f" ({chats:,} of them chats)" if chats else ""
    how = {"": "", "####": ", behind its ####", "\\boxed{}": ", in its last \\boxed{}"}[layout.mark]
    text, answer = " or ".join(layout.text_keys), " or ".join(layout.answer_keys)
    return f"{len(prompts):,} prompts: text from {text}{kind}, answer from {answer}{how}, grader {graders}"


class Taken:
    """What was taken of a source so far. A prompt that comes again is taken once (DAPO-Math-17k: 100 times each)."""

    def __init__(self) -> None:
        self.prompts: dict[object, Prompt] = {}
        self._ids: dict[str, str] = {}
        self._again = 0
        self._conflicts: list[str] = []
        self._left_out: list[str] = []

    def add(self, row: Row, outcome: Prompt | UserError) -> None:
        """Take a row's prompt.

        Raises:
            UserError: the row is bad, or its id is used already.

        """
        if isinstance(outcome, LeftOut):
            self._left_out.append(str(outcome))
            return
        if isinstance(outcome, UserError):
            raise outcome
        before = self.prompts.setdefault(content_of(outcome), outcome)
        if before is not outcome:
            self._again += 1
            if before.answer != outcome.answer:
                self._conflicts.append(f"{row.where} has {outcome.answer[:40]!r} for {before.answer[:40]!r}")
            return
        first = self._ids.setdefault(outcome.prompt_id, row.where)
        if first != row.where:
            raise UserError(
                f"{row.where} has the id {outcome.prompt_id!r} of {first}; every prompt needs an id of its own: correct it, or "
                "leave ids out, and they follow from the content"
            )

    def lines(self) -> Iterator[str]:
        """What was not taken, for people."""
        if self._again:
            yield f"{self._again:,} rows that came again are taken once"
        if self._conflicts:
            yield f"warning: {len(self._conflicts):,} of them with another answer; the first counts ({self._conflicts[0]})"
        if self._left_out:
            yield f"{len(self._left_out):,} rows are left out: {self._left_out[0]}" + (
                f" (and {len(self._left_out) - 1:,} more)" if len(self._left_out) > 1 else ""
            )


def content_of(prompt: Prompt) -> object:
    """What makes a prompt itself."""
    return prompt.messages or prompt.text


def _generated(config: Config, source: str, split: str, num_prompts: int) -> Iterator[Prompt]:
    table = config.prompts
    if source == "codes":
        from prompts.codes import generate_prompts

        if table.options:
            raise UserError(f"prompts.options is {table.options!r}; the source codes takes none")
        rows = generate_prompts(num_prompts, config.run.seed, split)
    else:
        from prompts.gym import generate_gym_prompts

        tasks = source.removeprefix("gym:").split(",")
        rows = generate_gym_prompts(tasks, num_prompts, config.run.seed, split, table.options)
    return (Prompt(grader=row.pop("grader", table.grader), **row) for row in map(dict, rows))  # type: ignore[arg-type]


# -- pool and held-out set --------------------------------------------------------------------------------------------


def _apart(pool: list[Prompt], heldout: list[Prompt], lines: list[str]) -> tuple[list[Prompt], list[Prompt]]:
    """Without the pool's prompts that are held out, spaces and case aside; held-out ids differ from the pool's."""
    held_out = {_plain(prompt) for prompt in heldout}
    kept = [prompt for prompt in pool if _plain(prompt) not in held_out]
    if len(kept) < len(pool):
        first = next(prompt for prompt in pool if _plain(prompt) in held_out)
        lines.append(
            f"warning: {len(pool) - len(kept):,} of the {len(pool):,} prompts to train on are held out as well, such as "
            f"{first.text[:40]!r}; they are left out of training"
        )
    ids = {prompt.prompt_id for prompt in kept}
    apart = [
        replace(prompt, prompt_id=f"heldout-{prompt.prompt_id}") if prompt.prompt_id in ids else prompt
        for prompt in heldout
    ]
    return kept, apart


def _plain(prompt: Prompt) -> str:
    """A prompt's text as a person compares it; of a chat all turns but the system's."""
    texts = [turn.content for turn in prompt.messages if turn.role != "system"] or [prompt.text]
    return " ".join(" ".join(texts).split()).casefold()


def _check_size(config: Config, pool: list[Prompt]) -> None:
    keys, per_update = config.least_prompts
    wanted = per_update * (config.run.rounds_ahead + 1)
    if len(pool) < wanted:
        raise UserError(
            f"the pool has {len(pool)} prompts; want at least {wanted} = {keys} x (1 + half of run.max_staleness), "
            "as a prompt has one open group at a time: add prompts, or lower either"
        )
