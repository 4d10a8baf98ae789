"""Follows the policies: reads the states that `policies` announces, and offers the newest whose digest it has checked.

    policies --> heads, the newest few ---+
    weights ---> Assembler --a route-----> State on the host --digest checked--> Offer, to the engine

A state that cannot be reached (a part is missing, or cannot be read) is waited for; one whose digest is wrong is given up,
and the host's state with it: the follower begins again at the newest whole state, or waits for the next. What was offered
is never taken back: the engine goes on with the weights it has, which were checked.
"""

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from stream.broker import Record
from stream.codec import decode
from stream.messages import Policy, WeightsPart
from stream.patches import TensorPatch
from stream.run_topics import RunTopics
from stream.states import read_stored
from stream.topics import POLICIES, WEIGHTS
from stream.weights import State, digest_of
from stream.weights_log import Assembler, Publication

log = logging.getLogger(__name__)

MAX_HEADS = 8
"""Newest policies that are kept until one of them is served."""
NEWEST_RECORDS = 20
"""Of `policies`, in which the newest one is looked for at the start."""
POLL_RECORDS = 32
"""Of up to a megabyte each."""


@dataclass(frozen=True, slots=True)
class Head:
    """A policy, and the record that announced it."""

    policy: Policy
    record: Record


@dataclass(frozen=True, slots=True)
class Offer:
    """Weights whose digest is checked."""

    head: Head
    patches: Sequence[TensorPatch]
    """From what was last offered, or the whole state. Good until the next step with busy = False."""
    folder: str = ""
    """A transformers model folder, in place of patches."""
    checked_s: float = 0.0
    """Seconds that putting together and checking took."""

    @property
    def version(self) -> int:
        """The policy's."""
        return self.head.policy.version


class PolicyFollower:
    """Reads `policies` and `weights`. Used by one thread at a time."""

    def __init__(self, topics: RunTopics, poll_s: float = 0.25, *, whole: bool = False) -> None:
        self._topics = topics
        self.whole = whole
        """Offer whole states only."""
        self._poll_s = poll_s
        self._reader = topics.reader(POLICIES, WEIGHTS)
        self._weights = (WEIGHTS.of(topics.run), 0)
        self._heads: list[Head] = []
        self._assembler = Assembler()
        self._state: State | None = None
        self._digest: str | None = None
        """Of `_state`, checked."""
        self._offered = -1
        """The version that was offered last."""
        known = topics.read_all(POLICIES, newest=NEWEST_RECORDS)
        if known:
            self._begin_at(max(known, key=lambda policy: policy.version))

    def step(self, version: int, *, busy: bool) -> Offer | None:
        """Read what has come; unless the engine is busy, offer the newest weights that can be served.

        Args:
            version: the one that is served. If it is the one offered last, the next offer holds what has changed since,
                else everything.
            busy: whether the last offer is still being loaded.

        """
        for record in self._reader.poll(self._poll_s, POLL_RECORDS):
            try:
                self._read(record)
            except ValueError as error:  # BadRecord among them
                self._topics.send_to_deadletters(record, str(error))
        self._heads = sorted((h for h in self._heads if h.policy.version > version), key=_version)[-MAX_HEADS:]
        if busy:
            return None
        for head in reversed(self._heads):
            offer = self._folder(head) if head.policy.uri else self._from_log(head, whole=version != self._offered)
            if offer is not None:
                self._offered = offer.version
                return offer
        return None

    def drop(self, head: Head) -> None:
        """Offer this policy no more."""
        self._heads = [other for other in self._heads if other is not head]

    def close(self) -> None:
        """Free the reader."""
        self._reader.close()

    def _read(self, record: Record) -> None:
        if record.topic == self._weights[0]:
            self._assembler.add(decode(record.value, WeightsPart), self._digest)
            return
        self._heads.append(Head(decode(record.value, Policy), record))

    def _begin_at(self, policy: Policy) -> None:
        """Read `weights` from the whole state that leads to this policy."""
        if not policy.uri:
            self._reader.seek({self._weights: policy.offset})

    # -- states -------------------------------------------------------------------------------------------------------

    def _folder(self, head: Head) -> Offer | None:
        policy, started = head.policy, time.monotonic()
        try:
            digest = digest_of(policy.uri)
            if digest != policy.digest:
                raise ValueError(
                    f"weights of version {policy.version} have digest {digest}, announced was {policy.digest}"
                )
        except FileNotFoundError as error:
            # Only the newest few versions are kept: one that is gone before it was read has a successor on the topic.
            log.warning("policy gone version=%d error=%s", policy.version, error)
        except (OSError, ValueError) as error:
            self._topics.send_to_deadletters(head.record, str(error))
        else:
            return Offer(head, (), policy.uri, time.monotonic() - started)
        self.drop(head)
        return None

    def _from_log(self, head: Head, *, whole: bool) -> Offer | None:
        route = self._assembler.route(self._digest, head.policy.digest)
        if route is None:
            return None
        started = time.monotonic()
        try:
            patches = self._follow(route, head.policy)
        except (OSError, ValueError) as error:
            self._give_up(head, route[-1], str(error))
            return None
        self._assembler.forget(head.policy.version)
        assert self._state is not None, "a route leads to a state"
        if self.whole or whole or any(publication.is_whole for publication in route):
            patches = self._state.whole()
        return Offer(head, patches, checked_s=time.monotonic() - started)

    def _follow(self, route: Sequence[Publication], policy: Policy) -> list[TensorPatch]:
        """Bring the host's state to the policy's; returns what has changed, once the digest is checked."""
        changes: list[TensorPatch] = []
        for publication in route:
            patches = publication.patches()
            if publication.is_whole:
                uri = publication.head.uri
                self._state = read_stored(uri) if uri else State.of(patches)
                changes, patches = [], []
            assert self._state is not None, "patches come behind a state"
            self._digest = None
            self._state.apply(patches)
            changes += patches
        if route:
            assert self._state is not None, "a route leads to a state"
            digest = self._state.digest()
            if digest != policy.digest:
                raise ValueError(
                    f"weights of version {policy.version} have digest {digest}, announced was {policy.digest}"
                )
            self._digest = digest
        return merged(changes, self._state) if self._state is not None and len(route) > 1 else changes

    def _give_up(self, head: Head, publication: Publication, error: str) -> None:
        """Begin again at a whole state, without the last publication that led to the head."""
        self._topics.send_to_deadletters(head.record, error)
        self.drop(head)
        self._state, self._digest = None, None
        self._assembler.refuse(publication)
        self._begin_at(head.policy)


def merged(patches: Sequence[TensorPatch], state: State) -> list[TensorPatch]:
    """One patch for each tensor, with the values that the state has now."""
    by_name: dict[str, list[TensorPatch]] = {}
    for patch in patches:
        by_name.setdefault(patch.name, []).append(patch)
    result = []
    for name, some in by_name.items():
        bits, first = state.tensors[name].bits, some[0]
        indices = [patch.indices for patch in some if patch.indices is not None]
        union = np.unique(np.concatenate(indices)) if len(indices) == len(some) else None
        values = bits if union is None else bits[union]
        result.append(TensorPatch(name=name, shape=first.shape, dtype=first.dtype, values=values, indices=union))
    return result


def _version(head: Head) -> int:
    return head.policy.version
