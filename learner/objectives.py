"""Computes the loss of any objective: a ratio, a trust region, a correction, an advantage, a weighting, chosen by name.

Enters: log-probabilities of completion tokens and advantages. Leaves: the scalar to minimise, and what the trust region
did to each token. Tokens outside the mask, whatever they hold, are in no sum, mean or ratio.

    L = sum_t w_t ( - c_t k_t s_t + kl_coef KL_t + behavior_penalty (log pi_t / mu_t)^2 - entropy_coef H_t )

    ratio         log r = log pi - log anchor                  anchor: mu (behavior), pi_old (proximal), sg(pi) (none)
    level         of r: token | sequence_mean: mean_t log r, GSPO | sequence_product: sum_t log r
    trust_region  s = r A                                                none
                  s = min(r A, clip(r, 1-clip_low, 1+clip_high) A)       ppo_clip; where A < 0 also >= dual_clip A
                  s = sg(clip(r, 1-clip_low, 1+clip_high)) A log pi      cispo
                  s = sg(min(r, tis_cap)) A log pi                       tis
                  s = sg(r 1[mask_low <= r <= mask_high]) A log pi       icepop
                  s = r A, k = 0 where the probability has moved too far dppo: pi - anchor > dppo_high if A > 0,
                                                                         pi - anchor < -dppo_low otherwise
    opsm          k = 0 for a whole rollout with A < 0 and mean_t (log mu - log pi) > opsm
    correction    c = 1 (none) | sg(min(rho, tis_cap)) (tis) | sg(rho 1[mask_low <= rho <= mask_high]) (icepop),
                  rho = pi_old / mu at correction_level; only with ratio = proximal, else it would count twice
    KL            to a reference, d = log ref - log pi: k1 = -d, k2 = d^2 / 2, k3 = e^d - d - 1

pi are the weights being trained (`current`), mu those that sampled each token (`behavior`, exact engine logprobs),
pi_old those at the start of the update (`proximal`); sg stops the gradient. Legend: N rollouts, T tokens of the longest.

The denominators are in w (learner.advantages.rollout_weights) and count every token in the mask, rejected or not:
rejecting tokens makes the step smaller and never divides by zero.

Sources:
    ppo_clip          Schulman et al., arXiv 1707.06347, equation 7; with two epsilons DAPO, arXiv 2503.14476
    dual_clip         Ye et al., arXiv 1912.09729
    cispo             MiniMax-M1, arXiv 2506.13585
    tis               IMPALA, arXiv 1802.01561; between engine and learner verl's rollout_correction
    icepop            Ring-1T, arXiv 2510.18855
    dppo              arXiv 2602.04879, as prime-rl has it
    opsm              DeepSeek-V3.2, arXiv 2512.02556
    sequence_mean     GSPO, arXiv 2507.18071
    proximal          Hilton et al., arXiv 2110.00641; AReaL, arXiv 2505.24298
    behavior_penalty  Kimi K2.5, arXiv 2602.02276
    k1, k2, k3        Schulman, "Approximating KL Divergence", 2020
"""

from dataclasses import dataclass, field

import torch
from torch import Tensor

from learner.advantages import rollout_weights
from stream.config.objective import Kl, Level, Objective

MAX_LOG_RATIO = 20.0
"""Log-ratios are clamped to this before exp (verl)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Loss:
    """The scalar to minimise, and what the trust region did to each token. Only `value` has a gradient."""

    value: Tensor  # []
    clipped: Tensor  # [N, T] bool: its ratio was clipped or truncated, in the trust region or the correction
    rejected: Tensor  # [N, T] bool: icepop, dppo or opsm leaves it without a gradient
    kl: Tensor = field(default_factory=lambda: torch.zeros(()))  # [] weighted sum of the KL to the reference


def policy_loss(
    objective: Objective,
    current: Tensor,
    behavior: Tensor,
    advantages: Tensor,
    mask: Tensor,
    *,
    token_weights: Tensor | None = None,
    group: Tensor | None = None,
    proximal: Tensor | None = None,
    reference: Tensor | None = None,
    entropy: Tensor | None = None,
) -> Loss:
    """The loss of N rollouts. Differentiable in `current` (and `entropy`); any float dtype.

    Args:
        objective: what is maximised, e.g. `learner.presets.PRESETS["dapo"]`.
        current: log-probabilities of the tokens under the weights being trained. [N, T]
        behavior: the same under the weights that sampled them. [N, T]
        advantages: of each rollout, or of each token. [N] or [N, T]
        mask: True (or 1) for completion tokens, False for padding and tokens that are not trained on. [N, T]
        token_weights: [N] or [N, T]; None takes the objective's weighting over this batch.
        group: number of each rollout's prompt, from 0; needed by the weightings that tell prompts apart. [N]
        proximal: log-probabilities at the start of the update; needed if ratio is `proximal`. [N, T]
        reference: log-probabilities of the reference; needed if kl_coef > 0. [N, T]
        entropy: of the policy at each token; needed if entropy_coef > 0. [N, T]

    Raises:
        ValueError: something that the objective needs was not given.

    """
    o, mask = objective, mask.bool()

    def needed(name: str, values: Tensor | None, why: str) -> Tensor:
        if values is None:
            raise ValueError(f"{name} is None, but the objective has {why}")
        return _masked(values, mask)

    current, behavior = _masked(current, mask), _masked(behavior, mask).detach()
    a = _masked(advantages, mask).to(current.dtype)
    w = _masked(_token_weights(o, mask, group) if token_weights is None else token_weights, mask).to(current.dtype)
    anchor = behavior if o.ratio == "behavior" else current.detach()
    if o.ratio == "proximal":
        anchor = needed("proximal", proximal, "ratio = proximal").detach()
    surrogate, clipped, kept = corrected_surrogate(o, current, behavior, anchor, a, mask)
    per_token = -torch.where(kept, surrogate, 0.0)
    kl = torch.zeros_like(per_token)
    if o.kl_coef:
        kl = kl_to(current, needed("reference", reference, f"kl_coef = {o.kl_coef}").detach(), o.kl)
        per_token = per_token + o.kl_coef * kl
    if o.behavior_penalty:
        per_token = per_token + o.behavior_penalty * (current - behavior).square()
    if o.entropy_coef:
        per_token = per_token - o.entropy_coef * needed("entropy", entropy, f"entropy_coef = {o.entropy_coef}")
    return Loss(value=(w * per_token).sum(), clipped=clipped & mask, rejected=~kept & mask, kl=(w * kl).detach().sum())


def corrected_surrogate(
    o: Objective, current: Tensor, behavior: Tensor, anchor: Tensor, a: Tensor, mask: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Surrogate times correction c s, where a ratio was clipped or truncated, and which tokens are kept. All [N, T]."""
    surrogate, clipped, kept = trust_region(o, ratio_of(current - anchor, mask, o.level), current, anchor, a)
    if o.correction != "none":
        rho = ratio_of(anchor - behavior, mask, o.correction_level)
        factor = _truncate(rho, o) if o.correction == "tis" else _reject(rho, o)
        surrogate, kept = factor * surrogate, kept & (factor > 0)
        clipped = clipped | ((factor > 0) & (factor < rho))  # truncated, not rejected
    if o.opsm is not None:
        kept = kept & ~((a < 0) & (_mean(behavior - current.detach(), mask) > o.opsm))
    return surrogate, clipped, kept


