import pytest

from stream.messages import GroupEnd
from stream.ratios import GradientRatios, gradient_ratios


def end(ending: str, num_graded: int, num_rollouts: int = 8) -> GroupEnd:
    return GroupEnd(
        group_id="g", ending=ending, num_rollouts=num_rollouts, num_graded=num_graded, reward_sum=1.0, staleness=0
    )  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("ends", "samples", "prompts"),
    [
        ([end("trained", 8), end("zero_variance", 8)], 1 / 2, 1 / 2),
        ([end("trained", 24, 24), end("zero_variance", 8), end("zero_variance", 8)], 24 / 40, 1 / 3),
        ([end("stale", 8), end("zero_variance", 8)], 1 / 2, 1 / 2),
        ([end("trained", 4), end("zero_variance", 6)], 4 / 10, 1 / 2),
        ([end("trained", 8), end("zero_variance", 0), end("abandoned", 0)], 1.0, 1.0),
        ([end("trained", 8), end("abandoned", 1)], 8 / 9, 1 / 2),
        ([end("zero_variance", 8)], 0.0, 0.0),
    ],
)
def test_ratios_count_graded_rollouts_and_groups_that_have_one(
    ends: list[GroupEnd], samples: float, prompts: float
) -> None:
    assert gradient_ratios(ends) == GradientRatios(samples, prompts)


@pytest.mark.parametrize("ends", [[], [end("zero_variance", 0)]])
def test_without_a_graded_rollout_there_is_no_ratio(ends: list[GroupEnd]) -> None:
    assert gradient_ratios(ends) == GradientRatios(None, None)
