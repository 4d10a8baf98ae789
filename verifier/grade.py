"""Holds what every grader returns: an outcome, a reward and the reason."""

from typing import NamedTuple

from stream.messages import FoundBy, Outcome, Rule


class Grade(NamedTuple):
    """What a grader says of one answer."""

    outcome: Outcome
    reward: float
    """In [0, 1]."""
    reason: str
    found_by: FoundBy = ""
    answer: str = ""
    """The answer that was found; empty if none was."""
    rule: Rule = ""
    """`echo` if this is an expression of the gold number's value, which is wrong unless `verifier.echo` counts it."""

    def at(self, found_by: FoundBy, answer: str) -> "Grade":
        """The same of an answer that was found there; thrice as fast as `_replace`."""
        return Grade(self.outcome, self.reward, self.reason, found_by, answer, self.rule)


class BadGold(ValueError):
    """The reference answer cannot be used: a mistake in the data, not the model's."""


def correct(reason: str) -> Grade:
    """Full reward."""
    return Grade("correct", 1.0, reason)


def wrong(reason: str) -> Grade:
    """An answer was found, and it is not the gold one."""
    return Grade("wrong", 0.0, reason)


def unparsable(reason: str) -> Grade:
    """There is no answer that could be compared."""
    return Grade("unparsable", 0.0, reason)
