"""Reads rows from files, folders and Hugging Face datasets. The name of a source enters, rows leave, one by one.

A row is a mapping of keys to values and knows where it comes from. A line that is no object is a row with a problem, so
that whoever reads may go on. Nothing is read before it is asked for.
"""

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

from stream.errors import UserError
from stream.json_lines import numbered_lines, open_lines, parse_object

SUFFIXES = (".parquet", ".jsonl", ".json")
"""Files that are read. In a folder the first kind counts of which there is one: .json may be what describes the rest."""
SPLITS = frozenset({"train", "test", "validation", "valid", "val", "dev", "eval", "heldout"})
SAVED = ("dataset_dict.json", "state.json")
"""What marks a folder that `save_to_disk` has written."""
KINDS = "codes, gym:TASK, hf:DATASET, a folder, or a path ending in .jsonl, .json or .parquet"


@dataclass(frozen=True, slots=True)
class Row:
    """One row of a source."""

    source: str
    """File or dataset."""
    number: int
    """Line of a .jsonl file, else the row, from 1."""
    values: Mapping[str, Any]
    problem: str = ""
    """What is wrong with a line that is no object."""

    @property
    def where(self) -> str:
        """For messages: `file:number`."""
        return f"{self.source}:{self.number}"


def rows_of(source: str, split: str) -> Iterator[Row]:
    """The rows of a source such as `a.jsonl`, `folder`, `folder@test`, `hf:NAME`, `hf:NAME:CONFIG@test`.

    Args:
        split: for a source that names none.

    Raises:
        UserError: there is no such file, folder, dataset or split, or it cannot be read.

    """
    name, split = _split_of(source, split)
    if name.startswith("hf:"):
        dataset, _, subset = name.removeprefix("hf:").partition(":")
        if not dataset:
            raise UserError(f"prompts.source is {source!r}, which names no dataset; want hf:NAME or hf:NAME:CONFIG")
        return _folder_rows(Path(dataset), split) if Path(dataset).is_dir() else _hub_rows(dataset, subset, split)
    path = Path(name)
    if path.suffix in SUFFIXES and not path.is_dir():
        return _file_rows(path)
    if path.is_dir():
        return _folder_rows(path, split)
    raise UserError(f"prompts.source is {source!r}, which is no file or folder that can be read; want {KINDS}")


def _split_of(source: str, split: str) -> tuple[str, str]:
    name, at, given = source.rpartition("@")
    if at and given and "/" not in given and not Path(source).exists():
        return name, given
    return source, split


# -- files ------------------------------------------------------------------------------------------------------------


def _file_rows(file: Path) -> Iterator[Row]:
    if not file.is_file():
        raise UserError(f"prompts file {file} does not exist; give prompts.source an existing file")
    readers: dict[str, Callable[[Path], Iterator[Row]]] = {".jsonl": _lines, ".json": _json_rows}
    return readers.get(file.suffix, _parquet_rows)(file)


def _lines(file: Path) -> Iterator[Row]:
    with open_lines(file, "one JSON object per line") as lines:
        for number, line in numbered_lines(lines):
            try:
                yield Row(str(file), number, parse_object(line))
            except ValueError as error:
                yield Row(str(file), number, {}, f"is {error}; want one JSON object per line, in UTF-8")


def _json_rows(file: Path) -> Iterator[Row]:
    """Rows of one array, one object, or, as many .json files are, of JSON lines."""
    try:
        content = json.loads(file.read_bytes())
    except (OSError, ValueError, RecursionError):
        yield from _lines(file)
        return
    for number, value in enumerate(content if isinstance(content, list) else [content], 1):
        yield _row(str(file), number, value)


def _row(source: str, number: int, value: Any) -> Row:
    """A row whose value is an object, or a list, whose places are then its keys (Open-Reasoner-Zero)."""
    if isinstance(value, list):
        value = {str(place): item for place, item in enumerate(value)}
    if not isinstance(value, dict):
        return Row(source, number, {}, f"is {str(value)[:40]!r}; want a JSON object")
    return Row(source, number, value)


