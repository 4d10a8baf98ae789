"""Defines every message of the topics, in the order of flow: one class per topic, and the classes that they hold.

Each class says who writes it and who reads it; `stream.topics` has the topics themselves, docs/wire.md the bytes. A
message holds what is needed to audit it alone: a `Verdict` carries its `Trajectory`, which carries its `Job`, so no
stage joins two topics. What breaks a message's contract raises ValueError when it is made, and so when it is read.
Fields with one meaning everywhere: `created_s`, seconds since the epoch; `metrics`, figures by the names of
docs/metrics.md; `num_graded`, rollouts whose reward counts. Legend of shapes: P prompt tokens, T completion tokens.
"""

import math
from collections.abc import Mapping
from typing import Literal, get_args

import numpy as np
from msgspec import Struct, field
from numpy.typing import NDArray

Outcome = Literal["correct", "wrong", "unparsable", "timeout", "error", "abandoned"]
FinishReason = Literal["stop", "length", "abort", "abandoned"]
GroupEnding = Literal["trained", "zero_variance", "stale", "abandoned"]
FoundBy = Literal["", "box", "tag", "hashes", "line", "stated", "whole", "last", "none"]
Rule = Literal["", "echo", "timeout"]
Dtype = Literal["bfloat16", "float16", "float32"]

OUTCOMES: tuple[Outcome, ...] = get_args(Outcome)
UNGRADED: tuple[Outcome, ...] = ("timeout", "error", "unparsable")
"""Outcomes of answers that got no real grade: training on silent zeros is what the alarms are for."""
GRADED: frozenset[str] = frozenset({"correct", "wrong", "unparsable"})
"""Outcomes that say something about the completion: the others carry no reward (law 6)."""

FOUND_BY: tuple[FoundBy, ...] = get_args(FoundBy)
FOUND_IN_PROSE: frozenset[FoundBy] = frozenset({"stated", "last"})
"""Answers that only rules of language find, which a policy may learn to get past."""
RULES: tuple[Rule, ...] = get_args(Rule)

TRAINING = "train"
"""`Job.purpose` of rollouts that the learner trains on; an evaluation has another purpose, `eval:<set>`."""


class Turn(Struct, frozen=True, kw_only=True):
    """One message of a chat. Travels inside `Prompt`."""

    role: str
    """`system`, `user`, `assistant`, or whatever else the model's chat template knows."""
    content: str


class Prompt(Struct, frozen=True, kw_only=True):
    """One problem of a pool: what is asked, and how the answer is checked. Travels inside `Job`."""

    prompt_id: str
    """Unique in the run's pool."""
    text: str
    """The problem as the source has it: chat template and suffix are in `Job.prompt_token_ids` only."""
    answer: str
    """Reference answer; the grader's gold."""
    grader: str
    task: str = ""
    level: str = ""
    """Difficulty within the task; prompts of one task and level are alike, and beliefs share what is learned."""
    messages: tuple[Turn, ...] = ()
    """The chat as the source has it, of which `text` is the last turn; empty where the source has plain text."""


class Sampling(Struct, frozen=True, kw_only=True):
    """How a completion is sampled. Travels inside `Job`."""

    temperature: float = 1.0
    """0 is greedy."""
    top_p: float = 1.0
    """Nucleus; 1 keeps the whole vocabulary."""
    top_k: int = 0
    """0 keeps the whole vocabulary."""
    max_tokens: int = 512
    """Most tokens of a completion."""


class Budgeting(Struct, frozen=True, kw_only=True):
    """Why a prompt got the number of rollouts that it got. Travels inside `Job` and `OpenGroup`."""

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
    a: float = 0.0
    """Of the belief Beta(a, b) of the success rate, before any of these rollouts was sampled; 0 if there is none."""
    b: float = 0.0
    """Of the same."""

    def __post_init__(self) -> None:
        if not ((self.a == self.b == 0) or (0 < self.a < math.inf and 0 < self.b < math.inf)):
            raise ValueError(f"the belief is Beta({self.a}, {self.b}); want two positive, finite numbers, or 0 and 0")


