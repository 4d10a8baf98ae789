"""Holds what the allocator knows of its run. Plain data: no broker, no clock, no configuration.

Beliefs, evidence, ledger and queue tell of the same groups, so whatever changes a belief goes through `admit` or `believe`:
a prompt is in the ledger while its belief has an open group, and in the queue while it has none.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from allocator import beliefs as belief_rules
from allocator.evidence import Evidence
from allocator.ledger import Entry, Ledger
from allocator.prompt_queue import PromptQueue
from stream.messages import Belief, OpenGroup, Pace


@dataclass(frozen=True, slots=True, kw_only=True)
class PartialGroup:
    """A group of which a torn transaction has left the jobs, or some, but not the belief. It is admitted as it is."""

    group: OpenGroup
    issued: frozenset[int]
    """Rollouts that its jobs ask for."""


@dataclass(slots=True, kw_only=True)
class State:
    """Everything that a plan may depend on."""

    beliefs: dict[str, Belief]
    """By prompt id, for the whole pool."""
    evidence: Evidence
    """The counts of the beliefs, as arrays."""
    ledger: Ledger
    """The open groups, rollout by rollout."""
    queue: PromptQueue
    """The prompts without an open group."""
    prompts_per_update: int
    rollouts_per_update: int | None = None
    """What a round consists of; None for rounds of prompts_per_update groups."""
    num_admitted: int = 0
    """Groups admitted since the run began."""
    num_admitted_rollouts: int = 0
    """Rollouts of these; of a group that may grow, the most as long as it is open."""
    num_completed: int = 0
    """Groups whose verdicts are all in their belief."""
    num_completed_rollouts: int = 0
    """Rollouts of these."""
    pace: Pace | None = None
    """Price and debt of a stream; None for rounds."""
    awaited_evaluations: set[str] = field(default_factory=set)
    """Names of the evaluations of the base policy that are not published yet."""
    partial_groups: dict[str, PartialGroup] = field(default_factory=dict)
    """By prompt id: the first things to be admitted after a crash; empty otherwise."""
    changed: set[str] = field(default_factory=set)
    """Prompts whose beliefs have changed since the last transaction."""

    @property
    def policy_version(self) -> int:
        """The newest that an update has told of: older weights may not sample what is admitted from now on."""
        return self.evidence.version

    @property
    def awaits_base(self) -> bool:
        """Whether what would be admitted now wants weights that are withheld until the base policy is evaluated."""
        return bool(self.awaited_evaluations) and self.policy_version > 0

    @property
    def groups_per_update(self) -> int:
        """About how many groups a round admits: where it is counted in rollouts, most are of one."""
        return self.rollouts_per_update or self.prompts_per_update

    def issued(self, prompt_id: str) -> frozenset[int]:
        """Rollouts of a prompt's next group that the log asks for already."""
        partial = self.partial_groups.get(prompt_id)
        return frozenset() if partial is None else partial.issued

    @property
    def next_round(self) -> int:
        """Number of the round that is admitted next, from 0."""
        if self.rollouts_per_update:
            return (self.num_admitted_rollouts - self.ledger.num_reserved) // self.rollouts_per_update
        return self.num_admitted // self.prompts_per_update

    def admit_all(self, groups: Mapping[str, OpenGroup], now_s: float) -> list[Entry]:
        """Prompts get groups; what is forecast of them is scored once they are graded."""
        forecasts = self.evidence.forecasts(self.evidence.indices(groups))
        entries = [self.admit(prompt_id, group, now_s) for prompt_id, group in groups.items()]
        for entry, forecast in zip(entries, forecasts.T, strict=True):
            entry.forecasts = forecast
        return entries

    def admit(self, prompt_id: str, group: OpenGroup, now_s: float) -> Entry:
        """A prompt gets a group."""
        self.beliefs[prompt_id] = belief_rules.admit(self.beliefs[prompt_id], group)
        self.num_admitted += 1
        self.num_admitted_rollouts += group.num_rollouts
        self.evidence.note(self.beliefs[prompt_id])
        self.changed.add(prompt_id)
        return self.ledger.open(prompt_id, group, now_s)

    def observe(self, entry: Entry, discount: float) -> None:
        """All verdicts of a group are there. What is left of it is for the learner to end."""
        rewards = [reward for reward in entry.rewards.values() if reward is not None]
        num_correct, num_graded = float(sum(rewards)), len(rewards)
        num_unused = entry.group.num_rollouts - entry.num_asked
        self.num_admitted_rollouts -= num_unused
        self.num_completed += 1
        self.num_completed_rollouts += entry.num_asked
        if entry.forecasts is not None and num_graded:
            self.evidence.scores.note(entry.forecasts, num_correct, num_graded, self.policy_version)
        self.believe(
            belief_rules.observe(
                self.beliefs[entry.prompt_id],
                num_correct,
                num_graded,
                num_sampled=entry.num_sampled,
                num_tokens=entry.num_tokens,
                num_unused=num_unused,
                discount=discount,
                version=self.policy_version,
            )
        )

    def believe(self, belief: Belief) -> None:
        """What is believed of a prompt with an open group changes; once the group is over, the prompt waits for another."""
        group = self.beliefs[belief.prompt_id].open_group
        assert group is not None
        self.beliefs[belief.prompt_id] = belief
        self.evidence.note(belief)
        self.changed.add(belief.prompt_id)
        if belief.open_group is None:
            self.ledger.close(group.group_id)
            self.queue.put(belief)
        else:
            self.ledger.change(belief.open_group)
