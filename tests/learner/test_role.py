"""The learner's role on the memory broker."""

import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import pytest
from allocator_mortal import KilledError
from factories import make_job, make_verdict

from learner import checkpoint
from learner.recovery import surviving
from learner.role import Learner
from learner.trainer import Trainer
from replay.load import read_run
from replay.summary import summarize
from stream.codec import decode
from stream.config import Config
from stream.config.evaluator import EvaluatorTable
from stream.errors import Fenced, UserError
from stream.memory import MemoryBroker
from stream.messages import Budgeting, Evaluation, Heartbeat
from stream.run_topics import RunTopics
from stream.topics import DEADLETTERS, EVALUATIONS, HEARTBEATS, POLICIES, TOPICS, UPDATES, VERDICTS, WEIGHTS
from stream.weights import digest_of
from stream.worker import hand_over, run_loop

TWO_GROUPS = dict.fromkeys("ab", ("wrong", "correct", "wrong", "correct"))


class World:
    """A broker with the verdicts of groups that make one update; checkpoints are due every ten."""

    def __init__(self, model: Path, folder: Path, groups: Mapping[str, Sequence[str]] = TWO_GROUPS) -> None:
        """`groups`: outcomes of the rollouts of each."""
        self.config = Config(
            run={"name": "r", "dir": folder, "model": str(model), "num_updates": 5, "prompts_per_update": len(groups)},
            learner={"objective": "tis", "checkpoint_every": 10},
            evaluator={"enabled": False},
        )
        self.broker = MemoryBroker()
        self.broker.create_topics("r", TOPICS, 2)
        self.topics = RunTopics(self.broker, "r", "learner-0")
        for group, outcomes in groups.items():
            for rollout, outcome in enumerate(outcomes):
                verdict = make_verdict(group, rollout, float(outcome == "correct"), len(outcomes), outcome=outcome)
                self.topics.send_of_group(VERDICTS, group, verdict)

    def learner(self) -> Learner:
        return Learner(self.config, self.topics, tokenizer=MagicMock())

    def heartbeats(self) -> list[str]:
        return [decode(r.value, Heartbeat).state for r in self.broker.logs[HEARTBEATS.of("r")][0]]


class OnceTraining(threading.Event):
    """Set as soon as the learner has taken its first groups for an update."""

    def __init__(self, learner: Learner) -> None:
        super().__init__()
        self._learner = learner

    def is_set(self) -> bool:
        return self._learner._training is not None


class AfterUpdates(threading.Event):
    """Set once the learner has made so many updates."""

    def __init__(self, learner: Learner, num_updates: int) -> None:
        super().__init__()
        self._learner, self._num_updates = learner, num_updates

    def is_set(self) -> bool:
        return self._learner.metrics()["learner/step"] >= self._num_updates


def run_step_by_step(learner: Learner, stop: threading.Event) -> None:
    """The loop, which looks at `stop` after every step: by itself it makes all that can be made at once between two looks."""
    work = learner.work
    learner.work = lambda: work() and False  # type: ignore[method-assign]
    run_loop(learner, learner._topics, learner.reader, stop, poll_s=0.001)


@pytest.fixture
def world(tiny_model: Path, tmp_path: Path) -> World:
    return World(tiny_model, tmp_path)


def test_a_learner_that_is_stopped_keeps_the_update_under_way(world):
    learner = world.learner()
    run_step_by_step(learner, OnceTraining(learner))
    assert learner.metrics()["learner/step"] == 1
    resumed = world.learner()
    assert resumed.metrics()["learner/step"] == 1
    assert resumed.reader.poll(0.0) == []  # both groups are in the checkpoint's past


def test_a_learner_that_another_has_replaced_makes_no_version_known(world):
    old, new = world.learner(), world.learner()
    with pytest.raises(Fenced, match="replaced by a newer one"):
        run_loop(old, world.topics, old.reader, threading.Event())
    assert [update.version for update in world.topics.read_all(UPDATES)] == [1]
    run_step_by_step(new, OnceTraining(new))
    assert [(update.version, update.parent_version) for update in world.topics.read_all(UPDATES)] == [(1, 0), (2, 1)]
    assert [policy.version for policy in world.topics.read_all(POLICIES)] == [0, 1, 2]


def evaluation_of(name: str) -> Evaluation:
    versions = {"policy_version": 0, "min_policy_version": 0, "max_policy_version": 0}
    return Evaluation(name=name, accuracy=0.5, temperature=0.0, scores=(), **versions)


