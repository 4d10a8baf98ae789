"""Every objective, forward and gradient, against numbers from other systems and against a reference without torch."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from learner_reference import loss_and_gradient

from learner.objectives import Objective, policy_loss
from learner.presets import PRESETS, objective_of, without_effect
from stream.config import LearnerTable
from stream.errors import UserError

F64 = torch.float64
# Common inputs of V2 and V3.
CURRENT = [[-0.5, -1.2, -2.0], [-0.9, -0.1, -1.0]]
OLD = [[-0.6, -1.0, -2.5], [-0.8, -0.4, -1.0]]
MU = [[-0.55, -2.0, -2.4], [-1.0, -0.35, -1.0]]
ADVANTAGES = [1.0, -0.5]
MASK = [[1, 1, 1], [1, 1, 0]]


def vector(objective: Objective, **inputs: Any) -> tuple[float, list[list[float]]]:
    """Loss and gradient on V2's inputs."""
    current = torch.tensor(CURRENT, dtype=F64, requires_grad=True)
    loss = policy_loss(
        objective,
        current,
        torch.tensor(inputs.get("behavior", MU), dtype=F64),
        torch.tensor(inputs.get("advantages", ADVANTAGES), dtype=F64),
        torch.tensor(inputs.get("mask", MASK)),
        proximal=torch.tensor(OLD, dtype=F64),
    )
    loss.value.backward()
    assert current.grad is not None
    return loss.value.item(), current.grad.tolist()


def test_v2_decoupled_ppo_with_truncated_importance_sampling() -> None:
    loss, gradient = vector(PRESETS["knapsack_paper"])
    assert loss == pytest.approx(-0.5304652660, abs=1e-9)
    expected = [[-0.2102542193, -0.3274923012, 0], [0.1105170918, 0.1284025417, 0]]
    assert np.array(gradient) == pytest.approx(np.array(expected), abs=1e-9)


def test_v2_without_correction() -> None:
    objective = PRESETS["dapo"].replaced(ratio="proximal")
    assert vector(objective)[0] == pytest.approx(-0.4153107117, abs=1e-8)


def test_v2_sequence_truncation_takes_the_product_of_the_ratios() -> None:
    # rho of the rollouts is 2.3396 (truncated to 2) and 1.1618; the surrogates are those of V2.
    both = [vector(PRESETS["dapo"].replaced(ratio="proximal"), advantages=a)[0] for a in ([1.0, 0.0], [0.0, -0.5])]
    objective = PRESETS["knapsack_paper"].replaced(correction_level="sequence_product")
    assert vector(objective)[0] == pytest.approx(2.0 * both[0] + 1.1618342427 * both[1], abs=1e-9)


@pytest.mark.parametrize(
    ("low", "high", "loss", "first"),
    [(3e-4, 4e-4, -0.2239072702, 0.0), (0.2, 0.28, -0.2950226759, -0.190438468)],
)
def test_v3_gspo(low: float, high: float, loss: float, first: float) -> None:
    value, gradient = vector(PRESETS["gspo"].replaced(clip_low=low, clip_high=high), behavior=OLD)
    assert value == pytest.approx(loss, abs=2e-9)
    assert np.array(gradient) == pytest.approx(np.array([[first] * 3, [0.1381463641] * 2 + [0]]), abs=1e-9)


def compositions() -> list[Objective]:
    """Every ratio, level, trust region and correction together, with the options that change the formula."""
    objectives = list(PRESETS.values())
    for region in ("none", "ppo_clip", "cispo", "tis", "icepop", "dppo"):
        for level in ("token", "sequence_mean", "sequence_product"):
            for ratio, correction in (
                ("none", "none"),
                ("behavior", "none"),
                ("proximal", "none"),
                ("proximal", "tis"),
                ("proximal", "icepop"),
            ):
                objectives.append(
                    Objective(
                        ratio=ratio,
                        trust_region=region,
                        level=level,
                        correction=correction,
                        correction_level=level,
                        dual_clip=1.5,
                        tis_cap=1.3,
                        mask_low=0.6,
                        mask_high=1.6,
                        dppo_low=0.05,
                        dppo_high=0.05,
                    )
                )
    objectives += [Objective(kl_coef=0.3, kl=kl) for kl in ("k1", "k2", "k3")]
    objectives += [Objective(behavior_penalty=0.2, opsm=0.1), PRESETS["grpo"].replaced(opsm=0.05)]
    return objectives


