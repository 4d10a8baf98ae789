import json
import re
from collections.abc import Sequence
from math import ceil
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import pytest
from annotated_types import Ge, Gt, Le, Lt
from hypothesis import given, settings
from hypothesis import strategies as st

from stream.config import Config, load
from stream.errors import ConfigError

RECIPES = sorted((Path(__file__).parents[2] / "configs").glob("*.toml"))


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    file = tmp_path / "recipe.toml"
    file.write_text('[run]\nname = "x"\n[learner]\nlr = 1e-3\n')
    return file


def test_command_line_wins_over_file_and_file_over_defaults(recipe: Path) -> None:
    config = load(recipe, ["--learner.lr", "3e-4", "--run.seed=7"])
    assert (config.run.name, config.learner.lr, config.run.seed) == ("x", 3e-4, 7)
    assert config.learner.max_grad_norm == 1.0
    assert load(recipe).learner.lr == 1e-3


@pytest.mark.parametrize(
    ("text", "arguments", "message"),
    [
        ('[run]\nnam = "x"', [], "unknown key run.nam; did you mean name?"),
        ("[lerner]\nlr = 1", [], "unknown key lerner; did you mean learner?"),
        ("[learner]\nlr = -1", [], "learner.lr is -1: input should be greater than 0"),
        ('[run]\nname = "a b"', [], "run.name is 'a b'"),
        ("[allocator]\nmin_rollouts = 1", [], "allocator.min_rollouts is 1"),
        ("[run]\nrollouts_per_prompt = 500", [], "no budget can meet the bounds"),
        ('[allocator]\nmode = "uniform"\npacing = "stream"', [], "want a mode that has a price"),
        ("not toml", [], "is not TOML"),
        ("", ["--learner.foo", "1"], "command line: unknown key --learner.foo"),
        ("", ["--learner.lrr", "1"], "unknown key --learner.lrr; did you mean --learner.lr?"),
        ("", ["--learner.lr"], "--learner.lr has no value"),
        ("", ["--run.seed", "--learner.lr=1"], "--run.seed has no value"),
        ("", ["3"], "got '3'; want --table.key VALUE"),
        ("", ["--learner.lr", "fast"], "command line: --learner.lr is 'fast': input should be a finite number"),
        ("", ["--run.seed", "true"], "command line: --run.seed is True: input should be a finite number"),
        ("", ["--broker.nodes", "true"], "command line: --broker.nodes is True"),
        ("", ["--broker.nodes", "2"], "command line: --broker.nodes is 2: input should be 1 or 3"),
        ("[learner]\nlr = inf", [], "learner.lr is inf: input should be a finite number"),
        ('[run]\nseed = "1"', [], "run.seed is '1': input should be a finite number"),
    ],
)
def test_mistakes_are_named(recipe: Path, text: str, arguments: list[str], message: str) -> None:
    recipe.write_text(text)
    with pytest.raises(ConfigError) as error:
        load(recipe, arguments)
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("text", "objective", "mode"),
    [
        ("", "belief", "learnability"),
        ("[run]\nrollouts_per_update = 64", "belief", "learnability"),
        ('[allocator]\nmode = "learnability"', "belief", "learnability"),
        ('[learner]\nobjective = "belief"\n[allocator]\nmode = "uniform"', "belief", "uniform"),
        ('[learner]\nobjective = "dapo"\nadvantage = "belief"', "dapo", "learnability"),
        ("[run]\nprompts_per_update = 8", "tis", "bayes"),
        ('[allocator]\nmode = "uniform"', "tis", "uniform"),
        ('[allocator]\nmode = "sequential"', "tis", "sequential"),
        ('[learner]\nadvantage = "std"', "tis", "bayes"),
        ('[learner]\nobjective = "grpo"', "grpo", "bayes"),
    ],
)
def test_what_is_left_out_follows_from_what_is_given(recipe: Path, text: str, objective: str, mode: str) -> None:
    recipe.write_text(text)
    config = load(recipe)
    assert (config.learner.objective, config.mode) == (objective, mode)
    assert config.by_groups == (mode not in ("learnability",) and objective != "belief")
    assert config.counts_rollouts == (not config.by_groups or mode == "sequential")


def test_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nowhere.toml does not exist; the recipes are in configs/"):
        load(tmp_path / "nowhere.toml")


