"""Says where the topics are."""

from typing import Any, Literal

from stream.config.table import Positive, PositiveFloat, Table


class BrokerTable(Table):
    """Where the topics are."""

    bootstrap_servers: str = ""
    """host:port[,host:port...] of a Kafka cluster; empty starts a local one in the run's folder."""
    settings: dict[str, Any] = {}
    """Passed to kafka-python's clients as they are: security_protocol, sasl_mechanism, ssl_cafile, ..."""
    nodes: Literal[1, 3] = 1
    """Nodes of a local cluster; with three, one may die without a pause of more than a few seconds."""
    partitions: Positive = 4
    """Partitions of jobs, trajectories and verdicts: the most producers or verifiers that can share the work."""
    timeout_s: PositiveFloat = 60.0
    """How long a role waits for a broker that does not answer."""