@pytest.mark.parametrize("objective", compositions())
@settings(max_examples=12)
@given(seed=st.integers(0, 2**32 - 1), scale=st.sampled_from([0.05, 0.5, 2.0]))
def test_against_the_reference(objective: Objective, seed: int, scale: float) -> None:
    rng = np.random.default_rng(seed)
    num_rollouts, longest = int(rng.integers(1, 5)), int(rng.integers(1, 6))
    shape = (num_rollouts, longest)
    current = -rng.exponential(1.0, shape)
    behavior, proximal, reference = (np.minimum(current + scale * rng.normal(size=shape), 0.0) for _ in range(3))
    mask = rng.random(shape) < 0.8
    advantages, weights = rng.normal(size=num_rollouts), rng.uniform(0.1, 1, num_rollouts)
    for values in (current, behavior, proximal, reference):
        values[~mask] = rng.choice([np.nan, np.inf, -np.inf])  # what the mask leaves out must not matter
    tensors = {
        name: torch.tensor(values, dtype=F64)
        for name, values in (("behavior", behavior), ("proximal", proximal), ("reference", reference))
    }
    pi = torch.tensor(current, dtype=F64, requires_grad=True)
    loss = policy_loss(
        objective,
        pi,
        advantages=torch.tensor(advantages),
        mask=torch.tensor(mask),
        token_weights=torch.tensor(weights),
        **tensors,
    )
    loss.value.backward()
    rows = [
        {
            "logp": current[i],
            "behavior": behavior[i],
            "proximal": proximal[i],
            "reference": reference[i],
            "mask": mask[i],
            "a": advantages[i],
            "w": weights[i],
        }
        for i in range(num_rollouts)
    ]
    expected, gradient, rejected = loss_and_gradient(objective, rows)
    assert loss.value.item() == pytest.approx(expected, rel=1e-9, abs=1e-9)
    assert pi.grad is not None
    assert pi.grad.numpy() == pytest.approx(np.array(gradient), rel=1e-9, abs=1e-9)
    assert loss.rejected.sum().item() == rejected


def test_what_the_mask_leaves_out_of_advantages_and_weights_does_not_matter() -> None:
    mask = torch.tensor(MASK)
    a, w = torch.tensor(ADVANTAGES, dtype=F64), torch.tensor([0.2, 0.3], dtype=F64)
    hidden = [torch.where(mask.bool(), values[:, None], torch.nan) for values in (a, w)]
    for objective in PRESETS.values():
        results = []
        for advantages, weights in ((a, w), hidden):
            current = torch.tensor(CURRENT, dtype=F64, requires_grad=True)
            mu, old = (torch.tensor(values, dtype=F64) for values in (MU, OLD))
            loss = policy_loss(objective, current, mu, advantages, mask, token_weights=weights, proximal=old)
            loss.value.backward()
            assert current.grad is not None
            results.append((loss.value.item(), current.grad.tolist()))
        assert results[0] == results[1]


@pytest.mark.parametrize("name", sorted(PRESETS))
def test_without_any_token_the_loss_is_zero_and_finite(name: str) -> None:
    loss, gradient = vector_of_nothing(PRESETS[name], mask=torch.zeros(2, 3))
    assert loss == 0.0
    assert gradient == [[0.0] * 3] * 2


@pytest.mark.parametrize("ratio", ["behavior", "proximal"])
def test_with_every_token_rejected_the_loss_is_zero_and_finite(ratio: str) -> None:
    base = Objective(ratio=ratio, trust_region="icepop", mask_low=1e3, mask_high=1e4, weighting="token_mean")
    dppo = Objective.model_construct(
        ratio=ratio, trust_region="dppo", dppo_low=-2.0, dppo_high=-2.0, weighting="token_mean"
    )
    corrected = PRESETS["icepop"].replaced(mask_low=1e3, mask_high=1e4)
    for objective in (base, dppo, corrected):
        loss, gradient = vector_of_nothing(objective, mask=torch.ones(2, 3))
        assert loss == 0.0
        assert gradient == [[0.0] * 3] * 2


def vector_of_nothing(objective: Objective, mask: torch.Tensor) -> tuple[float, list[list[float]]]:
    current = torch.tensor(CURRENT, dtype=F64, requires_grad=True)
    others = [torch.tensor(values, dtype=F64) for values in (MU, OLD)]
    loss = policy_loss(
        objective, current, others[0], torch.tensor(ADVANTAGES), mask, group=torch.tensor([0, 1]), proximal=others[1]
    )
    loss.value.backward()
    assert current.grad is not None
    return loss.value.item(), current.grad.tolist()


def test_the_denominator_counts_rejected_tokens() -> None:
    # Of four tokens two are rejected (ratio e^2): the others weigh 1/4 each, not 1/2.
    current = torch.tensor([[-1.0, -1.0], [-1.0, -1.0]], dtype=F64)
    behavior = torch.tensor([[-1.0, -3.0], [-1.0, -3.0]], dtype=F64)
    objective = Objective(trust_region="icepop", mask_low=0.5, mask_high=5.0, weighting="token_mean")
    loss = policy_loss(objective, current, behavior, torch.tensor([1.0, 1.0]), torch.ones(2, 2))
    assert loss.value.item() == pytest.approx(2 * 1.0 / 4)
    assert loss.rejected.tolist() == [[False, True], [False, True]]


