import numpy as np
import pytest
from factories import make_prompt

from allocator.evidence import Evidence
from allocator.prior import MAX_STRENGTH, MIN_STRENGTH, UNKNOWN_STRENGTH, Prior, learn_costs, learn_prior
from stream.messages import Belief, Visit


def flat(successes: list[float], trials: list[float]) -> Prior:
    zeros = np.zeros(len(trials), dtype=np.int64)
    return learn_prior(np.array(successes, float), np.array(trials, float), zeros, zeros)


@pytest.mark.parametrize(("a", "b"), [(0.3, 0.3), (1.0, 3.0), (6.0, 4.0)])
def test_the_law_of_the_success_rates_is_found_from_few_rollouts_each(a: float, b: float) -> None:
    rng = np.random.default_rng(0)
    trials = rng.integers(0, 5, 40_000).astype(float)
    prior = flat(rng.binomial(trials.astype(int), rng.beta(a, b, trials.size)).tolist(), trials.tolist())
    assert prior.strengths[0] == pytest.approx(a + b, rel=0.1)
    assert prior.a[0] / prior.strengths[0] == pytest.approx(a / (a + b), abs=0.02)


def test_strengths_of_all_three_stages_are_found() -> None:
    rng = np.random.default_rng(1)
    num_tasks, num_levels, num_prompts, strengths = 60, 12, 12, (1.5, 5.0, 4.0)
    of_task = rng.beta(strengths[2] * 0.4, strengths[2] * 0.6, num_tasks)
    of_level = np.repeat(of_task, num_levels)
    of_level = rng.beta(strengths[1] * of_level, strengths[1] * (1 - of_level))
    rate = np.repeat(of_level, num_prompts)
    rate = rng.beta(strengths[0] * rate + 1e-3, strengths[0] * (1 - rate) + 1e-3)
    level = np.repeat(np.arange(of_level.size), num_prompts)
    trials = rng.integers(0, 9, rate.size).astype(float)
    prior = learn_prior(rng.binomial(trials.astype(int), rate).astype(float), trials, level // num_levels, level)
    assert prior.strengths == pytest.approx(strengths, rel=0.35)
    assert np.corrcoef(prior.a / (prior.a + prior.b), of_level[level])[0, 1] > 0.95


def test_a_prompt_never_seen_is_believed_to_be_of_its_kind() -> None:
    level = np.repeat([0, 1, 2], 20)
    trials = np.full(60, 8.0)
    trials[[19, 39]] = 0.0  # one never seen in each of two levels
    trials[40:] = 0.0  # and a level of the same task of which nothing is known
    prior = learn_prior(np.where(level == 0, 0.9, 0.1) * trials, trials, np.zeros(60, dtype=np.int64), level)
    mean = prior.a / (prior.a + prior.b)
    assert mean[19] == pytest.approx(0.9, abs=0.02)
    assert mean[39] == pytest.approx(0.1, abs=0.02)
    assert mean[59] == pytest.approx(0.5, abs=0.05)


def test_nothing_seen_makes_every_success_rate_as_likely_as_any_other() -> None:
    prior = flat([0, 0, 0], [0, 0, 0])
    assert prior.strengths == (UNKNOWN_STRENGTH,) * 3
    assert (prior.a.tolist(), prior.b.tolist()) == ([1.0] * 3, [1.0] * 3)


@pytest.mark.parametrize("successes", [[8, 8, 8], [0, 0, 0], [8, 0, 8], [4, 4, 4]])
def test_one_sided_and_tiny_samples_leave_a_proper_prior(successes: list[float]) -> None:
    prior = flat(successes, [8, 8, 8])
    assert (prior.a > 0).all()
    assert (prior.b > 0).all()
    assert MIN_STRENGTH <= prior.strengths[0] <= MAX_STRENGTH


def test_costs_are_learned_and_shared_by_kind_and_start_at_the_most() -> None:
    task, level = np.array([0, 0, 0, 1, 1]), np.array([0, 0, 1, 2, 2])
    nothing = np.zeros(5)
    assert learn_costs(nothing, nothing, task, level, most=512).tolist() == [512.0] * 5
    sampled = np.array([1000.0, 0, 1000, 1000, 0])
    costs = learn_costs(np.array([20.0, 0, 300, 50, 0]) * sampled, sampled, task, level, most=512)
    assert costs == pytest.approx([20, 20, 300, 50, 50], rel=0.03)


def test_evidence_follows_beliefs_and_shares_them_by_level() -> None:
    pool = [make_prompt(f"p{i}", level="easy" if i < 8 else "hard") for i in range(16)]
    evidence, beliefs = Evidence(pool), {prompt.prompt_id: Belief(prompt_id=prompt.prompt_id) for prompt in pool}
    for i in (*range(6), *range(8, 14)):
        correct = 8.0 if i < 8 else 0.0
        visits = (Visit(num_correct=correct, num_graded=8),)
        beliefs[f"p{i}"] = Belief(
            prompt_id=f"p{i}", num_trials=8, num_correct=correct, recent_trials=8, recent_correct=correct, visits=visits
        )
        evidence.note(beliefs[f"p{i}"])
    found = evidence.beliefs(["p0", "p7", "p15"], beliefs)
    mean = found.a / (found.a + found.b)
    assert mean[0] > mean[1] > 0.8
    assert mean[2] < 0.2
    assert found.rate[0] == 1.0
    assert np.isnan(found.rate[1:]).all()
    fixed = Evidence(pool, (0.5, 2.0)).beliefs(["p3"], beliefs)
    assert (fixed.a.tolist(), fixed.b.tolist()) == ([0.5], [2.0])
