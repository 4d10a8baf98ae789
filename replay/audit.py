"""Audits a run from its topics alone: whether what was admitted, sampled, ended, trained and published adds up.

What enters is a broker, a run's name and what the run was to do; what leaves is an `Audit`: figures, and a sentence for each
thing that does not add up. `faults_of` and all below it are pure. Invariant: a run without a fault has lost nothing, has
counted nothing twice, and its last policy can be had from the log.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

from replay.load import RunData, read_run
from replay.tables import BASE_VERSION, FirstRecords, LawCheck, Lineage, check_law
from stream.broker import Broker, TopicPartition
from stream.errors import BadRecord
from stream.messages import TRAINING, DeadLetter, GroupEnd, Job, Trajectory, Update, Verdict
from stream.rebuild import NoSuchVersion, Versions
from stream.snapshot import Snapshot, decode_or_none
from stream.topics import TRAJECTORIES, topic_of

MAX_NAMED = 3
"""Names in one sentence, of what may be thousands."""
USED = ("trained", "zero_variance")
"""Endings of groups that were looked at by the learner as they were meant to be."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Expected:
    """What the run was to do, where it is known."""

    num_updates: int | None = None
    num_rollouts: int | None = None
    """Training rollouts of all updates together: the budget."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampled:
    """What `trajectories` holds of training rollouts."""

    num_records: int
    twice: tuple[tuple[TopicPartition, int], ...]
    """Where a record is of a rollout that had one: (partition, offset)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Audit:
    """What was found."""

    faults: tuple[str, ...]
    law: LawCheck
    num_updates: int
    """That made a step, in the surviving lineage."""
    num_rolled_back: int
    num_resumes: int
    num_rollouts: int
    """In groups that ended, in the surviving lineage."""
    num_sampled: int
    """Records of training rollouts on `trajectories`."""
    sampled_twice: tuple[tuple[TopicPartition, int], ...]
    num_unused: int
    """Rollouts in groups that ended `stale` or `abandoned`."""
    num_dead_letters: int
    versions_rebuilt: tuple[int, ...]
    """Policy versions that were put together from the log, each with the announced digest."""

    @property
    def holds(self) -> bool:
        """Whether all adds up."""
        return not self.faults

    @property
    def num_wasted(self) -> int:
        """Rollouts sampled twice, or not used. What a killed engine had begun and not finished is on no topic."""
        return len(self.sampled_twice) + self.num_unused

    @property
    def wasted_share(self) -> float:
        """Of what was sampled, in [0, 1]."""
        return self.num_wasted / self.num_sampled if self.num_sampled else 0.0


def figures(found: Audit) -> list[tuple[str, str]]:
    """The figures as (name, text), for people."""
    endings = ", ".join(f"{count:,} {ending}" for ending, count in sorted(found.law.endings.items())) or "none"
    rebuilt = ", ".join(map(str, found.versions_rebuilt)) or "none"
    return [
        (
            "updates",
            f"{found.num_updates:,} (and {found.num_rolled_back:,} rolled back; {found.num_resumes:,} resumes)",
        ),
        ("groups admitted", f"{found.law.num_admitted:,}"),
        ("groups ended", f"{found.law.num_ended:,} ({endings})"),
        ("rollouts in them", f"{found.num_rollouts:,}"),
        ("rollouts sampled", f"{found.num_sampled:,}, {len(found.sampled_twice):,} of them again"),
        ("rollouts wasted", f"{found.num_wasted:,} ({found.wasted_share:.1%})"),
        ("dead letters", f"{found.num_dead_letters:,}"),
        ("versions rebuilt", rebuilt),
    ]


def audit_run(broker: Broker, run: str, expected: Expected) -> Audit:
    """Read a run's topics as they are now, and check them."""
    data, sampled = read_run(broker, run), read_sampled(broker, run)
    rebuilt, broken = rebuild_newest(broker, run, data.lineage)
    ends = [end for update in data.lineage.surviving for end in update.groups]
    law = check_law(data.admitted, ends, finished=data.lineage.finished)
    return Audit(
        faults=(*faults_of(data, law, expected), *broken),
        law=law,
        num_updates=len(data.lineage.steps),
        num_rolled_back=len(data.lineage.rolled_back),
        num_resumes=data.lineage.num_resumes,
        num_rollouts=sum(end.num_rollouts for end in ends),
        num_sampled=sampled.num_records,
        sampled_twice=sampled.twice,
        num_unused=sum(end.num_rollouts for end in ends if end.ending not in USED),
        num_dead_letters=len(data.dead_letters),
        versions_rebuilt=rebuilt,
    )


def read_sampled(broker: Broker, run: str) -> Sampled:
    """Count the training rollouts on `trajectories`."""
    first, num_records, twice = FirstRecords(), 0, []
    for batch in Snapshot(broker, run, [TRAJECTORIES]):
        for record in batch:
            trajectory = decode_or_none(record, TRAJECTORIES)
            if not isinstance(trajectory, Trajectory) or trajectory.job.purpose != TRAINING:
                continue
            num_records += 1
            if not first.is_first(trajectory.job.group_id, trajectory.rollout_index):
                twice.append(((record.topic, record.partition), record.offset))
    return Sampled(num_records=num_records, twice=tuple(twice))