def test_entropy_is_added_with_its_gradient() -> None:
    entropy = torch.tensor([[0.5, 1.0]], dtype=F64, requires_grad=True)
    zeros = torch.zeros(1, 2, dtype=F64)
    objective = Objective(entropy_coef=0.1, weighting="token_mean")
    loss = policy_loss(objective, zeros, zeros, torch.zeros(1), torch.ones(1, 2), entropy=entropy)
    loss.value.backward()
    assert loss.value.item() == pytest.approx(-0.075)
    assert entropy.grad is not None
    assert entropy.grad.tolist() == [[pytest.approx(-0.05)] * 2]


def test_clipped_tokens_are_told() -> None:
    current = torch.tensor([[0.5, 0.0, -0.5]], dtype=F64) - 1
    behavior = torch.full((1, 3), -1.0, dtype=F64)
    expected = {"ppo_clip": [True, False, False], "cispo": [True, False, True], "tis": [True, False, False]}
    for region, clipped in expected.items():
        objective = Objective(trust_region=region, tis_cap=1.5, weighting="token_mean")
        assert policy_loss(objective, current, behavior, torch.ones(1), torch.ones(1, 3)).clipped.tolist() == [clipped]


def test_on_policy_all_token_objectives_have_the_gradient_of_plain_reinforce() -> None:
    for objective in (o for o in PRESETS.values() if o.advantage_clamp is None):
        current = torch.tensor(CURRENT, dtype=F64, requires_grad=True)
        same = current.detach()
        w = torch.tensor([0.2, 0.3], dtype=F64)
        policy_loss(
            objective, current, same, torch.tensor(ADVANTAGES), torch.tensor(MASK), token_weights=w, proximal=same
        ).value.backward()
        assert current.grad is not None
        expected = -torch.tensor([[0.2] * 3, [-0.15, -0.15, 0.0]], dtype=F64)
        assert torch.allclose(current.grad, expected, atol=1e-12)


def test_huge_log_ratios_stay_finite() -> None:
    current = torch.zeros(1, 2, requires_grad=True)
    for objective in (Objective(trust_region=region) for region in ("none", "ppo_clip", "cispo", "tis", "dppo")):
        loss = policy_loss(
            objective,
            current,
            torch.full((1, 2), -1e6),
            torch.ones(1),
            torch.ones(1, 2),
            group=torch.zeros(1, dtype=torch.int64),
        )
        assert math.isfinite(loss.value.item())


def test_what_is_missing_or_does_not_go_together_is_named() -> None:
    one = torch.zeros(1, 1)
    with pytest.raises(ValueError, match="proximal is None, but the objective has ratio = proximal"):
        policy_loss(PRESETS["areal"], one, one, one, one)
    with pytest.raises(ValueError, match="group is None, but the objective has weighting = prompt_mean"):
        policy_loss(PRESETS["tis"], one, one, one, one)
    with pytest.raises(ValueError, match="correction is 'tis' with ratio 'behavior', which corrects already"):
        Objective(correction="tis")
    with pytest.raises(
        ValueError, match=r"mask_low is 6.0 with mask_high 5.0, which rejects every token; want it below"
    ):
        Objective(trust_region="icepop", mask_low=6.0)
    with pytest.raises(ValueError, match="trust_region\n  Input should be 'none', 'ppo_clip'"):
        Objective(trust_region="ppo")  # type: ignore[arg-type]


def test_configuration_replaces_parts_of_its_preset() -> None:
    assert objective_of(LearnerTable()) == PRESETS["tis"]
    table = LearnerTable(objective="dapo", clip_high=0.3, advantage="mean", ratio="proximal")
    assert objective_of(table) == PRESETS["dapo"].replaced(clip_high=0.3, advantage="mean", ratio="proximal")
    with pytest.raises(UserError, match=r"learner\.clip_low is 0.1, which has no effect with learner.objective 'tis'"):
        objective_of(LearnerTable(clip_low=0.1))
    with pytest.raises(UserError, match=r"learner\.objective 'tis': correction is 'icepop' with ratio 'behavior'"):
        objective_of(LearnerTable(correction="icepop"))


def test_configuration_knows_every_preset_and_every_part() -> None:
    from typing import get_args

    from stream.config.objective import ObjectiveName

    assert set(get_args(ObjectiveName)) == set(PRESETS)
    for name in PRESETS:
        assert objective_of(LearnerTable(objective=name)) == PRESETS[name]
    assert without_effect(PRESETS["tis"], {"kl", "clip_low", "tis_cap"}) == ["clip_low", "kl"]