@pytest.mark.parametrize("file", RECIPES, ids=lambda file: file.stem)
def test_every_recipe_loads(file: Path) -> None:
    assert load(file).run.name


def test_every_field_has_help() -> None:
    for table in Config.model_fields.values():
        for name, field in table.annotation.model_fields.items():  # type: ignore[union-attr]
            assert field.description, f"{table.annotation}.{name}"


# -- every key, by the file and by the command line -------------------------------------------------------------------

KEYS = [f"{table}.{key}" for table, field in Config.model_fields.items() for key in field.annotation.model_fields]  # type: ignore[union-attr]
TEXTS = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=12)
VALUES = st.one_of(st.booleans(), st.integers(-9, 9), st.floats(-9, 9), TEXTS)
NAMES = st.from_regex(r"[A-Za-z0-9_-]{1,64}", fullmatch=True)


def legal(annotation: Any, metadata: Sequence[Any] = ()) -> st.SearchStrategy[Any]:
    """Values that a key of this type may have, as a TOML file can write them."""
    low = max((m.ge if isinstance(m, Ge) else m.gt + 1e-6 for m in metadata if isinstance(m, Ge | Gt)), default=None)
    high = max((m.le if isinstance(m, Le) else m.lt - 1e-6 for m in metadata if isinstance(m, Le | Lt)), default=None)
    if annotation is bool:
        return st.booleans()
    if annotation is int:
        least, most = None if low is None else ceil(low), 10**9 if high is None else high
        small = st.integers(least, min(most, least + 8)) if least is not None else st.nothing()
        return small | st.integers(least, most)
    if annotation is float:
        return st.floats(low, 1e9 if high is None else high)
    if annotation is str:
        return NAMES if metadata else TEXTS
    if annotation is Path:
        return NAMES.map(lambda name: f"some where/{name}")
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return legal(arguments[0], arguments[1:])
    if origin is Literal:
        return st.sampled_from(arguments)
    if origin in (UnionType, Union):
        return st.one_of(legal(kind) for kind in arguments if kind is not NoneType)
    if origin is tuple and arguments[-1] is Ellipsis:
        return st.lists(legal(arguments[0]), max_size=3)
    if origin is tuple:
        return st.tuples(*map(legal, arguments)).map(list)
    assert origin is dict, annotation
    return st.dictionaries(NAMES, VALUES if arguments[1] is Any else legal(arguments[1]), max_size=3)


def as_toml(value: Any) -> str:
    """The value as a TOML file writes it."""
    match value:
        case bool():
            return str(value).lower()
        case str():
            return '"' + "".join(f"\\U{ord(letter):08x}" for letter in value) + '"'
        case list():
            return "[" + ", ".join(map(as_toml, value)) + "]"
        case dict():
            return "{" + ", ".join(f"{as_toml(key)} = {as_toml(item)}" for key, item in value.items()) + "}"
        case _:
            return repr(value)


def loaded(file: Path, arguments: list[str]) -> Config | str:
    try:
        return load(file, arguments)
    except ConfigError as error:
        return re.sub(r"is .*?: ", "", str(error).splitlines()[0])  # without the value: one of the two shows it as text


@pytest.mark.parametrize("key", KEYS)
def test_every_key_takes_every_legal_value_by_file_and_by_command_line(key: str, tmp_path: Path) -> None:
    table, _, name = key.partition(".")
    field = Config.model_fields[table].annotation.model_fields[name]  # type: ignore[union-attr]
    empty, file = tmp_path / "empty.toml", tmp_path / "recipe.toml"
    empty.write_text("")
    accepted = 0

    @settings(max_examples=25)
    @given(legal(field.annotation, field.metadata))
    def same_by_both(value: Any) -> None:
        nonlocal accepted
        file.write_text(f"[{table}]\n{name} = {as_toml(value)}\n")
        text = value if isinstance(value, str) else json.dumps(value)
        by_file, by_command_line = loaded(file, []), loaded(empty, [f"--{key}={text}"])
        assert str(by_file).replace(str(file), "") == str(by_command_line).replace(str(empty), "")
        if isinstance(by_file, Config):
            accepted += 1
            got = getattr(getattr(by_file, table), name)
            assert (list(got) if isinstance(got, tuple) else str(got) if isinstance(got, Path) else got) == value

    same_by_both()
    assert accepted
