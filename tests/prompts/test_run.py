"""Problems as people have them go through the stack: every layout becomes the demo's tokens, and one is trained on."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from prompts_layouts import LAYOUTS, chats

from prompts.codes import generate_prompts
from prompts.sources import read_prompts
from prompts.tokens import load_tokenizer, tokenize
from stream.config import load

DEMO_PROBLEMS = [(row["text"], row["answer"]) for row in generate_prompts(64, 0, "pool")]
RECIPE = """
[run]
name = "chats"
num_updates = 2
rollouts_per_update = 32
[prompts]
num_prompts = 48
num_heldout = 16
grader = "string"
[sampling]
max_tokens = 8
[producer]
dtype = "float32"
max_model_len = 64
kv_cache_gib = 0.125
[evaluator]
pool = false
base_samples = 0
"""


def write_recipe(folder: Path) -> Path:
    recipe = folder / "recipe.toml"
    recipe.write_text(RECIPE)
    return recipe


def chat_model(folder: Path) -> Path:
    """The demo's model with a chat template: every message's content."""
    shutil.copytree("demo/base", folder)
    tokenizer = load_tokenizer(str(folder))
    tokenizer.chat_template = "{% for message in messages %}{{ message['content'] }} {% endfor %}"
    tokenizer.save_pretrained(folder)
    return folder


@pytest.mark.parametrize("name", [name for name in LAYOUTS if name != "chats"])
def test_problems_of_every_layout_become_the_same_tokens(tmp_path: Path, name: str) -> None:
    source = LAYOUTS[name](tmp_path, DEMO_PROBLEMS)
    config = load(write_recipe(tmp_path), ["--prompts.source", source, "--prompts.chat_template", "false"])
    loaded = read_prompts(config)
    ids = tokenize([*loaded.pool, *loaded.heldout], config)
    assert len(ids) == 64
    assert {tokens.size for tokens in ids.values()} == {6}  # a code, four digits, =
    assert {prompt.grader for prompt in loaded.pool} == {"string"}


@pytest.mark.slow
def test_a_file_of_chats_trains_and_evaluates(tmp_path: Path) -> None:
    source = chats(tmp_path, DEMO_PROBLEMS, "S", DEMO_PROBLEMS[0][0])
    overrides = [
        "--prompts.source",
        source,
        "--run.model",
        str(chat_model(tmp_path / "model")),
        "--run.dir",
        str(tmp_path),
    ]
    command = [sys.executable, "-m", "infra.cli", "up", str(write_recipe(tmp_path)), *overrides]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"COLUMNS": "200"}, timeout=500)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "64 prompts: text from messages (chat messages), answer from answer, grader string" in done.stdout
    assert (tmp_path / "chats" / "model" / "model.safetensors").is_file()
    assert "held-out" in done.stdout
