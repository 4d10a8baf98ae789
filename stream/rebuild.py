"""Builds the weights of a version again from a run's topics alone, bit for bit.

What enters is a broker and a version, what leaves is the state, its digest checked. `updates` names the state of each version
(`policies`, which is compacted, that of the newest); `weights` has a chain that leads to it, as far back as its records
are kept.
"""

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
    digest = announced_digest(broker, run, version)
    assembler = Assembler(max_whole_states=None)
    oldest = None
    for part in messages(broker, run, WEIGHTS):
        if isinstance(part, WeightsPart) and part.version <= version:
            assembler.add(part)
        if not part.parent_digest:
            oldest = part.version if oldest is None else min(oldest, part.version)
    route = assembler.route(None, digest)
    if route is None:
        covered = "none is" if oldest is None else f"the oldest that is is {oldest}"
        raise NoSuchVersion(f"version {version} is not covered any more: {covered} (learner.keep_policies)")
    state = State()
    for publication in route:
        if publication.head.uri:
            state = read_stored(publication.head.uri)
        state.apply(publication.patches())
    if state.digest() != digest:
        raise NoSuchVersion(f"version {version}: what the topic holds has another digest than was announced, {digest}")
    return state


def announced_digest(broker: Broker, run: str, version: int) -> str:
    """Digest of the state of a version.

    Raises:
        NoSuchVersion: it was never published.

    """
    later = []
    for message in (*messages(broker, run, POLICIES), *messages(broker, run, UPDATES)):
        assert isinstance(message, Policy | Update), "the topics' messages"
        if message.version == version and message.digest:
            return message.digest
        if message.version > version and message.digest:
            later.append(message.version)
        elif message.version == version:
            later.append(version)
    if version in later:
        after = min((other for other in later if other > version), default=None)
        with_version = f"version {after}" if after is not None else "no other yet"
        raise NoSuchVersion(f"version {version} was published together with {with_version}, and not by itself")
    if version == 0 and later:
        return _first_whole(broker, run)
    raise NoSuchVersion(f"version {version} was never published")


def _first_whole(broker: Broker, run: str) -> str:
    """Digest of the base policy, which no update has made."""
    for part in messages(broker, run, WEIGHTS):
        if isinstance(part, WeightsPart) and part.version == 0 and not part.parent_digest:
            return part.digest
    raise NoSuchVersion("version 0 is not covered any more")