def trust_region(o: Objective, r: Tensor, current: Tensor, anchor: Tensor, a: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Surrogate s, where the ratio was clipped, and which tokens are kept. All [N, T]."""
    everywhere = torch.ones_like(r, dtype=torch.bool)
    if o.trust_region == "ppo_clip":
        clipped = r.clamp(1 - o.clip_low, 1 + o.clip_high)
        surrogate = torch.minimum(r * a, clipped * a)
        touched = clipped * a < r * a
        if o.dual_clip is not None:
            floor = torch.where(a < 0, o.dual_clip * a, -torch.inf)
            surrogate, touched = torch.maximum(surrogate, floor), touched | (floor > surrogate)
        return surrogate, touched, everywhere
    if o.trust_region == "cispo":
        clipped = r.detach().clamp(1 - o.clip_low, 1 + o.clip_high)
        return clipped * a * current, clipped != r, everywhere
    if o.trust_region == "tis":
        return _truncate(r, o) * a * current, r > o.tis_cap, everywhere
    if o.trust_region == "icepop":
        factor = _reject(r, o)
        return factor * a * current, ~everywhere, factor > 0
    if o.trust_region == "dppo":
        moved = (current.exp() - anchor.exp()).detach()
        return r * a, ~everywhere, ~torch.where(a > 0, moved > o.dppo_high, moved < -o.dppo_low)
    return r * a, ~everywhere, everywhere


def ratio_of(log_ratio: Tensor, mask: Tensor, level: Level) -> Tensor:
    """The ratio at its level, the same for all tokens of a rollout at the sequence levels. [N, T] -> [N, T]"""
    log_ratio = torch.where(mask, log_ratio, 0.0)
    if level == "sequence_mean":
        log_ratio = _mean(log_ratio, mask)
    elif level == "sequence_product":
        log_ratio = log_ratio.sum(-1, keepdim=True)
    ratio = log_ratio.clamp(-MAX_LOG_RATIO, MAX_LOG_RATIO).exp()
    return ratio.expand_as(mask)


def kl_to(current: Tensor, reference: Tensor, kind: Kl) -> Tensor:
    """Estimate of KL(pi || reference) at each token, by samples of pi. [N, T]"""
    d = (reference - current).clamp(-MAX_LOG_RATIO, MAX_LOG_RATIO)
    if kind == "k1":
        return -d
    return d.square() / 2 if kind == "k2" else d.exp() - d - 1


def _masked(values: Tensor, mask: Tensor) -> Tensor:
    """Values of the tokens, 0 outside the mask. [N] or [N, T] -> [N, T]"""
    return torch.where(mask, values if values.dim() == 2 else values.unsqueeze(-1), 0.0)


def _truncate(ratio: Tensor, o: Objective) -> Tensor:
    return ratio.detach().clamp(max=o.tis_cap)


def _reject(ratio: Tensor, o: Objective) -> Tensor:
    ratio = ratio.detach()
    return torch.where((ratio >= o.mask_low) & (ratio <= o.mask_high), ratio, 0.0)


def _mean(values: Tensor, mask: Tensor) -> Tensor:
    """Over the tokens of each rollout. [N, T] -> [N, 1]"""
    return torch.where(mask, values, 0.0).sum(-1, keepdim=True) / mask.sum(-1, keepdim=True).clamp(min=1)


def _token_weights(o: Objective, mask: Tensor, group: Tensor | None) -> Tensor:
    if group is None and o.weighting.startswith("prompt"):
        raise ValueError(f"group is None, but the objective has weighting = {o.weighting}")
    number = torch.zeros(len(mask), dtype=torch.int64) if group is None else group
    weights = rollout_weights(
        mask.sum(-1).cpu().numpy(), number.cpu().numpy(), o.weighting, o.length_constant or mask.shape[-1]
    )
    return torch.as_tensor(weights, device=mask.device)
