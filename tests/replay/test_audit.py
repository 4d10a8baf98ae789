"""The audit of a run: silent where all adds up, one sentence for each way in which a log can be wrong."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from factories import make_job, make_trajectory, make_verdict
from msgspec.structs import replace
from weights_chain import Chain

from replay.audit import Audit, Expected, audit_run
from replay.cli import main
from stream.codec import encode
from stream.memory import MemoryBroker
from stream.messages import DeadLetter, GroupEnd, Job, Policy, Update, WeightsPart
from stream.run_topics import RunTopics
from stream.topics import DEADLETTERS, JOBS, POLICIES, TOPICS, TRAJECTORIES, UPDATES, VERDICTS, WEIGHTS

NUM_UPDATES, GROUPS_PER_UPDATE, SIZE = 3, 2, 2
EXPECTED = Expected(num_updates=NUM_UPDATES, num_rollouts=NUM_UPDATES * GROUPS_PER_UPDATE * SIZE)


def end_of(job: Job, ending: str = "trained") -> GroupEnd:
    return GroupEnd(
        group_id=job.group_id, ending=ending, num_rollouts=SIZE, num_graded=SIZE, reward_sum=1.0, staleness=0
    )  # type: ignore[arg-type]


@dataclass
class Run:
    """A run of three updates, of which the second was rolled back and made again; `log` writes what it holds by then."""

    jobs: list[Job] = field(default_factory=list)
    rollouts: list[tuple[Job, int]] = field(default_factory=list)
    updates: list[Update] = field(default_factory=list)
    parts: list[WeightsPart] = field(default_factory=list)
    letters: list[DeadLetter] = field(default_factory=list)

    def audit(self) -> Audit:
        return audit_run(self.written(), "r", EXPECTED)

    def written(self) -> MemoryBroker:
        broker = MemoryBroker()
        broker.create_topics("r", TOPICS, 2)
        topics = RunTopics(broker, "r", "test-0")
        for job in self.jobs:
            topics.send(JOBS, job.group_id, job)
        for job, index in self.rollouts:
            verdict = make_verdict(job=job, rollout_index=index)
            topics.send_of_group(TRAJECTORIES, job.group_id, make_trajectory(job, index))
            topics.send_of_group(VERDICTS, job.group_id, verdict)
        for part in self.parts:
            topics.send(WEIGHTS, "w", part)
        for update in self.updates:
            topics.send(UPDATES, "update", update)
        last = self.updates[-1]
        topics.send(POLICIES, "policy", Policy(version=last.version, digest=last.digest, step=last.step))
        for letter in self.letters:
            topics.send(DEADLETTERS, "x", letter)
        topics.writer.flush()
        return broker


def sound() -> Run:
    run, chain = Run(), Chain()
    run.parts += chain.anchor(0)
    run.jobs = [make_job(f"p{n}.0000", SIZE) for n in range(NUM_UPDATES * GROUPS_PER_UPDATE)]
    run.rollouts = [(job, index) for job in run.jobs for index in range(SIZE)]
    # (step, version, parent): the learner dies after version 2, and goes on from 1, as version 3
    for step, version, parent in ((1, 1, 0), (2, 2, 1), (1, 3, 1), (2, 4, 3), (3, 5, 4)):
        run.parts += chain.patch(version)
        of_step = run.jobs[(step - 1) * GROUPS_PER_UPDATE : step * GROUPS_PER_UPDATE]
        groups = () if version == 3 else tuple(map(end_of, of_step))
        run.updates.append(
            Update(
                step=step,
                version=version,
                parent_version=parent,
                groups=groups,
                digest=chain.digests[version],
                final=version == 5,
            )
        )
    return run


def test_a_run_that_lost_and_doubled_nothing_has_no_fault():
    found = sound().audit()
    assert found.faults == ()
    assert found.holds
    assert (found.num_updates, found.num_rolled_back, found.num_resumes) == (3, 1, 1)
    assert (found.num_rollouts, found.num_sampled, found.num_wasted) == (12, 12, 0)
    assert found.versions_rebuilt == (4, 5)


def lose_an_end(run: Run) -> None:
    last = run.updates[-1]
    run.updates[-1] = replace(last, groups=last.groups[:1])


def end_twice(run: Run) -> None:
    last = run.updates[-1]
    run.updates[-1] = replace(last, groups=(*last.groups, run.updates[0].groups[0]))


def end_what_was_not_admitted(run: Run) -> None:
    last = run.updates[-1]
    run.updates[-1] = replace(last, groups=(*last.groups, end_of(make_job("q.0000", SIZE))))


def skip_a_step(run: Run) -> None:
    run.updates[-1] = replace(run.updates[-1], step=4)


def lose_an_update(run: Run) -> None:
    del run.updates[3]


def end_early(run: Run) -> None:
    run.updates[-1] = replace(run.updates[-1], final=False)


def make_a_version_twice(run: Run) -> None:
    run.updates.insert(1, run.updates[0])


def lose_a_rollout(run: Run) -> None:
    run.rollouts.remove((run.jobs[2], 1))


def lose_the_weights(run: Run) -> None:
    run.parts = run.parts[:-1]


def bury_a_rollout(run: Run) -> None:
    job = make_job("lost.0000", SIZE)
    run.letters.append(letter_of(job))


def bury_garbage(run: Run) -> None:
    run.letters.append(replace(letter_of(run.jobs[0]), value=b"garbage"))


def letter_of(job: Job) -> DeadLetter:
    return DeadLetter(
        role="producer-0", topic=JOBS.of("r"), partition=0, offset=7, error="too late", key=b"", value=encode(job)
    )


@pytest.mark.parametrize(
    ("harm", "fault"),
    [
        (lose_an_end, "1 groups were admitted and never ended: p5.0000"),
        (end_twice, "1 groups ended more than once: p0.0000"),
        (end_what_was_not_admitted, "1 groups ended and were never admitted: q.0000"),
        (skip_a_step, "the surviving updates are not 1 to 3, one after the other: see 3, 4"),
        (lose_an_update, "the lineage does not go back to version 0: it begins behind 5"),
        (end_early, "the last update of the run is not on the log"),
        (make_a_version_twice, "1 versions were made twice"),
        (lose_a_rollout, "1 groups ended with rollouts that have no verdict: p2.0000"),
        (lose_the_weights, "the weights of the last version cannot be rebuilt from the log"),
        (bury_a_rollout, "1 dead letters are of no group that has ended: r.jobs/0/7 (too late)"),
        (bury_garbage, "1 dead letters are of no group that has ended: r.jobs/0/7 (too late)"),
    ],
)
def test_what_is_wrong_is_named(harm: Callable[[Run], None], fault: str):
    run = sound()
    harm(run)
    assert any(text.startswith(fault) for text in run.audit().faults), run.audit().faults


def test_the_budget_is_missed_by_a_group_that_ends_twice():
    run = sound()
    end_twice(run)
    assert "the groups that ended have 14 rollouts; the budget is 12" in run.audit().faults


def test_a_dead_letter_of_a_group_that_ended_is_explained():
    run = sound()
    run.letters = [letter_of(run.jobs[0]), letter_of(make_job("e.0000", SIZE, purpose="evaluate"))]
    found = run.audit()
    assert found.faults == ()
    assert found.num_dead_letters == 2


def test_what_was_sampled_twice_or_not_used_is_waste():
    run = sound()
    run.rollouts += [run.rollouts[0], run.rollouts[0]]
    last = run.updates[-1]
    run.updates[-1] = replace(last, groups=(last.groups[0], end_of(run.jobs[-1], "stale")))
    found = run.audit()
    assert found.faults == ()
    assert (len(found.sampled_twice), found.num_unused, found.num_sampled) == (2, SIZE, 14)
    assert found.wasted_share == 4 / 14


@pytest.mark.parametrize(
    ("updates", "code", "told"),
    [
        (NUM_UPDATES, 0, "nothing was lost, nothing was counted twice"),
        (4, 1, "FAULT: the surviving updates are not 1 to 4, one after the other: see 4"),
        (None, 0, "nothing was lost"),  # of a run whose folder is not here
    ],
)
def test_the_command_says_what_it_found_by_the_runs_own_configuration(
    updates: int | None, code: int, told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
):
    @contextmanager
    def opened(*_: object) -> Iterator[tuple[MemoryBroker, str, Path]]:
        yield sound().written(), "r", tmp_path

    if updates is not None:
        run = {"model": "m", "num_updates": updates, "rollouts_per_update": GROUPS_PER_UPDATE * SIZE}
        allocator = {"budget_tokens": 0, "pacing": "round", "mode": "learnability"}
        (tmp_path / "config.json").write_text(json.dumps({"run": run, "allocator": allocator}))
    monkeypatch.setattr("replay.cli.open_run", opened)
    assert main(["audit", "r"]) == code
    assert told in capsys.readouterr().out
