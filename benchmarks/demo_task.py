"""Samples and grades the demo's task in one process: prompts as tokens, groups of rollouts, exact accuracy.

Sampling is a small loop of its own; everything that learns from the groups is the learner's code.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from learner.groups import Group
from prompts.codes import generate_prompts
from prompts.tokens import load_tokenizer
from stream.messages import Job, Prompt, Sampling, Span, Timing, Trajectory, Verdict

MAX_TOKENS = 8
Item = tuple[Prompt, np.ndarray, np.ndarray]
"""A prompt, its token ids, and those of the right answer, the end token included."""


class Task:
    """Prompts of the demo as tokens, with their answers."""

    def __init__(self, model: str, num_pool: int, num_heldout: int) -> None:
        tokenizer = load_tokenizer(model)
        self.end = int(tokenizer.eos_token_id)
        self.pool = self._load(tokenizer, num_pool, "pool")
        self.heldout = self._load(tokenizer, num_heldout, "heldout")

    def _load(self, tokenizer: Any, number: int, split: str) -> list[Item]:
        items = []
        for fields in generate_prompts(number, 0, split):
            answer = [*tokenizer(" ".join(fields["answer"]))["input_ids"], self.end]
            prompt_ids = np.array(tokenizer(fields["text"])["input_ids"], dtype=np.int32)
            items.append((Prompt(**fields), prompt_ids, np.array(answer, dtype=np.int32)))  # type: ignore[arg-type]
        return items


def graded_groups(
    model: Any, version: int, items: Sequence[Item], sizes: Sequence[int], end: int, generator: torch.Generator
) -> list[Group]:
    """One group of `sizes[i]` rollouts of each item, sampled by the model as policy version `version`, and graded."""
    jobs = [
        Job(
            group_id=prompt.prompt_id, start=0, stop=size, num_rollouts=size, prompt=prompt, prompt_token_ids=ids,
            sampling=Sampling(max_tokens=MAX_TOKENS),
        )
        for (prompt, ids, _), size in zip(items, sizes, strict=True)
    ]  # fmt: skip
    groups = {job.group_id: Group(job.group_id, job.num_rollouts) for job in jobs}
    answers = {prompt.prompt_id: answer for prompt, _, answer in items}
    for verdict in graded(model, version, jobs, answers, end, generator):
        groups[verdict.trajectory.job.group_id].verdicts[verdict.trajectory.rollout_index] = verdict
    return list(groups.values())


def graded(
    model: Any,
    version: int,
    jobs: Sequence[Job],
    answers: Mapping[str, np.ndarray],
    end: int,
    generator: torch.Generator,
) -> list[Verdict]:
    """Verdicts on all rollouts of the jobs, sampled by the model as policy version `version`; answers by prompt id."""
    rollouts = [(job, rollout_index) for job in jobs for rollout_index in range(job.start, job.stop)]
    prompts = np.stack([job.prompt_token_ids for job, _ in rollouts]).astype(np.int64)
    tokens, logprobs = sample(model, torch.as_tensor(prompts), MAX_TOKENS, end, generator)
    return [
        _verdict(job, index, version, tokens[row], logprobs[row], end, answers[job.prompt.prompt_id])
        for row, (job, index) in enumerate(rollouts)
    ]


def _verdict(
    job: Job, rollout_index: int, version: int, tokens: np.ndarray, logprobs: np.ndarray, end: int, answer: np.ndarray
) -> Verdict:
    at_end = tokens == end
    stop = int(np.argmax(at_end)) + 1 if at_end.any() else tokens.size
    trajectory = Trajectory(
        job=job, rollout_index=rollout_index, trajectory_id=f"{job.group_id}.{rollout_index}", token_ids=tokens[:stop],
        behavior_logprobs=logprobs[:stop], spans=(Span(policy_version=version, start=0, stop=stop),),
        text="", finish_reason="stop", timing=Timing(queued_s=0.0, generated_s=0.0), producer="here",
    )  # fmt: skip
    correct = np.array_equal(tokens[:stop], answer)
    return Verdict(trajectory=trajectory, outcome="correct" if correct else "wrong", reward=float(correct))


def has_gradient(group: Group) -> bool:
    """Whether the group's rewards differ."""
    return len({verdict.reward for verdict in group.graded}) > 1


@torch.no_grad()
def sample(
    model: Any, prompts: torch.Tensor, num_tokens: int, end: int, generator: torch.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Completions at temperature 1 and their logprobs. [B, L] -> [B, num_tokens] twice; after `end` they are junk."""
    cache, inputs = None, prompts
    tokens, logprobs = [], []
    for _ in range(num_tokens):
        out = model(input_ids=inputs, past_key_values=cache, use_cache=True, logits_to_keep=1)
        cache, distribution = out.past_key_values, torch.log_softmax(out.logits[:, -1].float(), dim=-1)
        inputs = torch.multinomial(distribution.exp(), 1, generator=generator)
        tokens.append(inputs[:, 0])
        logprobs.append(distribution.gather(-1, inputs)[:, 0])
        if all((torch.stack(tokens) == end).any(0)):
            break
    return torch.stack(tokens, 1).numpy().astype(np.int32), torch.stack(logprobs, 1).numpy()


def accuracy(model: Any, items: Sequence[Item]) -> float:
    """Mean probability that a completion at temperature 1 is the right answer."""
    return float(success_rates(model, items).mean())


@torch.no_grad()
def success_rates(model: Any, items: Sequence[Item]) -> np.ndarray:
    """Probability that a completion of each item at temperature 1 is the right answer. [items]"""
    longest = max(len(answer) for _, _, answer in items)
    rows = np.zeros((len(items), len(items[0][1]) + longest), dtype=np.int64)
    mask = np.zeros((len(items), longest), dtype=bool)
    for i, (_, ids, answer) in enumerate(items):
        rows[i, : len(ids) + len(answer)] = [*ids, *answer]
        mask[i, : len(answer)] = True
    tokens = torch.as_tensor(rows)
    start = len(items[0][1])
    logprobs = torch.log_softmax(model(input_ids=tokens[:, :-1]).logits[:, start - 1 :].float(), dim=-1)
    chosen = logprobs.gather(-1, tokens[:, start:, None])[..., 0]
    return (chosen * torch.as_tensor(mask)).sum(-1).exp().numpy().astype(np.float64)