class Job(Struct, frozen=True, kw_only=True):
    """Rollouts [start, stop) of a group. Allocator (training) and evaluator write it, producers sample it."""

    group_id: str
    """All rollouts of one prompt in one round; of training `<prompt_id>.<number of the prompt's group, from 0>`."""
    start: int
    stop: int
    num_rollouts: int
    """Of the group; in mode `sequential` the most that it may have (`stream.sequential`)."""
    prompt: Prompt
    prompt_token_ids: NDArray[np.int32]
    """[P], the prompt's tokens exactly as they are sampled from."""
    sampling: Sampling
    budgeting: Budgeting | None = None
    """Why the group has num_rollouts; none in evaluations."""
    purpose: str = TRAINING
    """`train`, or `eval:<set>`."""
    min_policy_version: int = 0
    """Weights older than this may not sample it: producers hold it until they serve newer ones."""
    round: int = 0
    attempt: int = 0
    """How often these rollouts were issued before (0 the first time)."""
    created_s: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.start < self.stop <= self.num_rollouts:
            raise ValueError(f"job slice is [{self.start}, {self.stop}) of {self.num_rollouts}; want 0 <= start < stop")
        if self.prompt_token_ids.size == 0 or self.prompt_token_ids.dtype.kind != "i":
            raise ValueError(f"job of group {self.group_id} has no integer prompt tokens")


class Span(Struct, frozen=True, kw_only=True):
    """Tokens [start, stop) of a completion, sampled by the weights of policy_version. Travels inside `Trajectory`."""

    policy_version: int
    start: int
    stop: int


class Timing(Struct, frozen=True, kw_only=True):
    """Durations of one rollout in the producer, by a monotonic clock. Travels inside `Trajectory`."""

    queued_s: float
    """Until the engine had room for it."""
    generated_s: float
    """From there to its last token."""


class Trajectory(Struct, frozen=True, kw_only=True):
    """One rollout: the sampled tokens, and the log-probability of each. Producers write it, verifiers grade it.

    Aligned: token_ids[t] had behavior_logprobs[t] when it was sampled, by the weights of the span that holds t.
    """

    job: Job
    rollout_index: int
    """Index in the group, in [job.start, job.stop)."""
    trajectory_id: str
    """Unique to this sampling: a rollout sampled again after a crash has another."""
    token_ids: NDArray[np.int32]
    """[T], the completion, with the end token if one was sampled."""
    behavior_logprobs: NDArray[np.float32]
    """[T], of the distribution that was sampled from (after temperature, top-k and top-p); greedy: the model's own."""
    spans: tuple[Span, ...]
    """Cover [0, T) in order."""
    text: str
    """The completion in words, special tokens left out."""
    finish_reason: FinishReason
    """`stop`: an end token; `length`: max_tokens; `abort`: cut off; `abandoned`: never sampled."""
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


class Verdict(Struct, frozen=True, kw_only=True):
    """The grade of one trajectory. Verifiers write it, and the allocator for rollouts that it gives up.

    Learner, allocator and evaluator read it, each all partitions. `timeout`, `error` and `abandoned` say nothing about
    the completion (law 6).
    """

    trajectory: Trajectory
    outcome: Outcome
    """`correct`, `wrong`, `unparsable` (no answer in the completion), `timeout`, `error`, `abandoned`."""
    reward: float
    """In [0, 1]; counts only where the outcome is `correct`, `wrong` or `unparsable`, and is 0 elsewhere."""
    reason: str = ""
    grader: str = ""
    grader_version: str = ""
    """Of the grading code: a change of it may change grades."""
    elapsed_s: float = 0.0
    found_by: FoundBy = ""
    """Where the answer was: the last `box`, a `tag` (`<answer>`), `hashes` (`####`), a `line` (`Answer:`), `stated` by prose,
    the `whole` completion, its `last` number or formula, `none`; empty if the grader does not say."""
    answer: str = ""
    """The answer that was found, cut to 200 characters; empty if none was, or the grader does not say."""
    rule: Rule = ""
    """Rule that turned the outcome: `echo` (an expression is no number), `timeout` (too many are wrong), or empty."""
    created_s: float = 0.0

    def __post_init__(self) -> None:
        if not 0.0 <= self.reward <= 1.0:
            raise ValueError(f"reward is {self.reward}; want a number in [0, 1]")

    @property
    def graded(self) -> bool:
        """Whether the reward counts."""
        return self.outcome in GRADED


