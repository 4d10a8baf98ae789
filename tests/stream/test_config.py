from pathlib import Path

import pytest

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
        ("[allocator]\nshards = 3\nshard = 3", [], "allocator.shard is 3, of allocator.shards = 3; want 0 to 2"),
        ("[allocator]\nshards = 61", [], "allocator.shards is 61; want at most run.prompts_per_update (60)"),
        (
            '[allocator]\nshards = 2\nmode = "paper"',
            [],
            "with allocator.mode paper, pacing round and budget_tokens 0; want",
        ),
        ('[allocator]\nshards = 2\npacing = "stream"', [], "pacing stream and budget_tokens 0; want a mode that has"),
        ("[allocator]\nshards = 2\nbudget_tokens = 99999", [], "budget_tokens 99999; want a mode that has a price"),
        ("not toml", [], "is not TOML"),
        ("", ["--learner.foo", "1"], "--learner.foo"),
        ("", ["--learner.lr", "fast"], "learner.lr is 'fast'"),
    ],
)
def test_mistakes_are_named(recipe: Path, text: str, arguments: list[str], message: str) -> None:
    recipe.write_text(text)
    with pytest.raises(ConfigError) as error:
        load(recipe, arguments)
    assert message in str(error.value)


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
