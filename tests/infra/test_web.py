"""`rucksack up --web`: how the page is started, and that it goes on another port where its own is in use."""

import socket
from pathlib import Path

from infra.web import free_port, watch_command
from stream.config import load

ROOT = Path(__file__).parents[2]
DEMO = ROOT / "configs" / "demo.toml"


def test_the_page_of_a_local_broker_is_found_by_the_runs_folder():
    command = watch_command(load(DEMO, ["--run.dir", "/elsewhere"]), DEMO, 8600)
    at = command.index("replay.watch")
    assert command[at + 1 :] == ["demo", "--dir", "/elsewhere", "--port", "8600"]


def test_of_a_given_broker_the_address_is_passed_and_the_recipe_says_how_to_log_in():
    config = load(DEMO, ["--broker.bootstrap_servers", "k:1"])
    command = watch_command(config, DEMO, 8600)
    assert command[-4:] == ["--config", str(DEMO), "--bootstrap-servers", "k:1"]


def test_a_port_in_use_is_left_to_its_owner():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert free_port(port) not in (port, 0)
