"""Treats long completions: keeps them, leaves cut-off ones out of the loss, or takes reward off all long ones."""

from dataclasses import dataclass
from typing import Literal

from stream.messages import Verdict


@dataclass(frozen=True, slots=True, kw_only=True)
class Overlong:
    """How long completions are treated. `filter` and `penalty` are DAPO's two ways (arXiv 2503.14476, section 3.4).

    Raises:
        ValueError: a penalty without a buffer.

    """

    mode: Literal["keep", "filter", "penalty"] = "keep"
    buffer: int = 0
    """Tokens below the limit over which the penalty grows from 0 to `factor`."""
    factor: float = 1.0
    """Reward that a completion of all allowed tokens loses."""

    def __post_init__(self) -> None:
        if self.mode == "penalty" and self.buffer <= 0:
            raise ValueError(f"overlong_buffer is {self.buffer} with overlong = 'penalty'; want at least 1 token")

    def reward(self, verdict: Verdict) -> float:
        """The verdict's reward, and with `penalty` min(0, (limit - buffer - length) / buffer * factor) added to it."""
        if self.mode != "penalty":
            return verdict.reward
        trajectory = verdict.trajectory
        room = trajectory.job.sampling.max_tokens - self.buffer - trajectory.token_ids.size
        return verdict.reward + min(room / self.buffer * self.factor, 0.0)

    def in_loss(self, verdict: Verdict) -> bool:
        """Whether the rollout is in the loss; one that is not still counts in its group's mean."""
        trajectory = verdict.trajectory
        cut_off = self.mode == "filter" and trajectory.finish_reason == "length"
        return trajectory.token_ids.size > 0 and not cut_off


KEEP = Overlong()
