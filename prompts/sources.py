"""Loads prompts from a JSONL file, a Hugging Face dataset or a generator. Config in, prompts out.

The allocator trains on the pool, the evaluator asks the held-out set; both load them here and see the same.
"""

import itertools
import logging
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from stream.config import Config, PromptsTable
from stream.errors import UserError
from stream.json_lines import has_lone_surrogate, read_objects
from stream.messages import Prompt

log = logging.getLogger(__name__)

DEFAULT_TEXT_KEY = PromptsTable.model_fields["text_key"].default
"""Rows without it may have `text`; a key that the recipe names is the only one that counts."""


def load_prompts(config: Config) -> tuple[list[Prompt], list[Prompt]]:
    """The pool and the held-out set: no id and no text is in both, nor twice in one of them.

    Raises:
        UserError: a missing file or dataset, a prompt without text or answer, an id that is used twice, too few prompts.

    """
    table = config.prompts
    if table.heldout_source or _has_splits(table.source):
        pool = _read(config, table.source, "pool", table.num_prompts)
        heldout = _read(config, table.heldout_source or table.source, "heldout", table.num_heldout)
    else:
        together = _read(config, table.source, "pool", table.num_prompts + table.num_heldout)
        num_heldout = min(table.num_heldout, len(together) // 5)
        cut = len(together) - num_heldout
        pool, heldout = together[:cut], together[cut:]
    held_out = {prompt.text for prompt in heldout}
    pool = [prompt for prompt in pool if prompt.text not in held_out]
    _check(config, pool, heldout)
    return pool, heldout


def _has_splits(source: str) -> bool:
    return source == "codes" or source.startswith("gym:")


def _read(config: Config, source: str, split: str, num_prompts: int) -> list[Prompt]:
    """The first prompts of a source; a text that comes again is skipped (DAPO-Math-17k: 100 times each)."""
    prompts: dict[str, Prompt] = {}
    for number, row in enumerate(_rows(config, source, split, num_prompts), 1):
        if len(prompts) == num_prompts:
            break
        prompt = prompt_of(row, number, source, config)
        prompts.setdefault(prompt.text, prompt)
    if len(prompts) < num_prompts:
        log.info("%s has %d prompts split=%s asked=%d", source, len(prompts), split, num_prompts)
    return list(prompts.values())


def _rows(config: Config, source: str, split: str, num_prompts: int) -> Iterator[Mapping[str, Any]]:
    if source == "codes":
        from prompts.codes import generate_prompts

        if config.prompts.options:
            raise UserError(f"prompts.options is {config.prompts.options!r}; the source codes takes none")
        return generate_prompts(num_prompts, config.run.seed, split)
    if source.startswith("gym:"):
        from prompts.gym import generate_gym_prompts

        tasks = source.removeprefix("gym:").split(",")
        return generate_gym_prompts(tasks, num_prompts, config.run.seed, split, config.prompts.options)
    if source.startswith("hf:"):
        return _dataset_rows(source.removeprefix("hf:"), config.prompts.split)
    if source.endswith(".jsonl"):
        return _jsonl_rows(Path(source))
    raise UserError(f"prompts.source is {source!r}; want codes, gym:TASK, a path ending in .jsonl, or hf:DATASET")


def _jsonl_rows(file: Path) -> Iterator[Mapping[str, Any]]:
    if not file.is_file():
        raise UserError(f"prompts file {file} does not exist; give prompts.source an existing .jsonl file")
    return (row for _, row in read_objects(file, "text and answer"))


def _dataset_rows(name: str, split: str) -> Iterator[Mapping[str, Any]]:
    try:
        from datasets import load_dataset, load_from_disk
    except ImportError:
        raise UserError("prompts.source = hf:... needs the `datasets` package: install the cpu or gpu extra") from None
    try:
        if not Path(name).is_dir():
            return iter(load_dataset(name, split=split))
        loaded = load_from_disk(name)
        return iter(loaded[split] if isinstance(loaded, dict) else loaded)
    except (OSError, ValueError, KeyError, ConnectionError) as error:
        raise UserError(f"dataset {name!r} (split {split!r}) cannot be loaded: {error}") from None


def prompt_of(row: Mapping[str, Any], number: int, source: str, config: Config) -> Prompt:
    """The prompt that one row of a source describes.

    Raises:
        UserError: it has no text or no answer.

    """
    table = config.prompts
    generated = source == "codes" or source.startswith("gym:")  # whose rows have keys of their own
    text = row.get("text") if generated else _pick(row, table.text_key)
    answer = row.get("answer") if generated else _pick(row, table.answer_key)
    if text is None and table.text_key == DEFAULT_TEXT_KEY:
        text = row.get("text")
    prompt_id = str(row.get("prompt_id", row.get("id", f"{number:07d}")))
    for what, key, value in (("text", table.text_key, text), ("answer", table.answer_key, answer)):
        if value is None or str(value).strip() == "":
            raise UserError(
                f"{source}: prompt {number} (id {prompt_id}) has no {what}; want a non-empty key {key!r} "
                f"(prompts.{what}_key names it)"
            )
        if not isinstance(value, str | int | float):
            raise UserError(
                f"{source}: prompt {number} (id {prompt_id}) has {what} {str(value)[:40]!r}; want a string or a number: "
                f"prompts.{what}_key may name what lies inside, such as a.b or a.0"
            )
        if has_lone_surrogate(str(value)):
            raise UserError(
                f"{source}: prompt {number} (id {prompt_id}) has half a character (surrogate) in its {what}"
            )
    return Prompt(
        prompt_id=prompt_id,
        text=str(text),
        answer=str(answer),
        grader=str(row.get("grader", table.grader)),
        task=str(row.get("task", "")),
        level=str(row.get("level", "")),
    )


def _pick(row: Mapping[str, Any], key: str) -> Any:
    """The value at a key such as `answer`, `reward_model.ground_truth` or `prompt.0.content`; None if there is none."""
    value: Any = row
    for part in key.split("."):
        if isinstance(value, list) and part.isdecimal() and int(part) < len(value):
            value = value[int(part)]
        elif isinstance(value, Mapping):
            value = value.get(part)
        else:
            return None
    return value


def _check(config: Config, pool: list[Prompt], heldout: list[Prompt]) -> None:
    seen: set[str] = set()
    for prompt in itertools.chain(pool, heldout):
        if prompt.prompt_id in seen:
            raise UserError(f"prompt id {prompt.prompt_id!r} is used twice; every prompt needs an id of its own")
        seen.add(prompt.prompt_id)
    keys, per_update = config.least_prompts
    wanted = per_update * (config.run.max_staleness + 1)
    if len(pool) < wanted:
        raise UserError(
            f"the pool has {len(pool)} prompts; want at least {wanted} = {keys} x (run.max_staleness + 1), "
            "as a prompt has one open group at a time: add prompts, or lower either"
        )
