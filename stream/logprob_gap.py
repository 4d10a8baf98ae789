"""Judges whether engine and learner compute the same probabilities: one rule for the learner's log, screen, page and report. Pure.

What enters are two figures of an update, what leaves is what is wrong. The gap, mean abs(log pi - log mu) where the same weights
sampled and train, is rounding alone: 3e-7 nats with float32 on both sides, .037 for an engine in bfloat16 on a GPU beside a
learner in float32; two layers' matrices exchanged in the engine give .2 to 8. Where no rollout is as fresh, the distance,
the same over tokens of any age, has the policy's steps in it as well: .01 to .3 nats, where training goes well.
"""

LOGPROB_GAP_NATS = 0.1
"""Mean distance at equal weights: rounding alone stays well below."""
LOGPROB_DISTANCE_NATS = 1.0
"""Mean distance at weights of any age: the steps between them alone stay well below."""
REMEDY = (
    "The learner trains on other probabilities than were sampled from: compare dtype, attention kernel and model "
    "files of producers and learner. Until then the importance ratios correct a bug instead of staleness."
)


def gap_fault(gap: float | None, distance: float | None) -> str:
    """What is wrong between engine and learner, empty if nothing is.

    Args:
        gap: `learner/logprob_gap/mean`, nats a token; None if no rollout is of the weights that are trained.
        distance: `learner/logprob_distance`, nats a token.

    """
    if gap is not None:
        if not gap > LOGPROB_GAP_NATS:
            return ""
        return f"engine and learner differ by {gap:.3f} nats a token at equal weights (want below {LOGPROB_GAP_NATS:g})"
    if distance is None or not distance > LOGPROB_DISTANCE_NATS:
        return ""
    return f"engine and learner differ by {distance:.3f} nats a token, more than staleness explains (want below {LOGPROB_DISTANCE_NATS:g})"
