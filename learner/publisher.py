"""Gets states of the weights to where producers find them: to the topic `weights` by patches, or to a folder each.

What enters are the changes of the weights, what leaves is what a `Policy` says of them. Both ways keep the published state
on the host, and name it by its digest. Called from one thread, beside training; a state is whole where it is going
before `publish` returns, and nobody samples from it before its policy is announced.
"""

import copy
import logging
import time
import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from learner.changes import Changes
from stream.config import Config
from stream.folders import drop_folder, publish_folder, remove_leftovers
from stream.messages import WeightsPart
from stream.patches import TensorPatch, cut, elements_of
from stream.run_topics import RunTopics
from stream.states import StateStore
from stream.topics import WEIGHTS
from stream.weights import WEIGHTS_FILE, State, write_state
from stream.weights_log import Anchor, oldest_needed

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Place:
    """Where a state is, as its policy says it."""

    digest: str
    offset: int = 0
    uri: str = ""
    num_bytes: int = 0
    """Written for it."""


class Publisher(Protocol):
    """A way for states to travel."""

    def publish(self, changes: Changes, version: int) -> Place:
        """Write the state that results from the changes; returns when it is durable."""

    def tidy(self, version: int) -> None:
        """After a version was announced: what may be slow, and what is not needed any more."""

    def close(self) -> None:
        """Free the connection."""


def publisher_of(config: Config, topics: RunTopics, model_config: Any) -> Publisher:
    """The way that `learner.weights` asks for."""
    if config.learner.weights == "log":
        return LogPublisher(config, topics)
    return FolderPublisher(config.run.path / "policies", config.learner.keep_policies, model_config)


class LogPublisher:
    """Patches of the state last published, on the topic `weights`, and whole states now and then."""

    def __init__(self, config: Config, topics: RunTopics) -> None:
        table = config.learner
        writer = topics.broker.writer(name=f"{topics.run}.learner.weights")
        self._topics = RunTopics(topics.broker, topics.run, topics.worker, writer)
        self._anchor_every, self._keep = table.anchor_every, table.keep_policies
        self._store = StateStore(table.anchor_store, topics.run) if table.anchor_store else None
        self._store_above = int(table.anchor_store_above_gib * 2**30)
        self._state: State | None = None
        self._digest = ""
        self._version = -1
        self._anchors: list[Anchor] = []
        self._oldest: Anchor | None = None
        """What is before it is deleted."""
        self._patch_bytes = 0
        """Of the patches since the newest anchor."""

    def publish(self, changes: Changes, version: int) -> Place:
        """Send the patch; a whole state at first, and where it is not much larger."""
        num_bytes = 0
        if self._state is None:
            # Its arrays are, on a CPU, those that the finder of changes keeps.
            self._state = State.of(changes.patches)
            self._digest = self._state.digest()
            num_bytes = self._send_anchor(version)
        elif changes.patches:
            self._state.apply(changes.patches)
            parent, self._digest = self._digest, self._state.digest()
            size = sum(patch.num_bytes for patch in changes.patches)
            if 2 * size >= self._state.num_bytes and not self._in_store:
                num_bytes = self._send_anchor(version)
            else:
                num_bytes = self._send(changes.patches, version, self._version, parent)
                self._patch_bytes += num_bytes
        self._version = version
        return Place(self._digest, offset=self._anchors[-1].offset, num_bytes=num_bytes)

    def tidy(self, version: int) -> None:
        """Send a whole state if it is due, and delete what none of the newest versions needs."""
        assert self._state is not None, "a version has been published"
        since = version - self._anchors[-1].version
        due = since >= self._anchor_every if self._anchor_every else self._patch_bytes >= self._state.num_bytes
        if due and since:
            self._send_anchor(version)
        oldest = oldest_needed(self._anchors, version, self._keep)
        if oldest is not None and oldest != self._oldest:
            self._oldest = oldest
            self._topics.broker.delete_records({(WEIGHTS.of(self._topics.run), 0): oldest.offset})
            if self._store is not None:
                self._store.drop_before(oldest.version)
            self._anchors = [anchor for anchor in self._anchors if anchor.version >= oldest.version]

    def close(self) -> None:
        """Free the connection."""
        self._topics.writer.close()

    @property
    def _in_store(self) -> bool:
        """Whether whole states go to the store."""
        assert self._state is not None, "there is a state"
        return self._store is not None and self._state.num_bytes > self._store_above

    def _send_anchor(self, version: int) -> int:
        assert self._state is not None, "there is a state"
        topic = WEIGHTS.of(self._topics.run)
        anchor = Anchor(version, self._topics.broker.end_offsets(topic)[0])
        if self._store is not None and self._in_store:
            uri = self._store.write(self._state, version, self._digest)
            num_bytes = self._send([], version, -1, "", uri)
        else:
            num_bytes = self._send(self._state.whole(), version, -1, "")
        self._anchors.append(anchor)
        self._patch_bytes = 0
        return num_bytes

    def _send(
        self, patches: Iterable[TensorPatch], version: int, parent: int, parent_digest: str, uri: str = ""
    ) -> int:
        publication, parts, num_bytes = uuid.uuid4().hex, cut(patches), 0
        for number, slices in enumerate(parts):
            elements = tuple(map(elements_of, slices))
            part = WeightsPart(
                version=version,
                parent_version=parent,
                digest=self._digest,
                parent_digest=parent_digest,
                publication=publication,
                part=number,
                num_parts=len(parts),
                elements=elements,
                uri=uri,
                created_s=time.time(),
            )
            self._topics.send(WEIGHTS, str(version), part)
            num_bytes += sum(len(e.values) + len(e.gaps) + len(e.high_gaps) for e in elements)
        self._topics.writer.flush()
        return num_bytes


class FolderPublisher:
    """A transformers model folder for each version, whole or not there at all, of which the newest few are kept."""

    def __init__(self, folder: Path, keep: int, model_config: Any) -> None:
        self._folder, self._keep = folder, keep
        self._model_config = model_config
        self._state: State | None = None
        folder.mkdir(parents=True, exist_ok=True)

    def publish(self, changes: Changes, version: int) -> Place:
        """Write weights and configuration."""
        if self._state is None:
            self._state = State.of(changes.patches)
        else:
            self._state.apply(changes.patches)
        remove_leftovers(self._folder)
        folder = self._folder / f"v{version:06d}"
        write_folder(folder, self._state, self._model_config)
        return Place(self._state.digest(), uri=str(folder.resolve()), num_bytes=self._state.num_bytes)

    def tidy(self, version: int) -> None:
        """Producers load a version at once, and try the next one if it is gone, so keeping a few is enough."""
        versions = sorted(path for path in self._folder.iterdir() if path.name.startswith("v"))
        for path in versions[: -self._keep]:
            drop_folder(path)

    def close(self) -> None:
        """Nothing to free."""


def write_folder(folder: Path, state: State, model_config: Any) -> None:
    """A transformers model folder of a state. It may be lost with the power: readers check the digest."""
    with publish_folder(folder, durable=False) as staging:
        with (staging / WEIGHTS_FILE).open("wb") as file:
            write_state(state, file)
        config = copy.deepcopy(model_config)
        config.dtype = next(iter(state.tensors.values())).dtype
        config.save_pretrained(staging)
