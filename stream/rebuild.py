"""Builds the weights of a version again from a run's topics alone, bit for bit.

What enters is a broker and a version, what leaves is the state, its digest checked. `updates` names the state of each version
(`policies`, which is compacted, that of the newest); `weights` has a chain that leads to it, as far back as its records
are kept.
"""

from contextlib import suppress

from stream.broker import Broker
from stream.errors import UserError
from stream.messages import Policy, Update, WeightsPart
from stream.snapshot import messages
from stream.states import read_stored
from stream.topics import POLICIES, UPDATES, WEIGHTS
from stream.weights import State
from stream.weights_log import Assembler


class NoSuchVersion(UserError):
    """The topics do not hold this version (any more)."""


def rebuild(broker: Broker, run: str, version: int) -> State:
    """The weights of a version.

    Raises:
        NoSuchVersion: it was never published, or its records are deleted.

    """
    return Versions(broker, run, version).state(version)


class Versions:
    """The versions that a run's topics hold, read once."""

    def __init__(self, broker: Broker, run: str, newest: int | None = None) -> None:
        """Read all parts up to the version `newest`; None reads all."""
        self._assembler = Assembler(max_whole_states=None)
        self._oldest: int | None = None
        self._first_whole = ""
        self._announced = [*messages(broker, run, POLICIES), *messages(broker, run, UPDATES)]
        for part in messages(broker, run, WEIGHTS):
            assert isinstance(part, WeightsPart), "the topic's message"
            if newest is None or part.version <= newest:
                with suppress(ValueError):  # a part that contradicts itself is as good as lost
                    self._assembler.add(part)
            if not part.parent_digest:
                self._oldest = part.version if self._oldest is None else min(self._oldest, part.version)
                self._first_whole = self._first_whole or (part.digest if part.version == 0 else "")

    def state(self, version: int) -> State:
        """The weights of a version.

        Raises:
            NoSuchVersion: it was never published, or its records are deleted.

        """
        digest = self._digest(version)
        route = self._assembler.route(None, digest)
        if route is None:
            covered = "none is" if self._oldest is None else f"the oldest that is is {self._oldest}"
            raise NoSuchVersion(f"version {version} is not covered any more: {covered} (learner.keep_policies)")
        state = State()
        for publication in route:
            if publication.head.uri:
                state = read_stored(publication.head.uri)
            elif publication.is_whole:
                state = State.of(publication.patches())
            else:
                state.apply(publication.patches())
        if state.digest() != digest:
            raise NoSuchVersion(
                f"version {version}: what the topic holds has another digest than was announced, {digest}"
            )
        return state

    def _digest(self, version: int) -> str:
        announced: dict[int, str] = {}
        for message in self._announced:
            assert isinstance(message, Policy | Update), "the topics' messages"
            announced[message.version] = announced.get(message.version) or message.digest
        if announced.get(version):
            return announced[version]
        later = sorted(other for other, digest in announced.items() if other > version and digest)
        if version in announced and later:
            raise NoSuchVersion(f"version {version} was published together with version {later[0]}, and not by itself")
        if version == 0 and later and self._first_whole:  # the base policy was made by no update
            return self._first_whole
        raise NoSuchVersion(f"version {version} was never published")
