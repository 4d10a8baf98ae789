"""When engine and learner are too far apart."""

import pytest

from stream.logprob_gap import LOGPROB_DISTANCE_NATS, LOGPROB_GAP_NATS, gap_fault


@pytest.mark.parametrize(
    ("gap", "distance", "fault"),
    [
        (LOGPROB_GAP_NATS, 5.0, ""),  # equal weights agree: what is left is the policy's own steps
        (0.037, 0.037, ""),
        (0.25, 0.25, "engine and learner differ by 0.250 nats a token at equal weights (want below 0.1)"),
        (None, LOGPROB_DISTANCE_NATS, ""),
        (None, 1.5, "engine and learner differ by 1.500 nats a token, more than staleness explains (want below 1)"),
        (None, None, ""),
        (float("nan"), 5.0, ""),
        (None, float("nan"), ""),
    ],
)
def test_a_gap_at_equal_weights_is_judged_first_and_without_one_the_distance(gap, distance, fault):
    assert gap_fault(gap, distance) == fault
