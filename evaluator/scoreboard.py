"""Collects the verdicts of one evaluation, and makes its result of them. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from evaluator.scores import Sample, answer_of, metrics_of
from stream.messages import Evaluation, Prompt, PromptScore, Verdict


@dataclass(slots=True, kw_only=True)
class Scoreboard:
    """Verdicts of `samples` rollouts of every prompt, sampled by weights no older than `policy_version`."""

    name: str
    """The set of prompts."""
    policy_version: int
    step: int
    prompts: Sequence[Prompt]
    samples: int
    temperature: float
    final: bool
    verdicts: dict[tuple[str, int], Verdict] = field(default_factory=dict)
    """By prompt id and rollout index."""

    def record(self, verdict: Verdict) -> bool:
        """Keep a rollout's first verdict; False if older weights sampled it, so that the rollout must be sampled again."""
        trajectory = verdict.trajectory
        if trajectory.token_ids.size and trajectory.min_policy_version < self.policy_version:
            return False
        self.verdicts.setdefault((trajectory.job.prompt.prompt_id, trajectory.rollout_index), verdict)
        return True

    @property
    def complete(self) -> bool:
        """Every rollout has a verdict."""
        return len(self.verdicts) == len(self.prompts) * self.samples

    def result(self, created_s: float) -> Evaluation:
        """The result of what has come so far. A rollout without a verdict, or without a grade, counts as not correct."""
        versions = [span.policy_version for v in self.verdicts.values() for span in v.trajectory.spans]
        scores = tuple(self._score(prompt) for prompt in self.prompts)
        num_rollouts = max(sum(score.num_rollouts for score in scores), 1)
        return Evaluation(
            name=self.name,
            policy_version=self.policy_version,
            step=self.step,
            min_policy_version=min(versions, default=self.policy_version),
            max_policy_version=max(versions, default=self.policy_version),
            accuracy=sum(score.reward_sum for score in scores) / num_rollouts,
            temperature=self.temperature,
            scores=scores,
            metrics=metrics_of([self._samples(prompt) for prompt in self.prompts]),
            final=self.final,
            created_s=created_s,
        )

    def _samples(self, prompt: Prompt) -> list[Sample]:
        return [
            Sample(verdict.reward, answer_of(verdict)) if verdict is not None else Sample(0.0, None)
            for verdict in self._graded(prompt)
        ]

    def _score(self, prompt: Prompt) -> PromptScore:
        rewards = [verdict.reward for verdict in self._graded(prompt) if verdict is not None]
        return PromptScore(
            prompt_id=prompt.prompt_id,
            task=prompt.task,
            level=prompt.level,
            num_rollouts=self.samples,
            num_graded=len(rewards),
            reward_sum=sum(rewards),
        )

    def _graded(self, prompt: Prompt) -> list[Verdict | None]:
        """The verdict of each rollout of a prompt; None if there is none, or it has no grade."""
        verdicts = [self.verdicts.get((prompt.prompt_id, index)) for index in range(self.samples)]
        return [verdict if verdict is not None and verdict.graded else None for verdict in verdicts]