class Elements(Struct, frozen=True, kw_only=True):
    """New values of elements of one tensor, as bits. Travels inside `WeightsPart`."""

    name: str
    """The tensor's, in the model's checkpoint."""
    shape: tuple[int, ...]
    """The whole tensor's; empty of a single number."""
    dtype: Dtype
    """`bfloat16`, `float16` or `float32`."""
    start: int
    """Index of the first of them in the tensor, flattened in row-major order."""
    count: int
    """How many."""
    values: bytes
    """Their values, little-endian, one after another."""
    gaps: bytes = b""
    """Distances from each to the next: the lowest byte of each distance. Empty: they follow one another."""
    high_gaps: bytes = b""
    """The distances' second lowest bytes, then the third lowest, ..., compressed by zlib. Empty: all are 0."""


class WeightsPart(Struct, frozen=True, kw_only=True):
    """A part of a patch, or of a whole state, of the weights. The learner writes it; producers and the learner read.

    A patch turns the state that is named by `parent_digest` into the one named by `digest`. A state is announced by a
    `Policy` with its digest; parts that lead to no announced state (of a learner that was killed, or replaced) count
    for nothing.
    """

    version: int
    """The policy version that this makes."""
    parent_version: int
    """The policy version that it changes; -1 of a whole state."""
    digest: str
    """Of the state that results (docs/wire.md), hexadecimal."""
    parent_digest: str
    """Of the state that it changes; empty of a whole state, which needs none."""
    publication: str
    """Unique to this patch or state: its parts have it, and no others."""
    part: int
    """Number of this part, from 0."""
    num_parts: int
    """Of the publication."""
    elements: tuple[Elements, ...] = ()
    """New values; a tensor's indices ascend, also from part to part."""
    uri: str = ""
    """File of safetensors that holds the whole state, in place of elements."""
    created_s: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.part < self.num_parts:
            raise ValueError(f"part is {self.part}; want 0 to num_parts - 1, {self.num_parts - 1}")


class Policy(Struct, frozen=True, kw_only=True):
    """Weights to sample from. The learner writes it; producers load the newest, the evaluator measures some."""

    version: int
    """Larger than any before, also after a crash."""
    digest: str
    """Of the state of the weights (docs/wire.md), hexadecimal."""
    step: int
    offset: int = 0
    """Offset in `weights` from which on there are a whole state and all patches up to this version."""
    uri: str = ""
    """Folder of a transformers model, as a path that producers can read, where weights travel by files and not by `weights`."""
    final: bool = False
    """No version follows, and a checkpoint holds this one. Such a policy has come before, not final."""
    created_s: float = 0.0


class GroupEnd(Struct, frozen=True, kw_only=True):
    """How one admitted group ended (law 1). Travels inside `Update`."""

    group_id: str
    ending: GroupEnding
    """`trained`; `zero_variance`: no gradient; `stale`: too old; `abandoned`: some given up, too few graded to train on."""
    num_rollouts: int
    num_graded: int
    reward_sum: float
    staleness: int
    """Versions between the learner's weights and the oldest token of the group."""


class Update(Struct, frozen=True, kw_only=True):
    """One update of the weights, and all groups that ended in it. The learner writes it; allocator, tracker, `up` read.

    A learner that resumes writes one without groups, to say from which version it goes on.
    """

    step: int
    version: int
    """The version that this update made. Never reused, also after a crash."""
    parent_version: int
    """The version it was made from: following parents from the last update gives the lineage that survives (law 2)."""
    groups: tuple[GroupEnd, ...]
    metrics: Mapping[str, float] = field(default_factory=dict)
    digest: str = ""
    """Of the state of the weights, as in its `Policy`; empty if it has none, as a later version was published with it."""
    final: bool = False
    created_s: float = 0.0


class PromptScore(Struct, frozen=True, kw_only=True):
    """Result of one prompt in an evaluation. Travels inside `Evaluation`."""

    prompt_id: str
    task: str
    level: str
    num_rollouts: int
    num_graded: int
    reward_sum: float


