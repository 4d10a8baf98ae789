"""The simulator's learning is that of the learner's formulas, and its comparisons are fair: same prompts, same rollouts."""

import json
from dataclasses import replace
from math import comb
from pathlib import Path

import numpy as np
import pytest

from benchmarks import simulate as sim

ROOT = Path(__file__).parents[2]
DATA = ROOT / "docs" / "figures" / "simulate.json"


@pytest.fixture
def small():
    return replace(sim.BASE, kinds=6, each=5, prompts=4, updates=6)


@pytest.mark.parametrize("size", [2, 3, 8, 17])
@pytest.mark.parametrize("p", [0.03, 0.5, 0.8])
def test_leave_one_out_gradient_is_that_of_the_success_rate(p, size):
    """Over all outcomes of a group, each with its probability: dp/dlogit = p (1 - p), exactly, at any size."""
    expected = sum(
        comb(size, right) * p**right * (1 - p) ** (size - right)
        * sim.logit_gradient(np.array([p]), np.array([right]), np.array([size]), "leave_one_out", "prompt_mean")[0]
        for right in range(size + 1)
    )  # fmt: skip
    assert expected == pytest.approx(p * (1 - p), rel=1e-12)


def test_large_groups_have_the_exact_gradient():
    p, size = np.array([0.2, 0.5, 0.9]), np.full(3, 10_000)
    right = (p * 10_000).round().astype(np.int64)
    q = 1 - p
    found = sim.logit_gradient(p, right, size, "mean", "prompt_mean")
    assert found == pytest.approx(p * q / 3, rel=1e-9)
    found = sim.logit_gradient(p, right, size, "std", "prompt_mean")
    assert found == pytest.approx(np.sqrt(p * q) / 3, rel=1e-3)


def test_groups_without_variance_give_nothing_and_weigh_nothing():
    p = np.array([0.2, 0.5, 0.9, 0.1])
    found = sim.logit_gradient(p, np.array([0, 4, 8, 1]), np.array([8, 8, 8, 24]), "mean", "prompt_mean")
    assert found == pytest.approx([0, 0.25 / 2, 0, 1 / 24 * 23 / 24 / 2])
    found = sim.logit_gradient(p, np.array([0, 4, 8, 1]), np.array([8, 8, 8, 24]), "mean", "token_mean")
    assert found == pytest.approx([0, 8 * 0.25 / 32, 0, 24 * 1 / 24 * 23 / 24 / 32])
    assert not sim.logit_gradient(p[:1], np.array([0]), np.array([8]), "std", "prompt_mean").any()


def test_skills_gradient_is_the_derivative_of_the_logits(small):
    rng = np.random.default_rng(4)
    skills = sim.Skills(replace(small, private_skill=0.3, width=3), rng)
    weights = rng.standard_normal(skills.kind.size)

    def objective():
        rates = skills.rates()
        return float(weights @ (np.log(rates) - np.log1p(-rates)))

    for part, gradient in zip((skills.shared, skills.private), skills.gradient(weights), strict=True):
        for index in range(part.size):
            before, part[index] = objective(), part[index] + 1e-5
            assert (objective() - before) / 1e-5 == pytest.approx(gradient[index], rel=1e-4, abs=1e-6)
            part[index] -= 1e-5


@pytest.mark.parametrize("share", [0.0, 0.25, 1.0])
def test_a_step_moves_its_prompt_the_same_and_its_kin_by_the_shared_share(small, share):
    regime = replace(small, private_skill=share, optimizer="sgd", lr=0.7)
    skills = sim.Skills(regime, np.random.default_rng(0))

    def logits():
        return np.log(skills.rates()) - np.log1p(-skills.rates())

    before, one = logits(), np.eye(skills.kind.size)[0]
    sim.Optimizer(regime).step(skills, skills.gradient(one))
    expected = np.where(skills.kind == skills.kind[0], 0.7 * (1 - share), 0.0)
    expected[0] = 0.7
    assert logits() - before == pytest.approx(expected, abs=1e-9)


def test_first_step_of_adam_has_the_length_of_the_learning_rate(small):
    skills = sim.Skills(small, np.random.default_rng(0))
    optimizer = sim.Optimizer(small)
    for scale in (1e-4, 1e4):
        skills.shared[:], skills.private[:] = 0, 0
        optimizer = sim.Optimizer(small)
        optimizer.step(skills, skills.gradient(scale * np.arange(skills.kind.size)))
        assert np.sqrt(skills.shared @ skills.shared + skills.private @ skills.private) == pytest.approx(small.lr)
    before = skills.shared.copy()
    optimizer.step(skills, [np.zeros_like(skills.shared), np.zeros_like(skills.private)])
    assert (skills.shared == before).all()  # an update without a gradient is none, momentum or not


