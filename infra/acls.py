"""Works out which rights on the broker each role needs, from the table of topics. Names in, kafka-acls.sh commands out.

Invariant: a role gets no right that `stream.topics` does not say it uses, so table and rights cannot differ.
"""

import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from stream.topics import CONSUMER_GROUPS, JOBS, ROLES, TOPICS, TRAJECTORIES, TRANSACTIONAL_IDS, WEIGHTS, reads, writes

ALL_ROLES = (*ROLES, "up", "replay", "scaler")
RESCORED = "rescored-"
"""How the names of the topics begin that `rucksack replay rescore` writes."""


@dataclass(frozen=True, slots=True)
class Acl:
    """Some operations on some resources of one kind."""

    operations: tuple[str, ...]
    resource: str
    """topic, group, transactional-id or cluster."""
    names: tuple[str, ...] = ()
    """On the broker; empty for the cluster, which has none."""
    prefixed: bool = False
    """The names are beginnings of names."""

    def options(self) -> Iterator[str]:
        """As kafka-acls.sh wants them."""
        for operation in self.operations:
            yield from ("--operation", operation)
        if not self.names:
            yield f"--{self.resource}"
        for name in self.names:
            yield from (f"--{self.resource}", name)
        if self.prefixed:
            yield from ("--resource-pattern-type", "prefixed")


def acls_of(role: str, run: str) -> list[Acl]:
    """What a role may do in a run. Read and Write include Describe."""
    if role in ROLES:
        return list(_of_worker(role, run))
    everything = Acl(("Read",), "topic", (f"{run}.",), prefixed=True)
    lag = Acl(("Describe",), "group", tuple(f"{run}.{group}" for group in CONSUMER_GROUPS.values()))
    if role == "up":
        return [everything, Acl(("Create",), "topic", (f"{run}.",), prefixed=True), lag]
    if role == "replay":
        rescored = Acl(("Create", "Write"), "topic", (f"{run}.{RESCORED}",), prefixed=True)
        return [everything, rescored, lag, Acl(("IdempotentWrite",), "cluster")]
    assert role == "scaler", role
    return [Acl(("Describe",), "topic", (JOBS.of(run), TRAJECTORIES.of(run))), lag]


def _of_worker(role: str, run: str) -> Iterator[Acl]:
    yield Acl(("Read",), "topic", tuple(topic.of(run) for topic in TOPICS if reads(role, topic)))
    yield Acl(("Write",), "topic", tuple(topic.of(run) for topic in TOPICS if writes(role, topic)))
    if writes(role, WEIGHTS):  # its own records that nobody needs any more
        yield Acl(("Delete",), "topic", (WEIGHTS.of(run),))
    if role in CONSUMER_GROUPS:
        yield Acl(("Read",), "group", (f"{run}.{CONSUMER_GROUPS[role]}",))
    if role in TRANSACTIONAL_IDS:
        yield Acl(("Write",), "transactional-id", (f"{run}.{TRANSACTIONAL_IDS[role]}",))
    yield Acl(("IdempotentWrite",), "cluster")


STRIMZI_KINDS = {"transactional-id": "transactionalId"}


def strimzi_users(run: str, roles: Sequence[str], cluster: str) -> list[dict[str, Any]]:
    """The same rights as `KafkaUser` objects of Strimzi: users RUN-ROLE who log in by SCRAM-SHA-512."""
    return [
        {
            "apiVersion": "kafka.strimzi.io/v1",
            "kind": "KafkaUser",
            "metadata": {"name": f"{run}-{role}", "labels": {"strimzi.io/cluster": cluster}},
            "spec": {
                "authentication": {"type": "scram-sha-512"},
                "authorization": {
                    "type": "simple",
                    "acls": [entry for acl in acls_of(role, run) for entry in _entries(acl)],
                },
            },
        }
        for role in roles
    ]


def _entries(acl: Acl) -> Iterator[dict[str, Any]]:
    kind = STRIMZI_KINDS.get(acl.resource, acl.resource)
    if not acl.names:
        yield {"resource": {"type": kind}, "operations": list(acl.operations)}
    for name in acl.names:
        pattern = "prefix" if acl.prefixed else "literal"
        yield {"resource": {"type": kind, "name": name, "patternType": pattern}, "operations": list(acl.operations)}


def commands(run: str, roles: Sequence[str], principal: str, bootstrap_servers: str, command_config: str) -> list[str]:
    """A comment for each role, and the commands that give it its rights.

    Args:
        principal: as the broker knows a role; {role} and {run} in it are replaced.

    """
    servers = bootstrap_servers if bootstrap_servers.startswith("$") else shlex.quote(bootstrap_servers)
    begin = f"kafka-acls.sh --bootstrap-server {servers} --command-config {shlex.quote(command_config)} --add"
    lines = []
    for role in roles:
        who = principal.replace("{role}", role).replace("{run}", run)
        lines.append(f"# {role}")
        of_role = f"{begin} --allow-principal {shlex.quote(who)}"
        lines += [f"{of_role} {shlex.join(acl.options())}" for acl in acls_of(role, run)]
    return lines
