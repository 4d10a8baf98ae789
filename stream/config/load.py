"""Reads a recipe: the command line wins over the file, the file over the defaults; unknown keys are refused in both."""

import json
import tomllib
from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import ValidationError

from stream.config.recipe import Config
from stream.config.secrets import is_reference, is_secret
from stream.errors import ConfigError


def load(path: str | Path, arguments: Sequence[str] = ()) -> Config:
    """The recipe in `path`, with values from the command line such as ["--learner.lr", "3e-4"].

    A value that is no text is written as in JSON: `--allocator.prior "[1, 3]"`, `--prompts.options '{"max_digits": 2}'`.

    Raises:
        ConfigError: no such file, not TOML, an unknown key, or a value of the wrong kind; one line per mistake.

    """
    file = Path(path)
    tables = _read_toml(file)
    overrides = _command_line(arguments)
    for table, key, value in overrides:
        given = tables.setdefault(table, {})
        if isinstance(given, dict):
            given[key] = value
    try:
        return Config.model_validate(tables)
    except ValidationError as error:
        given_keys = {(table, key) for table, key, _ in overrides}
        raise ConfigError("\n".join(_describe(file, mistake, given_keys) for mistake in error.errors())) from None


def _read_toml(file: Path) -> dict[str, Any]:
    if not file.is_file():
        found = "is not a file" if file.exists() else "does not exist"
        raise ConfigError(f"configuration file {file} {found}; the recipes are in configs/")
    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{file} is not TOML: {error}") from None


# -- the command line -------------------------------------------------------------------------------------------------


def _command_line(arguments: Sequence[str]) -> list[tuple[str, str, Any]]:
    """(table, key, value) of every `--table.key VALUE` or `--table.key=VALUE`."""
    values, rest = [], list(arguments)
    while rest:
        argument = rest.pop(0)
        name, equals, text = argument.removeprefix("--").partition("=")
        table, _, key = name.partition(".")
        if not argument.startswith("--"):
            raise ConfigError(f"command line: got {argument!r}; want --table.key VALUE, e.g. --learner.lr 3e-4")
        annotation = _annotation(name, table, key)
        if not equals:
            if not rest or rest[0].startswith("--"):
                raise ConfigError(
                    f"command line: --{name} has no value; a value that begins with -- needs --{name}=VALUE"
                )
            text = rest.pop(0)
        value = _value(text, annotation)
        if name == "broker.settings":
            _refuse_passwords(value)
        values.append((table, key, value))
    return values


def _refuse_passwords(settings: Any) -> None:
    """A command line can be read by every user of the machine, and is in the shell's history."""
    for key, value in settings.items() if isinstance(settings, dict) else ():
        if is_secret(key) and not is_reference(value):
            raise ConfigError(
                f"command line: --broker.settings has {key} in plain text, where every user of this machine can read it; "
                f'want {{"env": "VARIABLE"}} or {{"file": "PATH"}} as its value'
            )


def _annotation(name: str, table: str, key: str) -> Any:
    if table in Config.model_fields and key in (fields := Config.model_fields[table].annotation.model_fields):  # type: ignore[union-attr]
        return fields[key].annotation
    known = [f"{t}.{k}" for t, field in Config.model_fields.items() for k in field.annotation.model_fields]  # type: ignore[union-attr]
    close = get_close_matches(name, known, n=1)
    hint = f"did you mean --{close[0]}?" if close else "see `rucksack up --help` for the keys"
    raise ConfigError(f"command line: unknown key --{name}; {hint}")


def _value(text: str, annotation: Any) -> Any:
    """The text as the key's type wants it: itself, or what it is in JSON; a list may be written with commas alone."""
    if takes_only_text(annotation):
        return text
    try:
        return json.loads(text)
    except ValueError:
        items = text.split(",") if text else []
        return items if any(get_origin(kind) is tuple for kind in (annotation, *get_args(annotation))) else text


def takes_only_text(annotation: Any) -> bool:
    """Whether values of this type are texts (or paths), so that the command line gives them as they are."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return takes_only_text(arguments[0])
    if origin is Literal:
        return all(isinstance(choice, str) for choice in arguments)
    if origin in (UnionType, Union):
        return all(map(takes_only_text, arguments))
    return annotation in (str, Path)


# -- mistakes ---------------------------------------------------------------------------------------------------------


def _describe(file: Path, mistake: Any, given_keys: set[tuple[str, str]]) -> str:
    key = ".".join(str(part) for part in mistake["loc"])
    if mistake["type"] == "extra_forbidden":
        return f"{file}: unknown key {key}{_suggestion(mistake['loc'])}"
    if not key:
        return f"{file}: {mistake['msg'].removeprefix('Value error, ')}"
    source = f"command line: --{key}" if mistake["loc"][:2] in given_keys else f"{file}: {key}"
    reason = mistake["msg"].removeprefix("Value error, ")
    value = "not shown" if mistake["loc"][:2] == ("broker", "settings") else repr(mistake["input"])
    return f"{source} is {value}: {reason[0].lower()}{reason[1:]}"


def _suggestion(loc: tuple[str | int, ...]) -> str:
    table: Any = Config
    for part in loc[:-1]:
        table = table.model_fields[part].annotation
    close = get_close_matches(str(loc[-1]), table.model_fields, n=1)
    hint = f"did you mean {close[0]}?" if close else f"known: {', '.join(table.model_fields)}"
    return f"; {hint}"
