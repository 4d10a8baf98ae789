"""A worker's endpoint: figures for Prometheus, and whether the worker lives."""

import urllib.request
from urllib.error import HTTPError

import pytest

from localkafka.ports import choose_ports
from stream.errors import UserError
from stream.metrics import Metrics, serve


def get(port: int, path: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=10) as answer:
            return answer.status, answer.read().decode()
    except HTTPError as error:
        with error:
            return error.code, error.read().decode()


@pytest.fixture
def port() -> int:
    return choose_ports([1], None, None)[1].broker


def test_figures_are_gauges_with_the_workers_name(port):
    metrics = serve(port, "learner-0", silent_s=60)
    metrics.note({"learner/reward/mean": 0.5, "consumer/lag": 3}, "running")
    status, text = get(port, "/metrics")
    assert status == 200
    assert 'rucksack_learner_reward_mean{worker="learner-0"} 0.5' in text
    assert 'rucksack_consumer_lag{worker="learner-0"} 3.0' in text
    assert 'rucksack_heartbeat_timestamp_seconds{worker="learner-0"} 1' in text


def test_a_worker_that_sends_no_heartbeat_is_not_alive(port):
    metrics = serve(port, "w", silent_s=60)
    assert get(port, "/alive") == (200, "alive\n")
    metrics.note({}, "running")
    assert get(port, "/alive") == (200, "alive\n")
    metrics._silent_s = -1.0
    assert get(port, "/alive") == (503, "no heartbeat\n")


def test_a_worker_may_be_silent_while_it_saves():
    now = 0.0
    metrics = Metrics("w", silent_s=10, clock=lambda: now)
    now = 1000.0
    assert metrics.alive
    metrics.note({}, "running")
    now = 1009.0
    assert metrics.alive
    now = 1011.0
    assert not metrics.alive
    metrics.note({}, "saving")
    now = 5000.0
    assert metrics.alive


def test_a_port_in_use_is_a_users_mistake(port):
    serve(port, "w", silent_s=60)
    with pytest.raises(UserError, match=f"metrics port {port} of v cannot be used"):
        serve(port, "v", silent_s=60)
