from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.scale import Case, Mark, found_between, specs, write_recipe
from benchmarks.scale_costs import cost_of, kib_of, least_squares
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


def row_of(producers: int, rate: float, tokens: int, **cpu_ms: float) -> dict[str, Any]:
    asked, tokens_per_s = (2 * tokens, 4000.0) if producers == 1 else (tokens, 1e9)
    case = {"producers": producers, "verifiers": 1, "answer_tokens": asked, "tokens_per_s": tokens_per_s}
    kib = {"jobs": 1.0, "trajectories": 0.01 * tokens}
    return {"case": case, "found": {"rollouts_per_s": rate, "cpu_ms": cpu_ms, "kib": kib}}


def test_costs_are_divided_into_waiting_rollouts_and_tokens() -> None:
    def producer_ms(number: int, rate: float, tokens: int) -> float:
        return (number * 20 + rate * (0.3 + 0.8 * tokens / 1000)) / rate

    cases = [(1, 10.0, 1000), (4, 100.0, 1000), (4, 300.0, 100), (4, 60.0, 4000)]
    rows = [row_of(*case, producer=producer_ms(*case)) for case in cases]
    cost = cost_of("producer", rows)
    assert (cost.wait_ms, cost.each_ms, cost.token_ms) == pytest.approx((20, 0.3, 0.8))
    assert cost.error < 1e-9
    assert cost.most_engines(4000, 1000, each_waits=False) == pytest.approx(980 / 4.4)
    assert cost.most_engines(4000, 1000, each_waits=True) == pytest.approx(1000 / 24.4)
    assert kib_of(rows) == pytest.approx((1.0, 10.0))


@given(st.lists(st.tuples(*[st.floats(0.1, 10)] * 3), min_size=3, max_size=6), st.integers(0, 7))
def test_factors_are_never_below_zero_and_none_are_nearer(columns: list[tuple[float, ...]], seed: int) -> None:
    a, wanted = np.array(columns), np.random.default_rng(seed).uniform(-1, 1, len(columns))
    found = least_squares(a, wanted)
    assert (found >= 0).all()
    # At the least, no gradient leads down: 0 along what is used, not below 0 along what is not (Karush, Kuhn, Tucker).
    slope = a.T @ (a @ found - wanted)
    assert (slope >= -1e-6).all()
    assert abs(slope @ found) < 1e-6
