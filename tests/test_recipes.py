"""The recipes of configs/ that no test runs: they load, and say what they are meant to say."""

import json
import re
from pathlib import Path

import pytest
from prompts_layouts import LAYOUTS, dapo, gsm8k, math

from infra.gpu_plan import plan_gpus
from infra.gpus import imagined
from infra.model_facts import facts_of
from prompts.sources import load_prompts
from stream.config import load

CONFIGS = Path(__file__).parents[1] / "configs"


def test_the_papers_recipe_is_the_papers():
    """Li et al., arXiv 2509.25849: the settings of its code's examples/knapsack_trainer/run_knapsack_grpo_7b.sh."""
    config = load(CONFIGS / "qwen2.5-math-7b.toml")
    assert config.run.model == "models/qwen2.5-math-7b"
    assert (config.run.prompts_per_update, config.run.rollouts_per_prompt) == (32, 8)
    assert config.run.num_updates == 1000 * 8  # steps of 8 mini-batches of 32 prompts
    assert (config.sampling.temperature, config.sampling.top_p, config.sampling.max_tokens) == (1.0, 1.0, 4096)
    assert config.prompts.max_prompt_tokens == 2048
    assert (config.allocator.mode, config.allocator.min_rollouts, config.allocator.max_rollouts) == ("paper", 2, 128)
    assert (config.learner.lr, config.learner.warmup_updates, config.learner.weight_decay) == (1e-6, 0, 0.0)
    assert (config.learner.max_grad_norm, config.learner.advantage_clamp) == (1.0, 5.0)
    assert (config.evaluator.temperature, config.evaluator.samples, config.evaluator.every) == (0.6, 16, 10 * 8)
    assert config.learner.checkpoint_every == 20 * 8


@pytest.mark.parametrize(
    ("name", "layout", "heldout", "is_chat", "task"),
    [
        ("qwen2.5-1.5b-gsm8k", gsm8k, "", False, ""),
        ("qwen2.5-1.5b-math", math, "math_500", False, "Algebra"),
        ("qwen2.5-math-7b", dapo, "", True, "math_dapo"),
    ],
)  # fmt: skip
def test_a_recipe_reads_its_dataset_as_it_is_kept(tmp_path, name, layout, heldout, is_chat, task):
    problems = [(f"Solve problem {n}.", str(n)) for n in range(400)]
    (other := tmp_path / "other").mkdir()
    source = layout(tmp_path / "own", problems)
    overrides = ["--prompts.source", source, "--run.rollouts_per_update", "64", "--run.max_staleness", "1"]
    if name == "qwen2.5-math-7b":
        overrides = overrides[:2]
    elif heldout:
        overrides += ["--prompts.heldout_source", LAYOUTS[heldout](other, [("Another.", "7")])]
    else:
        overrides += ["--prompts.heldout_source", f"{source}@test"]
    pool, held_out = load_prompts(load(CONFIGS / f"{name}.toml", overrides))
    by_text = {prompt.text: prompt for prompt in (*pool, *held_out)}
    assert (len(pool), len(held_out)) == ((320, 80) if name == "qwen2.5-math-7b" else (400, 1))
    seven = by_text["Solve problem 7."]
    assert (seven.answer, seven.grader, bool(seven.messages), seven.task) == ("7", "math_strict", is_chat, task)


SHAPES = {
    "smollm2-gpu": (
        "1x16",
        {"hidden_size": 576, "num_hidden_layers": 30, "num_attention_heads": 9, "num_key_value_heads": 3,
         "intermediate_size": 1536, "vocab_size": 49152, "tie_word_embeddings": True},
    ),
    "qwen2.5-1.5b-gsm8k": (
        "1x80",
        {"hidden_size": 1536, "num_hidden_layers": 28, "num_attention_heads": 12, "num_key_value_heads": 2,
         "intermediate_size": 8960, "vocab_size": 151936, "tie_word_embeddings": True},
    ),
    "qwen2.5-1.5b-math": (
        "1x80",
        {"hidden_size": 1536, "num_hidden_layers": 28, "num_attention_heads": 12, "num_key_value_heads": 2,
         "intermediate_size": 8960, "vocab_size": 151936, "tie_word_embeddings": True},
    ),
    "qwen2.5-math-7b": (
        "8x80",
        {"hidden_size": 3584, "num_hidden_layers": 28, "num_attention_heads": 28, "num_key_value_heads": 4,
         "intermediate_size": 18944, "vocab_size": 152064, "tie_word_embeddings": False},
    ),
}  # fmt: skip
"""GPUs that a recipe for GPUs names in its comment, and the shape of its model."""


@pytest.mark.parametrize("name", SHAPES)
def test_the_memory_plan_in_a_recipes_comment_is_the_doctors(name, tmp_path):
    gpus, shape = SHAPES[name]
    (tmp_path / "config.json").write_text(json.dumps(shape | {"torch_dtype": "bfloat16"}))
    recipe = CONFIGS / f"{name}.toml"
    comment = " ".join(line.strip("# \n") for line in recipe.read_text().splitlines() if line.startswith("#"))
    assert f"rucksack doctor configs/{name}.toml --gpus {gpus}" in comment
    needed, engine = re.findall(r"(?:needs about|at least) ([\d.]+ GiB)", comment)
    plan = plan_gpus(load(recipe), imagined(gpus), facts_of(tmp_path)).lines
    assert [line for line in plan if f"needs about {needed} = " in line]
    assert [line for line in plan if f"an engine needs at least {engine} = " in line]


def test_every_recipe_loads():
    recipes = sorted(CONFIGS.glob("*.toml"))
    assert len(recipes) >= 5
    for recipe in recipes:
        assert load(recipe).run.num_updates
