"""Turns the engine's labels of a completion's tokens into policy-version spans.

Enters: stretches of (version label, start, stop) in order. Leaves: `Span`s that cover [0, T) exactly, neighbours with
different versions. T is the number of tokens of the completion.
"""

from collections.abc import Iterable

from stream.messages import Span


def version_spans(stretches: Iterable[tuple[str, int, int]], num_tokens: int) -> tuple[Span, ...]:
    """Spans that cover [0, num_tokens) in order; neighbours of one version are joined, empty ones left out.

    Raises:
        ValueError: a token has no version or two, or a label is not a policy version.

    """
    spans: list[Span] = []
    covered = 0
    for label, start, stop in stretches:
        if start != covered or stop < start:
            raise ValueError(f"weight versions go from token {start} to {stop} after token {covered}")
        covered = stop
        version = policy_version(label)
        if start == stop:
            continue
        if spans and spans[-1].policy_version == version:
            start = spans.pop().start
        spans.append(Span(policy_version=version, start=start, stop=stop))
    if covered != num_tokens:
        raise ValueError(f"weight versions cover {covered} of {num_tokens} tokens")
    return tuple(spans)


def policy_version(label: str) -> int:
    """The policy version that a label of the engine names.

    Raises:
        ValueError: the label is vLLM's own: tokens were sampled before the engine was told its first version.

    """
    if not label.isdecimal():
        raise ValueError(f"weight version is {label!r}; want a policy version such as '12'")
    return int(label)
