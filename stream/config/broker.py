"""Says where the topics are."""

from typing import Annotated, Any, Literal

from pydantic import Field, field_serializer, field_validator

from stream.config.secrets import KINDS, is_reference, is_secret, shown
from stream.config.table import NonNegativeFloat, Positive, PositiveFloat, Table


class BrokerTable(Table):
    """Where the topics are."""

    bootstrap_servers: str = ""
    """host:port[,host:port...] of a Kafka cluster; empty starts a local one in the run's folder."""
    settings: Annotated[dict[str, Any], Field(repr=False)] = {}
    """Passed to kafka-python's clients: security_protocol, sasl_mechanism, ssl_cafile, ... The place of a value can be given
    instead, for passwords above all: { env = "VARIABLE" } or { file = "PATH" }."""
    nodes: Literal[1, 3] = 1
    """Nodes of a local cluster; with three, one may die without a pause of more than a few seconds."""
    partitions: Positive = 4
    """Partitions of jobs, trajectories and verdicts: the most producers or verifiers that can share the work."""
    answers_hours: NonNegativeFloat = 0
    """Hours after which the broker deletes trajectories and verdicts, most of a run's bytes, and jobs; 0 keeps them for ever,
    and jobs for 24 hours. Want much more than anything will ever be away: a role that comes back later misses what was
    deleted. Takes effect when the topics are created."""
    timeout_s: PositiveFloat = 60.0
    """How long a role waits for a broker that does not answer."""

    @field_validator("settings")
    @classmethod
    def _references_are_whole(cls, settings: dict[str, Any]) -> dict[str, Any]:
        for key, value in settings.items():
            whole = is_reference(value) and isinstance(next(iter(value.values())), str)
            meant = isinstance(value, dict) and set(value) & set(KINDS)
            if not whole and (meant or (is_secret(key) and not isinstance(value, str))):
                raise ValueError(f'{key} should be a text, {{ env = "VARIABLE" }} or {{ file = "PATH" }}')
        return settings

    @field_serializer("settings")
    def _without_passwords(self, settings: dict[str, Any]) -> dict[str, Any]:
        """No copy of a recipe (the run's folder, trackers) holds a password."""
        return shown(settings)