def _parquet_rows(file: Path) -> Iterator[Row]:
    from pyarrow import ArrowException
    from pyarrow.parquet import ParquetFile

    try:
        with ParquetFile(file) as table:
            batches = table.iter_batches(batch_size=1000)
            rows = chain.from_iterable(batch.to_pylist() for batch in batches)
            yield from (Row(str(file), number, values) for number, values in enumerate(rows, 1))
    except (ArrowException, OSError) as error:
        raise UserError(f"{file} cannot be read as Parquet: {str(error).splitlines()[0][:200]}") from None


# -- folders and datasets ---------------------------------------------------------------------------------------------


def _folder_rows(folder: Path, split: str) -> Iterator[Row]:
    if any((folder / name).is_file() for name in SAVED):
        return _saved_rows(folder, split)
    files = sorted(file for file in folder.rglob("*") if file.is_file() and not _is_hidden(file, folder))
    for suffix in SUFFIXES:
        same = [file for file in files if file.suffix == suffix]
        if same:
            chosen = _of_split(same, folder, split)
            return (row for file in chosen for row in _file_rows(file))
    raise UserError(
        f"the folder {folder} has no file that ends in {', '.join(SUFFIXES)}; give prompts.source one that has"
    )


def _is_hidden(file: Path, folder: Path) -> bool:
    return any(part.startswith(".") for part in file.relative_to(folder).parts)


def _of_split(files: list[Path], folder: Path, split: str) -> list[Path]:
    """The files of a split, where files or their folders are named by split; else all."""
    splits = {file: _words(file.relative_to(folder)) & (SPLITS | {split}) for file in files}
    found = sorted({name for names in splits.values() for name in names})
    if not found:
        return files
    chosen = [file for file, names in splits.items() if split in names]
    if not chosen:
        raise UserError(
            f"the folder {folder} has no split {split!r}; it has {', '.join(found)}: "
            f"set prompts.split, or write {folder}@{found[0]}"
        )
    return chosen


def _words(file: Path) -> set[str]:
    """What may be the split: the folders' names, and how the file's begins, as in `train-00000-of-00001.parquet`."""
    return {*file.parts[:-1], re.split(r"[-_.]", file.stem)[0]}


def _saved_rows(folder: Path, split: str) -> Iterator[Row]:
    load_from_disk = _datasets().load_from_disk
    try:
        loaded = load_from_disk(str(folder))
        dataset = loaded[split] if isinstance(loaded, dict) else loaded
    except (OSError, ValueError, KeyError) as error:
        raise _unloadable(str(folder), split, error) from None
    return _numbered(f"{folder}@{split}" if isinstance(loaded, dict) else str(folder), dataset)


def _hub_rows(name: str, subset: str, split: str) -> Iterator[Row]:
    load_dataset = _datasets().load_dataset
    try:
        dataset = load_dataset(name, subset or None, split=split)
    except (OSError, ValueError, KeyError, ConnectionError) as error:
        raise _unloadable(f"hf:{name}{':' * bool(subset)}{subset}", split, error) from None
    return _numbered(f"hf:{name}@{split}", dataset)


def _numbered(source: str, dataset: Iterable[Mapping[str, Any]]) -> Iterator[Row]:
    return (Row(source, number, values) for number, values in enumerate(dataset, 1))


def _datasets() -> Any:
    try:
        import datasets
    except ImportError:
        raise UserError("this prompts.source needs the `datasets` package: install the cpu or gpu extra") from None
    return datasets


def _unloadable(name: str, split: str, error: Exception) -> UserError:
    first = str(error).strip().splitlines()[0][:300] if str(error).strip() else type(error).__name__
    return UserError(
        f"dataset {name!r} (split {split!r}) cannot be loaded: {first}; a dataset is hf:NAME[:CONFIG][@SPLIT]"
    )
