"""A made-up run, consistent with the laws, written to a broker the way the roles write it, with the figures it has."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

from stream.broker import Broker
from stream.memory import MemoryBroker
from stream.messages import (
    Belief,
    Budgeting,
    Commit,
    DeadLetter,
    Evaluation,
    GroupEnd,
    Heartbeat,
    Job,
    Policy,
    Prompt,
    PromptScore,
    Sampling,
    Span,
    Timing,
    Trajectory,
    Update,
    Verdict,
)
from stream.run_topics import RunTopics
from stream.topics import (
    BELIEFS,
    DEADLETTERS,
    EVALUATIONS,
    HEARTBEATS,
    JOBS,
    POLICIES,
    TOPICS,
    TRAJECTORIES,
    UPDATES,
    VERDICTS,
)

START_S = 1_700_000_000.0
HOSTILE = '</script><script>alert("owned")</script><img src=x onerror=alert(1)>\u202e'
LEVELS = {"easy": 0.95, "middle": 0.5, "hard": 0.05}


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """What kind of run to make up."""

    run: str = "made"
    mode: str = "uniform"
    num_updates: int = 6
    num_prompts: int = 6
    num_rollouts: int = 8
    num_tokens: int = 12
    gain: float = 0.08
    """What one update adds to every success rate."""
    crash_at: int = 3
    """The learner loses the two updates after this one; 0 for never."""
    abandon: bool = True
    """The last round has a group of which half is abandoned."""
    hostile: bool = True
    final: bool = True
    heldout: int = 30
    seed: int = 0


@dataclass
class Expected:
    """What a reader must find."""

    num_rollouts: int = 0
    num_tokens: int = 0
    num_groups: int = 0
    num_duplicates: int = 0
    samples: list[int] = field(default_factory=lambda: [0, 0])
    """Graded rollouts in mixed groups, and in all."""
    mixed: list[int] = field(default_factory=lambda: [0, 0])
    """Mixed groups, and all."""
    endings: dict[str, int] = field(default_factory=dict)


class _Maker:
    def __init__(self, broker: Broker, recipe: Recipe) -> None:
        broker.create_topics(recipe.run, TOPICS, 2)
        self.log = RunTopics(broker, recipe.run, "maker-0")
        self.recipe = recipe
        self.random = np.random.default_rng(recipe.seed)
        self.expected = Expected()
        self.now_s = START_S
        self.version = 0

    def rates(self, round_: int) -> dict[str, float]:
        return {level: min(1.0, rate + self.recipe.gain * round_ * (1 - rate)) for level, rate in LEVELS.items()}

    def size_of(self, level: str, rate: float) -> int:
        """Rollouts of a prompt; the total of a round is the same in every mode."""
        if self.recipe.mode == "uniform":
            return self.recipe.num_rollouts
        return {"easy": 2, "middle": self.recipe.num_rollouts + 2, "hard": 2 * self.recipe.num_rollouts - 4}[level]

    def make_round(self, round_: int) -> tuple[GroupEnd, ...]:
        levels = list(LEVELS)
        last = self.recipe.abandon and round_ == self.recipe.num_updates - 1
        return tuple(
            self.make_group(round_, number, levels[number % 3], abandoned=last and number == 0)
            for number in range(self.recipe.num_prompts)
        )

    def make_group(self, round_: int, number: int, level: str, *, abandoned: bool) -> GroupEnd:
        rate = self.rates(round_)[level]
        size = self.size_of(level, rate)
        group_id = f"{self.recipe.run}-{round_}-{number}"
        rewards: list[float] = []
        for rollout in range(size):
            dead = abandoned and rollout >= size // 2
            reward = float(not dead and self.random.random() < rate)
            self.make_rollout(self.job(group_id, round_, number, level, rollout, size, rate), rollout, reward, dead)
            rewards += [] if dead else [reward]
        return self.end_group(group_id, size, rewards, abandoned)

    def end_group(self, group_id: str, size: int, rewards: list[float], abandoned: bool) -> GroupEnd:
        mixed = len(set(rewards)) > 1
        ending: Any = "abandoned" if abandoned else "trained" if mixed else "zero_variance"
        found = self.expected
        found.num_groups += 1
        found.num_rollouts += size
        found.samples[0] += len(rewards) * mixed
        found.samples[1] += len(rewards)
        found.mixed[0] += mixed
        found.mixed[1] += 1
        found.endings[ending] = found.endings.get(ending, 0) + 1
        return GroupEnd(
            group_id=group_id,
            ending=ending,
            num_rollouts=size,
            num_graded=len(rewards),
            reward_sum=sum(rewards),
            staleness=1 if self.version else 0,
        )

    def job(self, group_id: str, round_: int, number: int, level: str, rollout: int, size: int, rate: float) -> Job:
        start = rollout // 8 * 8
        job = Job(
            group_id=group_id,
            start=start,
            stop=min(start + 8, size),
            num_rollouts=size,
            prompt=Prompt(
                prompt_id=f"p{number}",
                text=f"What is {number} & 1?",
                answer="7",
                grader="math",
                task="t",
                level=level,
            ),
            prompt_token_ids=np.arange(1, 6, dtype=np.int32),
            sampling=Sampling(max_tokens=64),
            budgeting=Budgeting(
                mode=self.recipe.mode,
                success_rate=rate,
                num_observed=float(8 * round_),
                value=0.1,
                price=0.01,
                a=20 * min(rate, 0.999),
                b=20 * (1 - min(rate, 0.999)),
            ),
            round=round_,
            created_s=self.now_s,
        )
        if rollout == start:
            self.log.send(JOBS, f"{group_id}/{start}", job)
        return job

    def make_rollout(self, job: Job, rollout: int, reward: float, dead: bool) -> None:
        num_tokens = 0 if dead else self.recipe.num_tokens + rollout % 3
        self.expected.num_tokens += num_tokens
        self.now_s += 0.05
        outcome: Any = "abandoned" if dead else "correct" if reward else "wrong"
        text = HOSTILE if self.recipe.hostile and rollout % 2 else f"It is {'7' if reward else '8'}."
        self.publish(job, rollout, num_tokens, text, outcome, reward)
        if rollout == 1:  # delivered again: the other reward must not count
            self.expected.num_duplicates += 1
            self.publish(job, rollout, num_tokens, text, "wrong" if reward else "correct", 1 - reward)

    def publish(self, job: Job, rollout: int, num_tokens: int, text: str, outcome: Any, reward: float) -> None:
        half = num_tokens // 2
        older = Span(policy_version=max(0, self.version - 1), start=0, stop=half)
        newer = Span(policy_version=self.version, start=half, stop=num_tokens)
        trajectory = Trajectory(
            job=job,
            rollout_index=rollout,
            trajectory_id=f"{job.group_id}/{rollout}/{self.now_s}",
            token_ids=np.arange(num_tokens, dtype=np.int32),
            behavior_logprobs=np.full(num_tokens, -0.5, np.float32),
            spans=(older, newer) if num_tokens else (),
            text=text,
            finish_reason="stop" if num_tokens else "abandoned",
            timing=Timing(queued_s=0.1, generated_s=0.4),
            producer="producer-0",
            created_s=self.now_s + 0.5,
        )
        verdict = Verdict(
            trajectory=trajectory,
            outcome=outcome,
            reward=reward if outcome != "abandoned" else 0.0,
            grader="math",
            elapsed_s=0.01,
            created_s=self.now_s + 0.6,
        )
        self.log.send_of_group(TRAJECTORIES, job.group_id, trajectory)
        self.log.send_of_group(VERDICTS, job.group_id, verdict)

    def update(
        self, step: int, version: int, parent: int, groups: tuple[GroupEnd, ...], *, final: bool = False
    ) -> None:
        metrics = {
            "learner/loss": 0.1 / (step + 1),
            "learner/grad_norm": 0.5,
            "learner/importance_ratio/mean": 1.0,
            "learner/importance_ratio/max": 1.5 + 0.1 * step,
            "learner/importance_ratio/min": 0.6,
            "learner/ess": 0.98,
            "learner/update_s": 0.7,
            "learner/idle_share": 0.2,
            "learner/truncated_fraction": 0.01,
            "learner/logprob_gap/mean": 0.001,
            "learner/logprob_gap/max": 0.1,
        }
        self.now_s += 1.0
        self.version = version
        update = Update(
            step=step,
            version=version,
            parent_version=parent,
            groups=groups,
            metrics=metrics,
            final=final,
            created_s=self.now_s,
        )
        self.log.send(UPDATES, self.recipe.run, update)
        policy = Policy(version=version, uri=f"policies/{version}", digest="0" * 64, step=step, created_s=self.now_s)
        self.log.send(POLICIES, "policy", policy)

    def evaluate(self, name: str, version: int, round_: int, *, samples: int = 1, final: bool = False) -> None:
        levels = list(LEVELS)
        scores = []
        for number in range(self.recipe.heldout):
            level = levels[number % 3]
            hits = float(self.rates(round_)[level] * samples)
            scores.append(
                PromptScore(
                    prompt_id=f"{name}{number}",
                    task="t",
                    level=level,
                    num_rollouts=samples,
                    num_graded=samples,
                    reward_sum=hits,
                )
            )
        evaluation = Evaluation(
            name=name,
            policy_version=version,
            min_policy_version=version,
            max_policy_version=version,
            accuracy=sum(score.reward_sum for score in scores) / (samples * len(scores)),
            temperature=0.0 if samples == 1 else 1.0,
            scores=tuple(scores),
            final=final,
            created_s=self.now_s,
        )
        self.log.send(EVALUATIONS, name, evaluation)

    def make_all(self) -> Expected:
        recipe = self.recipe
        for name, samples in (("heldout", 1), ("pool", 1), ("base", 8)):
            self.evaluate(name, 0, 0, samples=samples)
        ends = {}
        version = 0
        for round_ in range(recipe.num_updates):
            ends[round_] = self.make_round(round_)
            parent, version = version, version + 1
            if recipe.crash_at and round_ == recipe.crash_at + 1:
                # Two updates are lost; the resumed learner publishes its weights anew, and makes them again.
                self.update(round_, version, parent, ends[round_ - 1])
                self.update(round_ + 1, version + 1, version, ends[round_])
                self.update(round_ - 1, version + 2, parent, ())
                self.update(round_, version + 3, version + 2, ends[round_ - 1])
                parent, version = version + 3, version + 4
            if recipe.crash_at and round_ == recipe.crash_at:
                version = parent  # its update comes with the next round
                continue
            final = recipe.final and round_ == recipe.num_updates - 1
            self.update(round_ + 1, version, parent, ends[round_], final=final)
            if round_ % 2 == 0 or final:
                self.evaluate("heldout", version, round_ + 1, final=final)
        if recipe.final:
            self.evaluate("pool", version, recipe.num_updates, final=True)
        self.say_the_rest()
        return self.expected

    def say_the_rest(self) -> None:
        run = self.recipe.run
        belief = Belief(prompt_id="p0", num_groups=2, num_trials=16, num_correct=9.0)
        self.log.send(BELIEFS, "0", Commit(slot=0, beliefs=(belief,), positions=(), losses=()))
        self.log.send(HEARTBEATS, "producer-0", Heartbeat(worker="producer-0", pid=1, host="here", state="running"))
        self.log.writer.send(VERDICTS.of(run), b"x", b"garbage", partition=0)
        letter = DeadLetter(
            role="learner-0",
            topic=VERDICTS.of(run),
            partition=0,
            offset=9,
            error=f"not a Rucksack record: {HOSTILE}",
            key=b"x",
            value=b"garbage",
        )
        self.log.send(DEADLETTERS, VERDICTS.of(run), letter)
        self.log.writer.flush()


@pytest.fixture
def broker() -> MemoryBroker:
    return MemoryBroker()


@pytest.fixture(scope="session")
def make_run() -> Callable[..., Expected]:
    """`make_run(broker, run="a", mode="paper", ...)` writes a run and returns what a reader must find."""

    def make(broker: Broker, **recipe: Any) -> Expected:
        return _Maker(broker, Recipe(**recipe)).make_all()

    return make
