"""Every message of the log, in the order of flow. One class per topic.

What a message holds is enough to audit it alone: a `Verdict` carries its `Trajectory`, which carries its `Job`, so that
no stage ever joins two topics. Legend of shapes: P prompt tokens, T completion tokens.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

Outcome = Literal["correct", "wrong", "unparsable", "timeout", "error", "abandoned"]
FinishReason = Literal["stop", "length", "abort", "abandoned"]
GroupEnding = Literal["trained", "zero_variance", "stale", "abandoned"]

OUTCOMES: tuple[Outcome, ...] = get_args(Outcome)
UNGRADED: tuple[Outcome, ...] = ("timeout", "error", "unparsable")
"""Outcomes of answers that got no real grade: training on silent zeros is what the alarms are for."""
GRADED: frozenset[str] = frozenset({"correct", "wrong", "unparsable"})
"""Outcomes that say something about the completion: the others carry no reward (law 6)."""

TRAINING = "train"
"""`Job.purpose` of rollouts that the learner trains on; an evaluation has another purpose, `eval:<set>`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompt:
    """One problem of a pool: what is asked, and how the answer is checked. Travels inside `Job`."""

    prompt_id: str
    text: str
    answer: str
    """Reference answer; the verifier's gold."""
    grader: str
    """Name of the grader that checks it."""
    task: str = ""
    level: str = ""
    """Prompts of one task and level are alike: beliefs may share what is learned of them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampling:
    """How a completion is sampled. Temperature 0 is greedy."""

    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    """0 keeps the whole vocabulary."""
    max_tokens: int = 512


@dataclass(frozen=True, slots=True, kw_only=True)
class Budgeting:
    """Why a prompt got the number of rollouts that it got."""

    mode: str
    success_rate: float
    """What the allocator believed when it decided, in [0, 1]; -1 if it had seen too little of the prompt."""
    num_observed: float
    """Rollouts that the belief rests on (discounted counts may be fractions)."""
    value: float
    """V(num_rollouts) under the mode's value function."""
    price: float
    """Value of the cheapest rollout that the round still bought (lambda); value per token where tokens are budgeted."""
    cost: float = 0.0
    """Tokens that one rollout was expected to take; 0 where rollouts are budgeted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """Rollouts [start, stop) of a group of num_rollouts: what a producer is asked to sample."""

    group_id: str
    start: int
    stop: int
    num_rollouts: int
    prompt: Prompt
    prompt_token_ids: NDArray[np.int32]  # [P]
    sampling: Sampling
    budgeting: Budgeting | None = None
    purpose: str = TRAINING
    min_policy_version: int = 0
    """Weights older than this may not sample it: producers hold it until they serve newer ones, so staleness is bounded."""
    round: int = 0
    attempt: int = 0
    """How often this slice was issued before (0 the first time)."""
    created_s: float = 0.0
    """Wall clock, seconds since the epoch."""

    def __post_init__(self) -> None:
        if not 0 <= self.start < self.stop <= self.num_rollouts:
            raise ValueError(f"job slice is [{self.start}, {self.stop}) of {self.num_rollouts}; want 0 <= start < stop")
        if self.prompt_token_ids.size == 0 or self.prompt_token_ids.dtype.kind != "i":
            raise ValueError(f"job of group {self.group_id} has no integer prompt tokens")


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """Tokens [start, stop) were sampled by the weights of policy_version."""

    policy_version: int
    start: int
    stop: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """Durations of one rollout in the producer, in seconds of a monotonic clock."""

    queued_s: float
    generated_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Trajectory:
    """One rollout: the tokens that were sampled, and the log-probability each had when it was sampled."""

    job: Job
    rollout_index: int
    """Index in the group, in [job.start, job.stop)."""
    trajectory_id: str
    """Unique to this sampling: a rollout sampled again after a crash has another."""
    token_ids: NDArray[np.int32]  # [T], with the end token if one was sampled
    behavior_logprobs: NDArray[np.float32]  # [T]
    spans: tuple[Span, ...]  # cover [0, T) in order
    text: str
    """The completion, special tokens left out."""
    finish_reason: FinishReason
    timing: Timing
    producer: str
    created_s: float = 0.0

    def __post_init__(self) -> None:
        if not self.job.start <= self.rollout_index < self.job.stop:
            raise ValueError(
                f"rollout_index {self.rollout_index} is outside its job [{self.job.start}, {self.job.stop})"
            )
        if self.token_ids.shape != self.behavior_logprobs.shape:
            raise ValueError(f"{self.token_ids.size} tokens with {self.behavior_logprobs.size} behavior_logprobs")
        if self.token_ids.dtype.kind != "i" or (self.token_ids.size and self.token_ids.min() < 0):
            raise ValueError("token_ids are not all integers >= 0")
        if self.behavior_logprobs.dtype.kind != "f" or not np.isfinite(self.behavior_logprobs).all():
            raise ValueError("behavior_logprobs are not all finite")
        edges = [0, *(span.stop for span in self.spans)]
        if [span.start for span in self.spans] != edges[:-1] or edges[-1] != self.token_ids.size:
            raise ValueError(f"policy-version spans do not cover the {self.token_ids.size} tokens in order")

    @property
    def min_policy_version(self) -> int:
        """Version of the oldest weights that sampled a token (0 if there is none)."""
        return min((span.policy_version for span in self.spans), default=0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What the verifier says of one trajectory. Timeout, error and abandoned say nothing of the completion (law 6)."""

    trajectory: Trajectory
    outcome: Outcome
    reward: float
    """In [0, 1]; 0 and not to be counted unless the outcome is in `GRADED`."""
    reason: str = ""
    grader: str = ""
    grader_version: str = ""
    elapsed_s: float = 0.0
    created_s: float = 0.0

    def __post_init__(self) -> None:
        if not 0.0 <= self.reward <= 1.0:
            raise ValueError(f"reward is {self.reward}; want a number in [0, 1]")

    @property
    def graded(self) -> bool:
        """Whether the reward counts."""
        return self.outcome in GRADED


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """Weights that producers should sample from."""

    version: int
    uri: str
    """Folder of a transformers model (config.json, model.safetensors)."""
    digest: str
    """sha256 of model.safetensors, hexadecimal."""
    step: int
    final: bool = False
    """No newer version will come."""
    created_s: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupEnd:
    """How one admitted group ended (law 1)."""

    group_id: str
    ending: GroupEnding
    num_rollouts: int
    num_graded: int
    reward_sum: float
    staleness: int
    """Versions between the learner's weights and the oldest token of the group."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Update:
    """One optimizer step (or an update in which nothing could be trained) and every group that ended in it."""

    step: int
    version: int
    """The version that this update made. Never reused, also after a crash."""
    parent_version: int
    """The version it was made from: following parents from the last update gives the lineage that survives (law 2)."""
    groups: tuple[GroupEnd, ...]
    metrics: Mapping[str, float] = field(default_factory=dict)
    final: bool = False
    created_s: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptScore:
    """Result of one prompt in an evaluation."""

    prompt_id: str
    task: str
    level: str
    num_rollouts: int
    num_graded: int
    reward_sum: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """Accuracy of a policy on one set of prompts."""

    name: str
    """The set: `heldout`, `pool`, ..."""
    policy_version: int
    """The version that was asked for."""
    min_policy_version: int
    max_policy_version: int
    """The versions that sampled the tokens: equal to policy_version unless weights were swapped meanwhile."""
    accuracy: float
    temperature: float
    scores: tuple[PromptScore, ...]
    metrics: Mapping[str, float] = field(default_factory=dict)
    """pass@1, pass@2, ..., avg@k, maj@k with k samples of a prompt."""
    final: bool = False
    created_s: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Visit:
    """One group of a prompt that was graded: successes among rollouts."""

    num_correct: float
    num_graded: int


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenGroup:
    """A group that the allocator has admitted and that has not ended."""

    group_id: str
    num_rollouts: int
    round: int
    budgeting: Budgeting
    observed: bool = False
    """Its verdicts are in the belief."""
    ended: bool = False
    """The learner has ended it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Position:
    """The next offset to read of one partition."""

    topic: str
    partition: int
    offset: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """What the allocator remembers of a stream: its price where there is neither debt nor credit, and the debt."""

    base: float
    debt: float
    """Rollouts spent above those allowed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Belief:
    """What the allocator knows of one prompt; the newest record of a prompt counts."""

    prompt_id: str
    num_groups: int = 0
    """Groups admitted so far."""
    num_trials: int = 0
    num_correct: float = 0.0
    recent_trials: float = 0.0
    recent_correct: float = 0.0
    """Discounted: each graded group lowers the weight of those before it."""
    recent_sampled: float = 0.0
    recent_tokens: float = 0.0
    """Rollouts that were sampled, graded or not, and the tokens they took; discounted likewise."""
    visits: tuple[Visit, ...] = ()
    """Newest last; as many as the success-rate estimates look back on."""
    open_group: OpenGroup | None = None
    positions: tuple[Position, ...] = ()
    """On the last record of a round: what the beliefs up to here rest on. In one partition with them, so that the two
    cannot part even where a transaction is torn."""
    pace: Pace | None = None
    """Beside `positions`, where prompts are decided one by one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Heartbeat:
    """A worker's signs of life and its figures; the newest of a worker counts."""

    worker: str
    """Role and index, e.g. `producer-0`."""
    pid: int
    host: str
    state: str
    """starting, running, closing, done, stopped."""
    metrics: Mapping[str, float] = field(default_factory=dict)
    created_s: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadLetter:
    """A record that a role could not use, with the reason and its bytes."""

    role: str
    topic: str
    partition: int
    offset: int
    error: str
    key: bytes
    value: bytes
    created_s: float = 0.0
