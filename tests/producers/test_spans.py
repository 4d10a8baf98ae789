import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from producers.spans import policy_version, version_spans
from stream.messages import Span


def test_neighbours_of_one_version_are_joined_and_empty_stretches_left_out():
    spans = version_spans([("3", 0, 2), ("3", 2, 4), ("4", 4, 4), ("5", 4, 6)], 6)
    assert spans == (Span(policy_version=3, start=0, stop=4), Span(policy_version=5, start=4, stop=6))


def test_no_tokens_have_no_spans():
    assert version_spans([], 0) == ()


@pytest.mark.parametrize(
    "stretches", [[], [("1", 0, 3)], [("1", 1, 4)], [("1", 0, 3), ("2", 2, 4)], [("1", 0, 4), ("1", 4, 3)]]
)
def test_tokens_without_a_version_or_with_two_are_refused(stretches):
    with pytest.raises(ValueError, match="weight versions"):
        version_spans(stretches, 4)


@pytest.mark.parametrize("label", ["default", "", "-1", "1.0"])
def test_a_label_that_we_did_not_set_is_refused(label):
    with pytest.raises(ValueError, match="want a policy version"):
        policy_version(label)


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 4))))
def test_every_token_keeps_its_version(stretches):
    versions: list[int] = []
    named = []
    for version, length in stretches:
        named.append((str(version), len(versions), len(versions) + length))
        versions += [version] * length
    spans = version_spans(named, len(versions))
    assert [span.policy_version for span in spans for _ in range(span.start, span.stop)] == versions
    assert all(a.policy_version != b.policy_version for a, b in itertools.pairwise(spans))
