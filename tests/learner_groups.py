"""Random groups of rollouts for the learner's tests; tokens are below 24."""

import numpy as np
from factories import make_job, make_verdict

from learner.groups import Group


def random_groups(seed: int = 0, num_groups: int = 3) -> list[Group]:
    """Groups of 2 to 4 rollouts of uneven lengths, half of them right."""
    rng = np.random.default_rng(seed)
    groups = []
    for number in range(num_groups):
        size = int(rng.integers(2, 5))
        prompt = rng.integers(1, 24, rng.integers(2, 6)).astype(np.int32)
        job = make_job(f"g{number}", size, prompt_token_ids=prompt)
        verdicts = {}
        for rollout in range(size):
            tokens = rng.integers(1, 24, rng.integers(1, 7))
            logprobs = rng.uniform(-4, -2, tokens.size).astype(np.float32)
            verdicts[rollout] = make_verdict(
                rollout_index=rollout, reward=float(rollout % 2), job=job, token_ids=tokens, behavior_logprobs=logprobs
            )
        groups.append(Group(f"g{number}", size, verdicts))
    return groups
