"""Issues what the allocator asks for: open groups in; jobs out, and verdicts on rollouts that are given up."""

import time
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from allocator.ledger import Entry, Slice
from stream.config import SamplingTable
from stream.messages import Job, Prompt, Sampling, Timing, Trajectory, Verdict
from stream.run_topics import RunTopics
from stream.topics import JOBS, VERDICTS


class Issuer:
    """Writes the jobs of a run's groups."""

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

    def issue(
        self, topics: RunTopics, entry: Entry, piece: Slice, policy_version: int, rollouts: range | None = None
    ) -> None:
        """Ask for a slice, or for these rollouts of it, to be sampled by weights of this version or a newer one."""
        asked = range(piece.start, piece.stop) if rollouts is None else rollouts
        job = self._job(entry, asked, piece.attempt, policy_version)
        topics.send(JOBS, f"{entry.group.group_id}/{asked.start}", job, partition=piece.partition)

    def give_up(self, topics: RunTopics, entry: Entry, rollout_index: int, num_issues: int) -> None:
        """Close a rollout for which nothing has come by a verdict that says so."""
        trajectory = Trajectory(
            job=self._job(entry, range(rollout_index, rollout_index + 1), num_issues, 0),
            rollout_index=rollout_index,
            trajectory_id=f"{entry.group.group_id}/{rollout_index}/abandoned",
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
        verdict = Verdict(trajectory=trajectory, outcome="abandoned", reward=0.0, reason=reason, created_s=time.time())
        topics.send_of_group(VERDICTS, entry.group.group_id, verdict)

    def _job(self, entry: Entry, rollouts: range, attempt: int, policy_version: int) -> Job:
        return Job(
            group_id=entry.group.group_id,
            start=rollouts.start,
            stop=rollouts.stop,
            num_rollouts=entry.group.num_rollouts,
            prompt=self._pool[entry.prompt_id],
            prompt_token_ids=self._token_ids[entry.prompt_id],
            sampling=self._sampling,
            budgeting=entry.group.budgeting,
            min_policy_version=policy_version,
            round=entry.group.round,
            attempt=attempt,
            created_s=time.time(),
        )