class Evaluation(Struct, frozen=True, kw_only=True):
    """Accuracy of a policy on one set of prompts. The evaluator writes it; allocator, tracker and `up` read it."""

    name: str
    """The set: `heldout`, `pool`, `base` (sampled before the first update), or one of evaluator.sets."""
    policy_version: int
    """The version that was asked for."""
    min_policy_version: int
    """Oldest version that sampled a token."""
    max_policy_version: int
    """Newest; both are policy_version unless weights were swapped meanwhile."""
    step: int = 0
    """Updates that had made the policy."""
    accuracy: float
    """Sum of rewards over rollouts asked for."""
    temperature: float
    scores: tuple[PromptScore, ...]
    metrics: Mapping[str, float] = field(default_factory=dict)
    """pass@1, pass@2, ..., avg@k, maj@k with k samples of a prompt."""
    final: bool = False
    created_s: float = 0.0


class Visit(Struct, frozen=True, kw_only=True):
    """One graded group of a prompt. Travels inside `Belief`."""

    num_correct: float
    num_graded: int


class OpenGroup(Struct, frozen=True, kw_only=True):
    """A group that the allocator has admitted and not closed. Travels inside `Belief`."""

    group_id: str
    num_rollouts: int
    round: int
    budgeting: Budgeting
    observed: bool = False
    """Its verdicts are in the belief."""
    ended: bool = False
    """The learner has ended it. A group is closed once it is both observed and ended."""


class Position(Struct, frozen=True, kw_only=True):
    """The next offset to read of one partition; the topic by its name on the broker. Travels inside `Commit`."""

    topic: str
    partition: int
    offset: int


class Pace(Struct, frozen=True, kw_only=True):
    """State of a stream of prompts that are decided one by one. Travels inside `Commit`."""

    base: float
    """Price of a rollout where there is neither debt nor credit."""
    debt: float
    """Rollouts spent above those allowed."""


class Belief(Struct, frozen=True, kw_only=True):
    """What the allocator knows of one prompt; the newest of a prompt counts. Travels inside `Commit`."""

    prompt_id: str
    num_groups: int = 0
    """Groups admitted so far."""
    num_rollouts: int = 0
    """Rollouts of these."""
    num_trials: int = 0
    """Graded rollouts so far."""
    num_correct: float = 0.0
    recent_trials: float = 0.0
    """As num_trials, discounted: each graded group lowers the weight of those before it (allocator.discount)."""
    recent_correct: float = 0.0
    """As num_correct, discounted likewise."""
    faded: tuple[float, ...] = ()
    """As num_trials, then as num_correct, discounted by each of five factors with every version of the policy."""
    faded_at: int = 0
    """Version of the policy as of which `faded` is."""
    recent_sampled: float = 0.0
    """Rollouts that were sampled, graded or not, discounted likewise."""
    recent_tokens: float = 0.0
    """Tokens that these took, discounted likewise."""
    visits: tuple[Visit, ...] = ()
    """Newest last; as many as the success-rate estimates look back on."""
    open_group: OpenGroup | None = None


class Commit(Struct, frozen=True, kw_only=True):
    """What one transaction of the allocator has changed, and what that rests on. Only the allocator uses it.

    A transaction takes the next slot of a fixed number (or more, if it changes very many), and repeats what of its slot's last record is nowhere newer: so the
    newest record of each slot, all that a compacted topic keeps, are together the newest belief of every prompt.
    """

    slot: int
    """Its slot, the key of the record as well."""
    beliefs: tuple[Belief, ...]
    """Those that changed or are repeated, in the order of the pool."""
    positions: tuple[Position, ...]
    """Offsets up to which all is in the beliefs. Beside them, so that the two cannot part."""
    losses: tuple[float, ...]
    """Log loss of late of what the counts forecast, `recent` first, then each of `faded`."""
    pace: Pace | None = None
    """Where prompts are decided one by one."""


class Heartbeat(Struct, frozen=True, kw_only=True):
    """A worker's sign of life and its figures; the newest of a worker counts. Every worker writes it, `up` reads it."""

    worker: str
    """Role and index, e.g. `producer-0`."""
    pid: int
    host: str
    state: str
    """`starting`, `running`, `saving`, `closing`, `done`, `stopped`."""
    metrics: Mapping[str, float] = field(default_factory=dict)
    created_s: float = 0.0


class DeadLetter(Struct, frozen=True, kw_only=True):
    """A record that a role could not use, with the reason and its bytes (law 8). Every role writes it, people read."""

    role: str
    topic: str
    partition: int
    offset: int
    """Where it came from."""
    error: str
    """Why, at most 2,000 characters."""
    key: bytes
    value: bytes
    """Its value, at most the first 8 MiB."""
    created_s: float = 0.0
