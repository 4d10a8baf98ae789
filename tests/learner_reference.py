"""The objectives once more, by other means: plain numbers, one token after the other, gradients by hand. No torch.

Every function returns the surrogate s and ds/dlogpi of one token at fixed weights; `loss_and_gradient` adds them up.
"""

import math

CAP = 20.0


def ratios(log_ratios, level):
    """Ratio of each token of one rollout, and d log ratio / d logpi of one token (None: by itself only)."""
    if level == "token":
        return [math.exp(x) for x in log_ratios]
    total = math.fsum(log_ratios)
    return [math.exp(total / len(log_ratios) if level == "sequence_mean" else total)] * len(log_ratios)


def clip(x, low, high):
    return min(max(x, low), high)


def surrogate(o, r, logp, anchor, a):
    """Value, derivative with respect to log r, derivative with respect to logpi at fixed r, and whether it is kept."""
    if o.trust_region == "none":
        return r * a, r * a, 0.0, True
    if o.trust_region == "ppo_clip":
        c = clip(r, 1 - o.clip_low, 1 + o.clip_high)
        value, slope = (r * a, r * a) if r * a <= c * a else (c * a, 0.0)
        if o.dual_clip is not None and a < 0 and value < o.dual_clip * a:
            value, slope = o.dual_clip * a, 0.0
        return value, slope, 0.0, True
    if o.trust_region == "cispo":
        c = clip(r, 1 - o.clip_low, 1 + o.clip_high)
        return c * a * logp, 0.0, c * a, True
    if o.trust_region == "tis":
        c = min(r, o.tis_cap)
        return c * a * logp, 0.0, c * a, True
    if o.trust_region == "icepop":
        inside = o.mask_low <= r <= o.mask_high
        return (r * a * logp, 0.0, r * a, True) if inside else (0.0, 0.0, 0.0, False)
    if o.trust_region == "dppo":
        moved = math.exp(logp) - math.exp(anchor)
        out = moved > o.dppo_high if a > 0 else moved < -o.dppo_low
        return (0.0, 0.0, 0.0, False) if out else (r * a, r * a, 0.0, True)
    raise AssertionError(o.trust_region)


def loss_and_gradient(o, rows):
    """Loss, gradient by row and token, and the number of rejected tokens.

    Each row is a dict of lists logp, behavior, proximal, reference, mask, and numbers a, w (weight of its tokens).
    """
    loss, rejected = 0.0, 0
    gradient = [[0.0] * len(row["mask"]) for row in rows]
    for number, row in enumerate(rows):
        at = [t for t, m in enumerate(row["mask"]) if m]
        if not at:
            continue
        logp, mu = [row["logp"][t] for t in at], [row["behavior"][t] for t in at]
        anchor = {"none": logp, "behavior": mu, "proximal": [row["proximal"][t] for t in at]}[o.ratio]
        r = ratios([p - q for p, q in zip(logp, anchor, strict=True)], o.level)
        rho = ratios([p - q for p, q in zip(anchor, mu, strict=True)], o.correction_level)
        drift = math.fsum(q - p for p, q in zip(logp, mu, strict=True)) / len(at)
        dropped = o.opsm is not None and row["a"] < 0 and drift > o.opsm
        for i, t in enumerate(at):
            value, by_log_ratio, by_logp, kept = surrogate(o, r[i], logp[i], anchor[i], row["a"])
            factor = 1.0
            if o.correction == "tis":
                factor = min(rho[i], o.tis_cap)
            if o.correction == "icepop":
                inside = o.mask_low <= rho[i] <= o.mask_high
                factor, kept = (rho[i] if inside else 0.0), kept and inside
            if dropped or not kept:
                rejected += 1
            else:
                loss -= row["w"] * factor * value
                gradient[number][t] -= row["w"] * factor * by_logp
                share = {"token": None, "sequence_mean": 1 / len(at), "sequence_product": 1.0}[o.level]
                for s in [t] if share is None else at:
                    gradient[number][s] -= row["w"] * factor * by_log_ratio * (1.0 if share is None else share)
            if o.kl_coef:
                d = row["reference"][t] - logp[i]
                value, slope = {
                    "k1": (-d, 1.0),
                    "k2": (d * d / 2, -d),
                    "k3": (math.exp(d) - d - 1, 1 - math.exp(d)),
                }[o.kl]
                loss += row["w"] * o.kl_coef * value
                gradient[number][t] += row["w"] * o.kl_coef * slope
            if o.behavior_penalty:
                loss += row["w"] * o.behavior_penalty * (logp[i] - mu[i]) ** 2
                gradient[number][t] += row["w"] * o.behavior_penalty * 2 * (logp[i] - mu[i])
    return loss, gradient, rejected
