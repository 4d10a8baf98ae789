"""Serves a worker's figures to Prometheus, and says to whoever asks whether it lives.

/metrics   the figures of the newest heartbeat, as gauges named after their keys:
           learner/reward/mean -> rucksack_learner_reward_mean{worker="learner-0"}
/alive     200, or 503 if the worker sent heartbeats, and none for `silent_s` though it should: for probes
"""

import re
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, make_server

from prometheus_client import CollectorRegistry, make_wsgi_app
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.exposition import ThreadingWSGIServer
from prometheus_client.registry import Collector

from stream.errors import UserError

MAY_BE_SILENT = ("closing", "saving")
"""States without heartbeats: writing a large model may take long."""
HEARTBEAT = "rucksack_heartbeat_timestamp_seconds"


class Metrics(Collector):
    """The newest figures of one worker."""

    def __init__(self, worker: str, silent_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._worker = worker
        self._silent_s = silent_s
        self._clock = clock
        self._newest: Mapping[str, float] = {}
        self._state = "starting"
        self._heard: float | None = None
        self._heartbeat_s = time.time()

    def note(self, metrics: Mapping[str, float], state: str) -> None:
        """Replace the figures: a heartbeat is sent."""
        self._newest, self._state, self._heard, self._heartbeat_s = dict(metrics), state, self._clock(), time.time()

    @property
    def alive(self) -> bool:
        """Whether the newest heartbeat is not too long ago; there is none while a model or an engine is loaded."""
        return self._heard is None or self._state in MAY_BE_SILENT or self._clock() - self._heard <= self._silent_s

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """What a scrape gets."""
        yield self._gauge(HEARTBEAT, "When the newest heartbeat was sent.", self._heartbeat_s)
        for key, value in self._newest.items():
            yield self._gauge(metric_name(key), key, value)

    def _gauge(self, name: str, text: str, value: float) -> GaugeMetricFamily:
        gauge = GaugeMetricFamily(name, text, labels=["worker"])
        gauge.add_metric([self._worker], value)
        return gauge


def metric_name(key: str) -> str:
    """The name of a figure in Prometheus."""
    return "rucksack_" + re.sub(r"[^a-zA-Z0-9]+", "_", key)


class _Silent(WSGIRequestHandler):
    def log_message(self, *_: Any) -> None:
        """Scrapes are no news."""


def serve(port: int, worker: str, silent_s: float) -> Metrics:
    """Answer on a port of this machine, in a thread of its own.

    Raises:
        UserError: the port is in use.

    """
    metrics, registry = Metrics(worker, silent_s), CollectorRegistry()
    registry.register(metrics)
    scrape = make_wsgi_app(registry)

    def answer(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        if environ.get("PATH_INFO") != "/alive":
            body: Iterable[bytes] = scrape(environ, start_response)
            return body
        start_response("200 OK" if metrics.alive else "503 Service Unavailable", [("Content-Type", "text/plain")])
        return [b"alive\n" if metrics.alive else b"no heartbeat\n"]

    try:
        server = make_server("0.0.0.0", port, answer, ThreadingWSGIServer, handler_class=_Silent)
    except OSError as error:
        raise UserError(
            f"metrics port {port} of {worker} cannot be used ({error.strerror}); choose another up.metrics_port"
        ) from None
    threading.Thread(target=server.serve_forever, name="metrics", daemon=True).start()
    return metrics
