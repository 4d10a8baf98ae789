"""Choosing which prompts take part as well as how many rollouts each gets."""

import importlib
import itertools
from pathlib import Path

import numpy as np
import pytest

from allocator.values import Expected

ROOT = Path(__file__).parents[2]


@pytest.fixture
def choose(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    return importlib.import_module("pool").choose


def worth(a, b, rollouts):
    """Total expected value; a prompt without rollouts is worth nothing."""
    value = Expected(a, b).value(np.arange(a.size), np.maximum(rollouts, 2))
    return float(np.where(rollouts > 0, value, 0.0).sum())


def test_the_whole_budget_is_spent_and_no_group_has_one_rollout(choose):
    rng = np.random.default_rng(0)
    for budget in (2, 3, 7, 64, 481):
        a, b = rng.gamma(1.0, 2.0, (2, 200)) + 0.1
        rollouts = choose(Expected(a, b), budget, np.zeros(200, dtype=np.int64), 128)
        assert rollouts.sum() == budget
        assert not (rollouts == 1).any()


def test_no_better_choice_of_four_prompts_exists_but_for_an_odd_rollout(choose):
    rng = np.random.default_rng(1)
    exact = 0
    for budget in (2, 4, 5, 8):
        a, b = rng.gamma(1.0, 2.0, (2, 4)) + 0.1
        found = worth(a, b, choose(Expected(a, b), budget, np.zeros(4, dtype=np.int64), 8))
        sizes = [n for n in itertools.product((0, 2, 3, 4, 5, 6, 7, 8), repeat=4) if sum(n) == budget]
        best = max(worth(a, b, np.array(n)) for n in sizes)
        odd = float(Expected(a, b).value(np.arange(4), np.full(4, 2)).max()) / 2  # half a pair, given to another prompt
        assert best - odd <= found <= best + 1e-12
        exact += found == pytest.approx(best)
    assert exact >= 2


def test_prompts_whose_turn_it_is_keep_their_lower_bound(choose):
    a, b = np.array([1.0, 50.0, 1.0]), np.array([1.0, 0.1, 1.0])
    rollouts = choose(Expected(a, b), 12, np.array([0, 2, 0]), 128)
    assert rollouts.tolist() == [5, 2, 5]