def test_the_gradient_of_beliefs_is_that_of_every_rollout_about_what_was_believed():
    rates, beliefs = np.array([0.4, 0.9]), (np.array([1.0, 3.0]), np.array([3.0, 1.0]))
    found = sim.belief_logit_gradient(rates, np.array([1, 1]), np.array([2, 1]), beliefs)
    # Prompt 0: rewards 1, 0 about (1 + 0) / 5 and (1 + 1) / 5; prompt 1: reward 1 about 3 / 4.
    advantage = np.array([1 - 1 / 5, 0 - 2 / 5, 1 - 3 / 4])
    advantage /= advantage.std(ddof=1)
    assert found == pytest.approx(
        [(advantage[0] * (1 - 0.4) + advantage[1] * (0 - 0.4)) / 3, advantage[2] * (1 - 0.9) / 3]
    )


def test_private_skills_leave_heldout_prompts_untouched_and_shared_ones_do_not(small):
    for allocation in ("uniform", "bayes", "rehearse"):
        curve = sim.run(replace(small, private_skill=1.0), allocation, 0)["curve"]
        assert {point[1] for point in curve} == {curve[0][1]}
        assert curve[-1][2] > curve[0][2]
        curve = sim.run(replace(small, private_skill=0.0), allocation, 0)["curve"]
        assert curve[-1][1] > curve[0][1] + 0.02


def test_training_ends_where_all_that_can_be_learned_is(small):
    regime = replace(small, mean=0.0, spread=1.0, prompts=30, updates=60)
    assert sim.run(regime, "uniform", 0)["curve"][-1][2] > 0.95
    dead = sim.run(replace(regime, dead=(0.5, 0.5)), "bayes", 0)["curve"]
    assert dead[-1][1:] == pytest.approx([0.5, 0.5], abs=1e-6)  # half right and half wrong, whatever is learned


def test_every_allocation_spends_the_same_rollouts(small):
    for allocation in (*sim.ALLOCATIONS, "choose 8", "uniform wider"):
        found = sim.run(small, allocation, 1)
        scale = {"/2": 0.5, "x16": 16}.get(allocation.rpartition(" ")[2], 1)
        assert found["spent"] == found["curve"][-1][0] == small.rollouts * scale


def test_same_seed_same_run_and_prompts_do_not_depend_on_the_allocation(small):
    first, again, other = (sim.run(small, "bayes", seed) for seed in (3, 3, 4))
    assert first == again
    assert first["curve"] != other["curve"]
    assert sim.run(small, "choose", 3)["curve"][0] == first["curve"][0]


def test_modes_that_know_nothing_yet_are_uniform(small):
    regime = replace(small, updates=1)
    runs = [sim.run(regime, allocation, 0) for allocation in ("uniform", "paper", "bayes", "variance")]
    assert all(found == runs[0] for found in runs)


def test_difference_error_and_reach():
    uniform = {"curve": [[0, 0.2, 0.3], [100, 0.4, 0.5]], "heldout": [0.3, 0.5], "pool": [0.5, 0.5]}
    cell = {"curve": [[0, 0.2, 0.3], [50, 0.4, 0.4], [100, 0.5, 0.45]], "heldout": [0.45, 0.55], "pool": [0.4, 0.5]}
    found = sim.compare(replace(sim.BASE, private_skill=0.5), cell, uniform)
    assert found == pytest.approx({"difference": 0.1, "error": 0.05, "reach": 0.5})
    found = sim.compare(replace(sim.BASE, private_skill=1.0), cell, uniform)
    assert found["difference"] == pytest.approx(-0.05) and found["reach"] is None


def test_the_demo_is_as_hard_as_for_its_base_model():
    """Measured on the real model: mean success rate .378 on the pool, .418 of groups of 8 mixed."""
    rates = [sim.Skills(sim.REGIMES[sim.SCARCE], np.random.default_rng(seed)).rates() for seed in range(5)]
    assert np.mean(rates) == pytest.approx(0.378, abs=0.015)
    p = np.concatenate(rates)
    assert np.mean(1 - p**8 - (1 - p) ** 8) == pytest.approx(0.418, abs=0.015)


@pytest.mark.skipif(not DATA.exists(), reason="no figures yet")
def test_committed_cells_are_complete_and_spent_the_same():
    data = json.loads(DATA.read_text())
    assert data["settings"]["seeds"] >= 5
    cells = {(cell["regime"], cell["allocation"]): cell for cell in data["cells"]}
    for name, regime in sim.REGIMES.items():
        for allocation in sim.ALLOCATIONS:
            cell = cells[name, allocation]
            scale = {"/2": 0.5, "x16": 16}.get(allocation.rpartition(" ")[2], 1)
            assert cell["curve"][-1][0] == regime.rollouts * scale
            assert len(cell["heldout"]) == len(cell["pool"]) == data["settings"]["seeds"]