def test_newer_policies_are_withheld_until_the_base_policy_is_evaluated(tiny_model: Path, tmp_path: Path) -> None:
    world = World(tiny_model, tmp_path, dict.fromkeys("abcdefgh", ("wrong", "correct")))
    run = world.config.run.model_copy(update={"prompts_per_update": 1, "num_updates": 8})
    evaluator = EvaluatorTable(base_samples=0)
    world.config = world.config.model_copy(update={"run": run, "evaluator": evaluator})
    assert evaluator.awaited == {"heldout", "pool"}

    def run_until(num_updates: int) -> tuple[int, list[int]]:
        learner = world.learner()  # one that was stopped withholds again
        run_step_by_step(learner, AfterUpdates(learner, num_updates))
        step = world.topics.read_all(UPDATES)[-1].step
        assert step in (num_updates, num_updates + 1)  # it finishes the one under way
        return step, [policy.step for policy in world.topics.read_all(POLICIES)]

    assert run_until(2)[1] == [0]
    world.topics.send(EVALUATIONS, "pool", evaluation_of("pool"))
    step, policies = run_until(4)
    assert policies == [0]
    world.topics.send(EVALUATIONS, "heldout", evaluation_of("heldout"))
    _, policies = run_until(6)
    assert policies[:2] == [0, step]
    assert run_until(8) == (8, [*policies, *range(policies[-1], 9), 8])
    assert world.topics.read_all(POLICIES)[-1].final


def test_a_run_does_not_end_before_its_base_policy_is_evaluated(tiny_model: Path, tmp_path: Path) -> None:
    world = World(tiny_model, tmp_path)
    run = world.config.run.model_copy(update={"num_updates": 1})
    world.config = world.config.model_copy(update={"run": run, "evaluator": EvaluatorTable(base_samples=0, pool=False)})
    learner = world.learner()
    while learner._step < 1 or not learner._publications.settled:
        for record in learner.reader.poll(0.0):
            hand_over(learner, world.topics, record, None)
        learner.work()
    assert not learner.finished
    world.topics.send(EVALUATIONS, "heldout", evaluation_of("heldout"))
    run_loop(learner, world.topics, learner.reader, threading.Event())
    assert [(policy.step, policy.final) for policy in world.topics.read_all(POLICIES)] == [
        (0, False),
        (1, False),
        (1, True),
    ]


def test_weights_travel_by_folders_where_the_recipe_says_so(world):
    world.config = Config.model_validate(
        world.config.model_dump() | {"learner": {"objective": "tis", "weights": "files"}}
    )
    learner = world.learner()
    run_step_by_step(learner, OnceTraining(learner))
    policies = world.topics.read_all(POLICIES)
    assert [Path(policy.uri).name for policy in policies] == ["v000000", "v000001"]
    assert [digest_of(policy.uri) for policy in policies] == [policy.digest for policy in policies]
    assert world.topics.read_all(WEIGHTS) == []


def test_a_half_written_checkpoint_does_not_go_on_filling_the_disk(world):
    half_written = world.config.run.path / "checkpoints" / ".writing-3"
    half_written.mkdir(parents=True)
    (half_written / "parameters.safetensors").write_bytes(b"half")
    world.learner()
    assert not half_written.exists()


def test_a_learner_that_writes_weights_says_so_first(world):
    learner = world.learner()
    run_step_by_step(learner, OnceTraining(learner))
    assert "saving" in world.heartbeats()


def test_screen_and_report_show_the_same_gradient_ratios_where_something_timed_out(
    tiny_model: Path, tmp_path: Path
) -> None:
    groups = {
        "mixed": ("correct", "wrong", "timeout", "timeout"),
        "same": ("correct", "correct", "correct", "timeout"),
        "ungraded": ("timeout", "timeout", "error", "timeout"),
    }
    world = World(tiny_model, tmp_path, groups)
    learner = world.learner()
    run_step_by_step(learner, OnceTraining(learner))
    (update,) = world.topics.read_all(UPDATES)
    on_screen = {name: update.metrics[f"learner/effective_gradient_ratio/{name}"] for name in ("samples", "prompts")}
    assert on_screen == {"samples": 2 / 5, "prompts": 1 / 2}
    reported = summarize(read_run(world.broker, "r")).ratios
    assert (reported.samples, reported.prompts) == (on_screen["samples"], on_screen["prompts"])


