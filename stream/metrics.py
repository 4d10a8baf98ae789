"""Serves a worker's figures to Prometheus: those of the newest heartbeat, as gauges named after their keys.

learner/reward/mean -> rucksack_learner_reward_mean{worker="learner-0"}
"""

import re
from collections.abc import Iterator, Mapping

from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from stream.errors import UserError


class Metrics(Collector):
    """The newest figures of one worker."""

    def __init__(self, worker: str) -> None:
        self._worker = worker
        self._newest: Mapping[str, float] = {}

    def note(self, metrics: Mapping[str, float]) -> None:
        """Replace the figures."""
        self._newest = dict(metrics)

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """What a scrape gets."""
        for key, value in self._newest.items():
            gauge = GaugeMetricFamily(metric_name(key), key, labels=["worker"])
            gauge.add_metric([self._worker], value)
            yield gauge


def metric_name(key: str) -> str:
    """The name of a figure in Prometheus."""
    return "rucksack_" + re.sub(r"[^a-zA-Z0-9]+", "_", key)


def serve(port: int, worker: str) -> Metrics:
    """Answer scrapes on a port of this machine, in a thread of its own.

    Raises:
        UserError: the port is in use.

    """
    metrics, registry = Metrics(worker), CollectorRegistry()
    registry.register(metrics)
    try:
        start_http_server(port, registry=registry)
    except OSError as error:
        raise UserError(
            f"metrics port {port} of {worker} cannot be used ({error.strerror}); choose another up.metrics_port"
        ) from None
    return metrics