def rebuild_newest(broker: Broker, run: str, lineage: Lineage) -> tuple[tuple[int, ...], tuple[str, ...]]:
    """Put the last policy together, and the version that the log names before it; (versions, faults)."""
    named = [update.version for update in lineage.surviving if update.digest][-2:]
    if not named:
        return (), ("no surviving update names a state of the weights",)
    versions, rebuilt, faults = Versions(broker, run), [], []
    for version in named:
        try:
            versions.state(version)
            rebuilt.append(version)
        except (NoSuchVersion, ValueError, FileNotFoundError) as error:
            if version == named[-1]:  # the others may be deleted: learner.keep_policies
                faults.append(f"the weights of the last version cannot be rebuilt from the log: {error}")
    return tuple(rebuilt), tuple(faults)


def faults_of(data: RunData, law: LawCheck, expected: Expected) -> Iterator[str]:
    """Everything that the messages contradict."""
    yield from law_faults(law)
    yield from lineage_faults(data.lineage, expected)
    ends = [end for update in data.lineage.surviving for end in update.groups]
    by_index = Counter(data.training["group"].tolist())
    yield from rollout_faults(ends, {name: by_index[group.index] for name, group in data.groups.items()}, expected)
    yield from dead_letter_faults(data.dead_letters, {end.group_id for end in ends})
    for topic, count in data.counts.items():
        if count.num_unreadable:
            yield f"{count.num_unreadable:,} records of {topic} cannot be read"


def law_faults(law: LawCheck) -> Iterator[str]:
    """Law 1: every admitted group ends exactly once."""
    if law.num_lost:
        yield f"{law.num_lost:,} groups were admitted and never ended: {_named(law.open)}"
    if law.repeated:
        yield f"{len(law.repeated):,} groups ended more than once: {_named(law.repeated)}"
    if law.unknown:
        yield f"{len(law.unknown):,} groups ended and were never admitted: {_named(law.unknown)}"


def lineage_faults(lineage: Lineage, expected: Expected) -> Iterator[str]:
    """Updates follow one another, from the base policy to the last one, and what was rolled back has a parent too."""
    if not lineage.finished:
        yield "the last update of the run is not on the log"
    if not lineage.complete:
        yield f"the lineage does not go back to version {BASE_VERSION}: it begins behind {lineage.surviving[0].version}"
    if lineage.num_duplicates:
        yield f"{lineage.num_duplicates:,} versions were made twice"
    made = [update.step for update in lineage.steps]
    wanted = list(range(1, (expected.num_updates or len(made)) + 1))
    if made != wanted:
        differ = sorted(set(made) ^ set(wanted)) or made
        yield f"the surviving updates are not 1 to {len(wanted)}, one after the other: see {_named(map(str, differ))}"
    known = {BASE_VERSION, *(update.version for update in (*lineage.surviving, *lineage.rolled_back))}
    orphans = [update for update in lineage.rolled_back if update.parent_version not in known]
    if orphans:
        yield f"{len(orphans):,} updates that were rolled back have no parent: {_versions(orphans)}"


def rollout_faults(ends: Sequence[GroupEnd], graded: Mapping[str, int], expected: Expected) -> Iterator[str]:
    """Law 2: every rollout of a group that ended has one verdict that counts, and all of them are the budget.

    Args:
        ends: of the surviving lineage.
        graded: by group, its rollouts that have a verdict, each counted once.

    """
    short = [end.group_id for end in ends if graded.get(end.group_id, 0) < end.num_rollouts]
    if short:
        yield f"{len(short):,} groups ended with rollouts that have no verdict: {_named(short)}"
    more = [end.group_id for end in ends if graded.get(end.group_id, 0) > end.num_rollouts]
    if more:
        yield f"{len(more):,} groups ended without some of their rollouts: {_named(more)}"
    spent = sum(end.num_rollouts for end in ends)
    if expected.num_rollouts is not None and spent != expected.num_rollouts:
        yield f"the groups that ended have {spent:,} rollouts; the budget is {expected.num_rollouts:,}"


def dead_letter_faults(letters: Iterable[DeadLetter], ended: AbstractSet[str]) -> Iterator[str]:
    """A dead letter is explained where its group ended all the same, or is one of an evaluation."""
    unexplained = [letter for letter in letters if not _explained(letter, ended)]
    if unexplained:
        texts = _named(f"{letter.topic}/{letter.partition}/{letter.offset} ({letter.error})" for letter in unexplained)
        yield f"{len(unexplained):,} dead letters are of no group that has ended: {texts}"


def _explained(letter: DeadLetter, ended: AbstractSet[str]) -> bool:
    job = _job_of(letter)
    return job is not None and (job.purpose != TRAINING or job.group_id in ended)


def _job_of(letter: DeadLetter) -> Job | None:
    from stream.codec import decode

    try:
        message = decode(letter.value, topic_of(letter.topic).message_type)
    except (BadRecord, StopIteration):
        return None
    if isinstance(message, Verdict):
        message = message.trajectory
    if isinstance(message, Trajectory):
        message = message.job
    return message if isinstance(message, Job) else None


def _versions(updates: Iterable[Update]) -> str:
    return _named(str(update.version) for update in updates)


def _named(names: Iterable[str]) -> str:
    named = list(names)
    return ", ".join(named[:MAX_NAMED]) + (", ..." if len(named) > MAX_NAMED else "")
