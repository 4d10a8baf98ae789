"""From groups to tensors: trained rollouts, sorted by length, cut into micro-batches of bounded size.

Legend: N rollouts, B rollouts of a micro-batch, L its longest sequence, T its completion tokens, flat.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from learner.advantages import advantages, rollout_weights
from learner.groups import Group
from stream.messages import Verdict


@dataclass(frozen=True, slots=True, kw_only=True)
class MicroBatch:
    """Right-padded sequences and, flat, what the loss needs of their completion tokens."""

    input_ids: Tensor  # [B, L] int64
    rows: Tensor  # [T] int64: sequence of each completion token
    columns: Tensor  # [T] int64: position whose logits predict it
    token_ids: Tensor  # [T] int64
    behavior_logprobs: Tensor  # [T] float32
    policy_versions: Tensor  # [T] int64: weights that sampled it
    advantages: Tensor  # [T] float32
    weights: Tensor  # [T] float32
    temperature: Tensor  # [T] float32


@dataclass(frozen=True, slots=True)
class Rollout:
    """One trained rollout with its advantage and the weight of each of its tokens."""

    verdict: Verdict
    advantage: float
    weight: float

    @property
    def length(self) -> int:
        """Tokens of prompt and completion."""
        trajectory = self.verdict.trajectory
        return int(trajectory.job.prompt_token_ids.size + trajectory.token_ids.size)


def weigh(groups: Sequence[Group], advantage: str, clamp: float | None, weighting: str) -> list[Rollout]:
    """All rollouts of the groups that have a grade and tokens, with advantages and weights; groups as they stand."""
    verdicts = [verdict for group in groups for verdict in group.graded]
    number = np.array([i for i, group in enumerate(groups) for _ in group.graded], dtype=np.int64)
    rewards = np.array([verdict.reward for verdict in verdicts], dtype=np.float64)
    num_tokens = np.array([verdict.trajectory.token_ids.size for verdict in verdicts], dtype=np.int64)
    values = advantages(rewards, number, advantage, clamp)
    weights = rollout_weights(num_tokens, number, weighting)
    rollouts = map(Rollout, verdicts, values.tolist(), weights.tolist())
    return [rollout for rollout in rollouts if rollout.verdict.trajectory.token_ids.size]


def micro_batches(rollouts: Sequence[Rollout], max_tokens: int) -> Iterator[list[Rollout]]:
    """Rollouts of like length together, as many as fit `max_tokens` with padding; a longer one goes alone."""
    batch: list[Rollout] = []
    for rollout in sorted(rollouts, key=lambda r: -r.length):
        if batch and (len(batch) + 1) * batch[0].length > max_tokens:
            yield batch
            batch = []
        batch.append(rollout)
    if batch:
        yield batch


def collate(rollouts: Sequence[Rollout], pad_token_id: int, device: torch.device) -> MicroBatch:
    """Tensors of one micro-batch. Padding is on the right, so causal attention never sees it."""
    trajectories = [rollout.verdict.trajectory for rollout in rollouts]
    input_ids = np.full((len(rollouts), max(r.length for r in rollouts)), pad_token_id, dtype=np.int64)
    columns = []
    for row, trajectory in enumerate(trajectories):
        prompt, completion = trajectory.job.prompt_token_ids, trajectory.token_ids
        input_ids[row, : prompt.size] = prompt
        input_ids[row, prompt.size : prompt.size + completion.size] = completion
        columns.append(np.arange(prompt.size - 1, prompt.size - 1 + completion.size))
    sizes = [trajectory.token_ids.size for trajectory in trajectories]

    def flat(arrays: Sequence[np.ndarray], dtype: torch.dtype) -> Tensor:
        return torch.as_tensor(np.concatenate(arrays), dtype=dtype, device=device)

    def spread(values: Sequence[float], dtype: torch.dtype) -> Tensor:
        return torch.as_tensor(np.repeat(values, sizes), dtype=dtype, device=device)

    return MicroBatch(
        input_ids=torch.as_tensor(input_ids, device=device),
        rows=spread(range(len(rollouts)), torch.int64),
        columns=flat(columns, torch.int64),
        token_ids=flat([t.token_ids for t in trajectories], torch.int64),
        behavior_logprobs=flat([t.behavior_logprobs for t in trajectories], torch.float32),
        policy_versions=flat(
            [np.full(s.stop - s.start, s.policy_version) for t in trajectories for s in t.spans], torch.int64
        ),
        advantages=spread([r.advantage for r in rollouts], torch.float32),
        weights=spread([r.weight for r in rollouts], torch.float32),
        temperature=spread([t.job.sampling.temperature for t in trajectories], torch.float32),
    )