# -- without its folder -----------------------------------------------------------------------------------------------


def several_updates(tiny_model: Path, tmp_path: Path, **learner: object) -> World:
    """Six groups, of which a learner with a checkpoint every two updates has trained four, one by one."""
    groups = dict.fromkeys("abcdef", ("wrong", "correct"))
    world = World(tiny_model, tmp_path / "first", groups)
    world.config = Config(
        run={
            "name": "r",
            "dir": tmp_path / "first",
            "model": str(tiny_model),
            "num_updates": 9,
            "prompts_per_update": 1,
        },
        producer={"dtype": "bfloat16"},
        learner={"objective": "tis", "checkpoint_every": 2, "lr": 1e-2, **learner},
        evaluator={"enabled": False},
    )
    first = world.learner()
    run_step_by_step(first, AfterUpdates(first, 4))
    world.config = world.config.model_copy(
        update={"run": world.config.run.model_copy(update={"dir": tmp_path / "elsewhere"})}
    )
    return world


@pytest.mark.parametrize("table", [{}, {"lora_rank": 2, "lora_publish": "adapter"}])
def test_a_run_without_its_folder_goes_on_from_the_log(tiny_model: Path, tmp_path: Path, table: Any) -> None:
    world = several_updates(tiny_model, tmp_path, **table)
    before = world.topics.read_all(UPDATES)
    second = world.learner()
    resumed = world.topics.read_all(UPDATES)[-1]
    assert (resumed.step, resumed.parent_version) == (before[-1].step, before[-1].version)
    assert resumed.digest == before[-1].digest  # the same weights, bit for bit
    run_step_by_step(second, AfterUpdates(second, 6))
    updates = world.topics.read_all(UPDATES)
    ended = [end.group_id for update in surviving(updates) for end in update.groups]
    assert sorted(ended) == list("abcdef")


def test_a_run_whose_log_cannot_make_up_for_the_folder_is_refused(tiny_model: Path, tmp_path: Path) -> None:
    world = several_updates(tiny_model, tmp_path)
    world.broker.delete_records(dict.fromkeys([(WEIGHTS.of("r"), 0)], 10**6))
    with pytest.raises(UserError, match=r"has no checkpoint, and its weights cannot be rebuilt: .* copy the run's"):
        world.learner()


def test_merged_weights_cannot_make_up_for_lost_adapters(tiny_model: Path, tmp_path: Path) -> None:
    world = several_updates(tiny_model, tmp_path, lora_rank=2)
    with pytest.raises(UserError, match=r"with learner\.lora_rank = 2 they cannot be made up for from the log; copy"):
        world.learner()


def test_a_learner_that_was_killed_before_its_first_checkpoint_begins_again(tiny_model: Path, tmp_path: Path) -> None:
    world = several_updates(tiny_model, tmp_path, checkpoint_every=10)
    again = world.learner()
    assert again.metrics()["learner/step"] == 0
    assert world.topics.read_all(UPDATES)[-1].parent_version == 0


# -- beliefs as the baseline ------------------------------------------------------------------------------------------


def ending_world(tiny_model: Path, tmp_path: Path) -> World:
    """Three groups for three updates, with a checkpoint after the second and at the end."""
    world = World(tiny_model, tmp_path, dict.fromkeys("abc", ("wrong", "correct")))
    world.config = Config(
        run={"name": "r", "dir": tmp_path, "model": str(tiny_model), "num_updates": 3, "prompts_per_update": 1},
        learner={"objective": "tis", "checkpoint_every": 2, "lr": 1e-2},
        evaluator={"enabled": False},
    )
    return world


