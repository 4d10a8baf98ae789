"""The learner dies at every point of a publication in turn: producers sample from announced states alone, and the next
learner goes on."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from publications_world import World, bits_of

import learner.publisher
from producers.follower import PolicyFollower
from stream.memory import MemoryBroker, MemoryWriter
from stream.messages import Policy, Update
from stream.patches import cut
from stream.run_topics import RunTopics
from stream.topics import DEADLETTERS, POLICIES, UPDATES
from stream.weights import State


class Killed(BaseException):
    """SIGKILL."""


class MortalWriter(MemoryWriter):
    """Dies before or after what it does."""

    mortal: "MortalBroker"

    def send(self, *arguments: Any, **settings: Any) -> None:
        self.mortal.do(lambda: super(MortalWriter, self).send(*arguments, **settings))

    def flush(self) -> None:
        self.mortal.do(super().flush)

    @contextmanager
    def transaction(self) -> Iterator[None]:
        self.mortal.do(lambda: None)
        with super().transaction():
            yield
            self.mortal.do(lambda: None)  # all is sent, nothing committed
        self.mortal.do(lambda: None)


class MortalBroker(MemoryBroker):
    """What the learner does of the broker counts down to its death; once dead it does nothing more."""

    def __init__(self) -> None:
        super().__init__()
        self.left: int | None = None
        self.num_done = 0

    def do(self, action: Callable[[], Any]) -> Any:
        self._count()
        result = action()
        self._count()
        return result

    def _count(self) -> None:
        self.num_done += 1
        if self.left is not None:
            self.left -= 1
            if self.left <= 0:
                raise Killed

    def writer(self, *, name: str, transactional: bool = False) -> MemoryWriter:
        if "learner" not in name or name.endswith("-0"):
            return super().writer(name=name, transactional=transactional)
        plain = super().writer(name=name, transactional=transactional)
        writer = MortalWriter(self, name, plain._epoch)
        writer.mortal = self
        return writer

    def delete_records(self, before: Any) -> None:
        self.do(lambda: super(MortalBroker, self).delete_records(before))


class Run:
    """Learners one after the other, and a producer that follows throughout."""

    def __init__(self, folder: Path) -> None:
        self.broker = MortalBroker()
        self.world = World(folder, self.broker, anchor_every=3, keep_policies=2)
        self.truth: dict[int, dict[str, bytes]] = {}
        self.topics = RunTopics(self.broker, "r", "producer-0")
        self.follower, self.engine, self.served = PolicyFollower(self.topics, poll_s=0), State(), -1

    def update(self, number: int) -> None:
        """One version, published."""
        self.world.model.nudge(number, 1500)  # two parts
        self.truth[self.world.version + 1] = self.world.model.expected(torch.bfloat16)
        self.world.publish()

    def die_in_update(self, point: int, number: int) -> bool:
        """Whether the learner was killed on the way."""
        self.broker.left = point
        try:
            self.update(number)
        except Killed:
            return True
        finally:
            self.broker.left = None
        return False

    def resume(self, checkpoint: dict[str, torch.Tensor]) -> None:
        """A new learner, with the weights of a checkpoint and a version that is not on the log."""
        self.world.model.tensors = {name: tensor.clone() for name, tensor in checkpoint.items()}
        self.world.start()
        used = [m.version for topic in (UPDATES, POLICIES) for m in self.topics.read_all(topic)]
        self.world.version = max(used)
        self.truth[max(used) + 1] = self.world.model.expected(torch.bfloat16)
        self.world.publish()

    def follow(self) -> None:
        """The producer serves what it can, and it is what was announced."""
        for _ in range(6):
            offer = self.follower.step(self.served, busy=False)
            if offer is not None:
                self.engine.apply(offer.patches)
                self.served = offer.version
                assert bits_of(self.engine) == self.truth[offer.version]


def announced(run: Run) -> list[int]:
    return sorted({m.version for topic in (UPDATES, POLICIES) for m in run.topics.read_all(topic)})


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(learner.publisher, "cut", partial(cut, part_bytes=4000))


@pytest.mark.parametrize("late", [False, True], ids=["a patch", "a patch and a whole state"])
def test_at_every_point_of_a_publication(tmp_path: Path, late: bool) -> None:
    point, killed, seen = 0, True, set()
    while killed:
        point += 1
        run = Run(tmp_path / f"{late}{point}")
        for number in range(3 if late else 2):  # so that a whole state is due with the next version, or is not
            run.update(10 * number)
            run.follow()
        checkpoint = {name: tensor.clone() for name, tensor in run.world.model.tensors.items()}
        killed = run.die_in_update(point, 100)
        run.follow()
        seen.add((run.served, len(run.world.parts())))
        run.resume(checkpoint)
        run.follow()
        assert run.served == run.world.version
        for number in (200, 300, 400, 500):
            run.update(number)
            run.follow()
            assert run.served == run.world.version
        updates: list[Update] = run.topics.read_all(UPDATES)
        assert len({update.version for update in updates}) == len(updates)
        assert run.topics.read_all(DEADLETTERS) == []
        newest: Policy = run.topics.read_all(POLICIES)[-1]
        assert run.world.rebuilt(newest.version) == run.truth[newest.version]
        run.world.training.shutdown()
    assert point > 14  # before and after each part, the flushes, the transaction, the deletion
    assert {served for served, _ in seen} == ({2, 3} if late else {1, 2})  # some announced their version, some did not
    assert len({parts for _, parts in seen}) > 2
