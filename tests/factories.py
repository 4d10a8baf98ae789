"""Small messages for tests, each field with a default that a test overrides where it matters."""

from typing import Any

import numpy as np

from stream.messages import Job, Prompt, Sampling, Span, Timing, Trajectory, Verdict


def make_prompt(prompt_id: str = "p0", **fields: Any) -> Prompt:
    values = {"text": "1+1=", "answer": "2", "grader": "integer", "task": "sum", "level": "easy"} | fields
    return Prompt(prompt_id=prompt_id, **values)


def make_job(group_id: str = "p0.0000", num_rollouts: int = 4, **fields: Any) -> Job:
    values: dict[str, Any] = {
        "start": 0,
        "stop": num_rollouts,
        "prompt": make_prompt(group_id.rpartition(".")[0] or group_id),
        "prompt_token_ids": np.array([1, 2, 3], dtype=np.int32),
        "sampling": Sampling(max_tokens=8),
    } | fields
    return Job(group_id=group_id, num_rollouts=num_rollouts, **values)


def make_trajectory(job: Job | None = None, rollout_index: int = 0, version: int = 0, **fields: Any) -> Trajectory:
    job = job or make_job()
    token_ids = np.asarray(fields.pop("token_ids", [5, 6]), dtype=np.int32)
    values: dict[str, Any] = {
        "trajectory_id": f"{job.group_id}/{rollout_index}",
        "behavior_logprobs": np.full(token_ids.size, -0.5, dtype=np.float32),
        "spans": (Span(policy_version=version, start=0, stop=token_ids.size),),
        "text": "2",
        "finish_reason": "stop",
        "timing": Timing(queued_s=0.0, generated_s=0.1),
        "producer": "producer-0",
    } | fields
    return Trajectory(job=job, rollout_index=rollout_index, token_ids=token_ids, **values)


def make_verdict(
    group_id: str = "p0.0000", rollout_index: int = 0, reward: float = 1.0, num_rollouts: int = 4, **fields: Any
) -> Verdict:
    outcome = fields.pop("outcome", "correct" if reward > 0 else "wrong")
    trajectory = make_trajectory(fields.pop("job", None) or make_job(group_id, num_rollouts), rollout_index, **fields)
    return Verdict(trajectory=trajectory, outcome=outcome, reward=reward, grader="integer")
