"""The messages that the allocator issues: jobs, and verdicts on rollouts that were given up."""

import time
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from allocator.ledger import Entry
from stream.config import SamplingTable
from stream.messages import Job, Prompt, Sampling, Timing, Trajectory, Verdict


class JobMaker:
    """Makes the jobs of a run's groups."""

    def __init__(
        self, sampling: SamplingTable, pool: Mapping[str, Prompt], token_ids: Mapping[str, NDArray[np.int32]]
    ) -> None:
        self._pool = pool
        self._token_ids = token_ids
        self._sampling = Sampling(
            temperature=sampling.temperature,
            top_p=sampling.top_p,
            top_k=sampling.top_k,
            max_tokens=sampling.max_tokens,
        )

    def job(self, entry: Entry, start: int, stop: int, *, attempt: int, min_policy_version: int) -> Job:
        """Rollouts [start, stop) of a group."""
        return Job(
            group_id=entry.group.group_id,
            start=start,
            stop=stop,
            num_rollouts=entry.group.num_rollouts,
            prompt=self._pool[entry.prompt_id],
            prompt_token_ids=self._token_ids[entry.prompt_id],
            sampling=self._sampling,
            budgeting=entry.group.budgeting,
            min_policy_version=min_policy_version,
            round=entry.group.round,
            attempt=attempt,
            created_s=time.time(),
        )

    def abandoned(self, entry: Entry, rollout: int, num_issues: int) -> Verdict:
        """Closes one rollout by saying that there is none, where its verdict would have stood."""
        trajectory = Trajectory(
            job=self.job(entry, rollout, rollout + 1, attempt=num_issues, min_policy_version=0),
            rollout_index=rollout,
            trajectory_id=f"{entry.group.group_id}/{rollout}/abandoned",
            token_ids=np.empty(0, dtype=np.int32),
            behavior_logprobs=np.empty(0, dtype=np.float32),
            spans=(),
            text="",
            finish_reason="abandoned",
            timing=Timing(queued_s=0.0, generated_s=0.0),
            producer="",
            created_s=time.time(),
        )
        reason = f"no verdict after {num_issues} issues"
        return Verdict(trajectory=trajectory, outcome="abandoned", reward=0.0, reason=reason, created_s=time.time())
