from pathlib import Path

import numpy as np
import pytest

from benchmarks.scale import Case, Mark, found_between, specs, write_recipe
from benchmarks.stand_in import Lengths, Script
from prompts.sources import read_prompts
from prompts.tokens import load_tokenizer, tokenize
from stream.config import Config, load
from verifier.graders import math

CASE = Case(producers=2, brokers=1, verifiers=2, answer_tokens=50, tokens_per_s=100.0)


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_recipe(CASE, tmp_path_factory.mktemp("scale"), "localhost:9092")


@pytest.fixture(scope="module")
def config(recipe: Path) -> Config:
    return load(recipe, [])


def test_producers_offer_what_their_rate_gives() -> None:
    assert CASE.offered_per_s == 4.0
    assert CASE.turn_s == 16.0


def test_answers_have_their_length_in_words_and_are_graded_right_and_wrong(config: Config) -> None:
    tokenizer, prompts = load_tokenizer(config.run.model), read_prompts(config).pool[:20]
    said, ids, rng = Script.of(config, Lengths(50)), tokenize(prompts, config), np.random.default_rng(0)
    outcomes, characters = [], 0
    for prompt in prompts:
        tokens, _, is_cut = said.complete(ids[prompt.prompt_id], config.sampling.max_tokens, rng)
        text = tokenizer.decode(tokens.tolist(), skip_special_tokens=True)
        assert (tokens.size, is_cut) == (50, False)
        outcomes.append(math(prompt.answer, text).outcome)
        characters += len(text)
    assert set(outcomes) == {"correct", "wrong"}
    assert 3.5 < characters / (50 * 20) < 5.5


def test_every_role_but_the_evaluator_is_started_and_the_producers_by_one_process(config: Config, recipe: Path) -> None:
    made = {spec.name: spec.command for spec in specs(CASE, config, recipe)}
    assert set(made) == {"allocator-0", "verifier-0", "verifier-1", "producer-0", "learner-0"}
    assert made["producer-0"][1:5] == ("-m", "benchmarks.scale_roles", "producers", "2")


def test_costs_are_those_between_the_first_mark_and_the_last() -> None:
    lag = {"jobs": 3}
    marks = [
        Mark(10.0, 1000, {"kafka": 5.0}, {"jobs": 4096, "verdicts": 0}, lag),
        Mark(12.0, 1200, {"kafka": 5.5}, {"jobs": 4096, "verdicts": 1024}, lag),
        Mark(20.0, 2000, {"kafka": 6.0, "learner": 0.5}, {"jobs": 4096, "verdicts": 3 * 1024 * 1000}, lag),
    ]
    found = found_between(marks, copies=3)
    assert (found.num_rollouts, found.seconds, found.rollouts_per_s) == (1000, 10.0, 100.0)
    assert found.cpu_ms == {"kafka": 1.0, "learner": 0.5}
    assert (found.kib, found.lag, found.busy_cores) == ({"verdicts": 1.0}, {"jobs": [3, 3, 3]}, 0.15)
