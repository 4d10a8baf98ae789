"""Gets versions to the log beside training: one at a time, those that are made meanwhile together with the next.

    Update --add--> waiting --begin: what has changed, on the training thread--> Publisher, on a thread of its own
                                                                                     |
    updates, policies <--one transaction-- announce <--the state is durable----------+

What blocks it, and what unblocks it:
    - taking the changes needs weights that stand still: it is queued on the training thread, before the next update;
    - one publication is under way at a time; versions that are made meanwhile wait, and are published as one: only the
      newest has a policy, all have their update;
    - announcing raises Fenced once a newer learner of the run is active.

An update is announced together with a policy that holds it, after the last part of that policy's state is durable. While
the base policy is being evaluated its successors are withheld: their updates are announced alone, and the newest is
published afterwards, so that every producer, a new one too, samples from the base. The last policy is announced once
more, as the final one, when it is in a checkpoint: before that a crash may roll it back.
"""

import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from msgspec.structs import replace

from learner.changes import ChangeFinder, Changes
from learner.publisher import Place, Publisher
from stream.messages import Policy, Update
from stream.run_topics import RunTopics
from stream.topics import POLICIES, UPDATES


@dataclass(frozen=True, slots=True)
class _Published:
    place: Place
    changes: Changes
    take_s: float
    publish_s: float


class Publications:
    """Versions on their way to the log."""

    def __init__(self, trainer: Any, finder: ChangeFinder, publisher: Publisher, lineage: RunTopics) -> None:
        """`lineage` writes in transactions, and is fenced by a newer learner's."""
        self._trainer = trainer
        self._finder = finder
        self._publisher = publisher
        self._lineage = lineage
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="publish")
        self._waiting: list[Update] = []
        self._under_way: list[Update] = []
        self._published: Future[_Published] | None = None
        self._tidied: Future[None] | None = None
        self._newest: Policy | None = None
        """The policy that was announced last."""
        self._is_withholding = False
        self._withheld: list[Update] = []
        """The newest update, if it was announced without its weights."""
        self._known = 0
        """The newest version whose update is announced; the base policy was made by none."""

    def add(self, update: Update) -> None:
        """A version is made, and not published yet."""
        self._waiting.append(update)

    @property
    def settled(self) -> bool:
        """Whether every version that was made is announced."""
        return not self._waiting and self._published is None

    @property
    def under_way(self) -> "Future[Any] | None":
        """What goes on beside the loop."""
        return self._published

    def begin(self, training: ThreadPoolExecutor) -> None:
        """Publish the newest version, if it waits and nothing is under way. Called while no update is being trained.

        What follows on the training thread starts after the changes are taken. What is withheld is announced at once.

        Raises:
            Fenced: a newer learner of this run is active.

        """
        if not self._waiting or self._published is not None or (self._tidied is not None and not self._tidied.done()):
            return
        if self._tidied is not None:
            self._tidied.result()
        if self._is_withholding and self._waiting[-1].step > 0:
            self._announce_updates(self._waiting)
            self._withheld, self._waiting = self._waiting[-1:], []
            return
        self._under_way, self._waiting = self._waiting, []
        taken = training.submit(self._take)
        self._published = self._thread.submit(self._publish, taken, self._under_way[-1].version)

    def announce(self) -> None:
        """Make known what has become durable.

        Raises:
            Fenced: a newer learner of this run is active.

        """
        if self._published is None or not self._published.done():
            return
        done, updates = self._published.result(), self._under_way
        newest = updates[-1]
        policy = Policy(
            version=newest.version,
            digest=done.place.digest,
            step=newest.step,
            offset=done.place.offset,
            uri=done.place.uri,
            created_s=time.time(),
        )
        updates = [*updates[:-1], replace(newest, digest=policy.digest, metrics={**newest.metrics, **_figures(done)})]
        self._announce_updates(updates, policy)
        self._published, self._under_way, self._newest = None, [], policy
        self._tidied = self._thread.submit(self._publisher.tidy, newest.version)

    def settle(self, training: ThreadPoolExecutor, while_waiting: Callable[[], None]) -> None:
        """Publish and announce all; returns when that is done. Called while no update is being trained."""
        while not self.settled:
            self.begin(training)
            future = self._published or self._tidied
            while future is not None and not future.done():
                while_waiting()
                _wait(future)
            self.announce()

    def withhold(self) -> None:
        """From now on announce updates, and publish no weights of theirs: whoever starts finds those of the base."""
        self._is_withholding = True

    def release(self) -> None:
        """Publish again, the newest version too."""
        self._waiting = self._withheld + self._waiting
        self._is_withholding, self._withheld = False, []

    def announce_final(self) -> None:
        """Make known that no version follows the newest, which is announced and in a checkpoint.

        Raises:
            Fenced: a newer learner of this run is active.

        """
        assert self.settled and self._newest is not None
        self._newest = replace(self._newest, final=True, created_s=time.time())
        with self._lineage.writer.transaction():
            self._lineage.send(POLICIES, "policy", self._newest)

    def close(self) -> None:
        """Wait for what is under way, and free the connection."""
        self._thread.shutdown(wait=True)
        if self._tidied is not None:
            self._tidied.result()
        self._publisher.close()

    def _announce_updates(self, updates: Sequence[Update], policy: Policy | None = None) -> None:
        """Together with the policy that holds them, or alone; those that are known are not sent again."""
        with self._lineage.writer.transaction():
            for update in updates:
                if update.version > self._known:
                    self._lineage.send(UPDATES, "update", update)
            if policy is not None:
                self._lineage.send(POLICIES, "policy", policy)
        self._known = updates[-1].version

    def _take(self) -> tuple[Changes, float]:
        started = time.monotonic()
        return self._finder.take(self._trainer.each_weight()), time.monotonic() - started

    def _publish(self, taken: "Future[tuple[Changes, float]]", version: int) -> _Published:
        changes, take_s = taken.result()
        started = time.monotonic()
        place = self._publisher.publish(changes, version)
        return _Published(place, changes, take_s, time.monotonic() - started)


def _figures(done: _Published) -> dict[str, float]:
    return {
        "learner/weights/bytes": float(done.place.num_bytes),
        "learner/weights/changed_share": done.changes.num_changed / max(done.changes.num_elements, 1),
        "learner/weights/take_s": done.take_s,
        "learner/weights/publish_s": done.publish_s,
    }


def _wait(future: "Future[Any]") -> None:
    try:
        future.exception(timeout=0.1)
    except TimeoutError:
        return