def test_the_final_policy_is_announced_once_its_checkpoint_is_written(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = ending_world(tiny_model, tmp_path)
    killed = world.learner()
    save = checkpoint.save

    def save_or_die(folder: Path, trainer: Trainer, progress: checkpoint.Progress, keep: int) -> None:
        if progress.step == 3:
            raise KilledError
        save(folder, trainer, progress, keep)

    with monkeypatch.context() as patched, pytest.raises(KilledError):
        patched.setattr(checkpoint, "save", save_or_die)
        run_loop(killed, world.topics, killed.reader, threading.Event())
    assert world.topics.read_all(UPDATES)[-1].final
    assert newest_checkpoint(world) == 2
    assert not any(policy.final for policy in world.topics.read_all(POLICIES))
    resumed = world.learner()
    run_loop(resumed, world.topics, resumed.reader, threading.Event())
    *others, final = world.topics.read_all(POLICIES)
    assert (final.final, final.step) == (True, 3)
    assert not any(policy.final for policy in others)
    assert (others[-1].version, others[-1].digest) == (final.version, final.digest)
    assert newest_checkpoint(world) == 3


def newest_checkpoint(world: World) -> int:
    """Its updates."""
    return max(int(folder.name.removeprefix("step")) for folder in (world.config.run.path / "checkpoints").iterdir())


def test_a_run_that_ended_in_its_checkpoint_still_announces_the_final_policy(tiny_model: Path, tmp_path: Path) -> None:
    world = ending_world(tiny_model, tmp_path)
    learner = world.learner()
    run_loop(learner, world.topics, learner.reader, threading.Event())
    world.broker.logs[POLICIES.of("r")][0].pop()  # as if killed before the last announcement
    assert not world.topics.read_all(POLICIES)[-1].final
    resumed = world.learner()
    run_loop(resumed, world.topics, resumed.reader, threading.Event())
    assert world.topics.read_all(POLICIES)[-1].final


def belief_world(tiny_model: Path, tmp_path: Path) -> World:
    """A broker without verdicts, and a run whose updates are of four rollouts."""
    world = World(tiny_model, tmp_path, {"a": ("correct", "wrong")})
    world.config = Config(
        run={"name": "r", "dir": tmp_path, "model": str(tiny_model), "num_updates": 9, "rollouts_per_update": 4},
        learner={"objective": "belief", "checkpoint_every": 10},
        evaluator={"enabled": False},
    )
    world.broker = MemoryBroker()
    world.broker.create_topics("r", TOPICS, 2)
    world.topics = RunTopics(world.broker, "r", "learner-0")
    return world


def send_single(world: World, group: str, reward: float, size: int = 1, a: float = 1.0) -> None:
    reason = Budgeting(mode="learnability", success_rate=0.5, num_observed=0, value=0.1, price=0.1, a=a, b=a)
    for rollout in range(size):
        job = make_job(group, size, budgeting=reason)
        verdict = make_verdict(rollout_index=rollout, reward=reward, job=job)
        world.topics.send_of_group(VERDICTS, group, verdict)


def test_an_update_is_of_the_rollouts_that_come_first_and_the_next_one_takes_less_where_a_group_reached_over(
    tiny_model: Path, tmp_path: Path
) -> None:
    world = belief_world(tiny_model, tmp_path)
    for group, size in (("a", 1), ("b", 1), ("c", 3), ("d", 1), ("e", 1), ("f", 1)):
        send_single(world, group, float(group in "ae"), size)
    learner = world.learner()
    run_step_by_step(learner, AfterUpdates(learner, 2))
    updates = [update for update in world.topics.read_all(UPDATES) if update.groups]
    sizes = [sum(end.num_rollouts for end in update.groups) for update in updates]
    assert sum(sizes) == 8
    assert sizes[0] in (4, 5, 6)  # two partitions: the group of three may come at any place
    assert {end.ending for update in updates for end in update.groups} == {"trained"}
    assert [update.metrics["learner/effective_gradient_ratio/samples"] for update in updates] == [1.0, 1.0]
    assert updates[0].metrics["learner/belief/log_loss"] == pytest.approx(0.6931, abs=1e-4)


def test_a_verdict_whose_job_holds_no_belief_goes_to_deadletters(tiny_model: Path, tmp_path: Path) -> None:
    world = belief_world(tiny_model, tmp_path)
    send_single(world, "x", 1.0, a=0.0)
    for group in "abcdefgh":
        send_single(world, group, 1.0)
    learner = world.learner()
    run_step_by_step(learner, AfterUpdates(learner, 2))
    (letter,) = world.topics.read_all(DEADLETTERS)
    assert "the job of group x holds no belief (budgeting.a and .b)" in letter.error
    assert learner.metrics()["learner/step"] == 2


def test_the_learner_wakes_when_its_update_is_made_and_when_it_is_published(world):
    learner = world.learner()
    for delivery in learner.reader.poll(0.0):
        hand_over(learner, world.topics, delivery)
    assert learner.work()
    learner.rest(3600.0)
    assert learner._training.done()
    learner.work()
    assert world.topics.read_all(UPDATES) == []
    learner.rest(3600.0)
    learner.work()
    assert [update.version for update in world.topics.read_all(UPDATES)] == [1]
    learner.close()
