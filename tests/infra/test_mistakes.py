"""A user's mistake gives one clear line and a non-zero exit: no traceback, nothing started, nothing left behind."""

import json
import socket
from pathlib import Path

import pytest
from rich.console import Console

from infra.broker_nodes import BrokerNodes
from infra.cli import main
from infra.placement import Placement
from infra.run import Run
from infra.screen import LineScreen
from stream.config import Config, UpTable
from stream.errors import UserError


@pytest.fixture
def model() -> Path:
    return Path("demo/base")


def write_recipe(folder: Path, model: Path | str, prompts: str = "codes", extra: str = "") -> Path:
    recipe = folder / "recipe.toml"
    recipe.write_text(
        f'[run]\nname = "r"\nmodel = "{model}"\ndir = "{folder / "runs"}"\nprompts_per_update = 2\n'
        f'[prompts]\nsource = "{prompts}"\nnum_prompts = 8\nnum_heldout = 4\n[broker]\ntimeout_s = 1.0\n{extra}'
    )
    return recipe


def error_line(capsys: pytest.CaptureFixture[str], arguments: list[str], code: int = 2) -> str:
    assert main(arguments) == code
    error = capsys.readouterr().err.strip()
    assert "Traceback" not in error
    return error


def test_unknown_key_is_named_with_the_one_that_was_meant(tmp_path, model, capsys) -> None:
    recipe = write_recipe(tmp_path, model, extra="[learner]\nlearning_rat = 1e-3\n")
    error = error_line(capsys, ["up", str(recipe)])
    assert error.startswith(f"rucksack up: {recipe}: unknown key learner.learning_rat; ")
    assert len(error.splitlines()) == 1


def test_a_prompt_without_room_is_told_by_the_keys(tmp_path, model, capsys) -> None:
    recipe = write_recipe(tmp_path, model, extra="[sampling]\nmax_tokens = 32\n[producer]\nmax_model_len = 32\n")
    error = error_line(capsys, ["up", str(recipe)])
    assert "sampling.max_tokens is 32, which leaves no room for a prompt in producer.max_model_len, 32; lower" in error


@pytest.mark.parametrize("name", ["wandb", "tensorboard", "trackio"])
def test_a_tracker_that_is_not_installed_is_told_before_anything_starts(
    tmp_path, model, capsys, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr("tracker.sinks.find_spec", lambda module: None)
    error = error_line(capsys, ["up", str(write_recipe(tmp_path, model)), f'--tracking.to=["jsonl", "{name}"]'])
    assert f"tracking.to has '{name}', which needs a package that is not installed" in error
    assert f"uv pip install --python .venv/bin/python {name}`" in error


def test_samples_without_temperature_are_refused(tmp_path, model, capsys) -> None:
    error = error_line(capsys, ["up", str(write_recipe(tmp_path, model)), "--evaluator.samples", "4"])
    assert "samples is 4 with temperature 0, where all samples are alike; want a temperature above 0" in error


def test_unknown_key_on_the_command_line_is_refused(tmp_path, model, capsys) -> None:
    error = error_line(capsys, ["up", str(write_recipe(tmp_path, model)), "--learner.lrr", "1"])
    assert "learner.lrr" in error


def test_missing_recipe_prompts_and_model_are_named(tmp_path, model, capsys) -> None:
    assert "configuration file nowhere.toml does not exist" in error_line(capsys, ["up", "nowhere.toml"])
    missing = tmp_path / "missing.jsonl"
    error = error_line(capsys, ["up", str(write_recipe(tmp_path, model, str(missing)))])
    assert error == f"rucksack up: prompts file {missing} does not exist; give prompts.source an existing file"
    error = error_line(capsys, ["up", str(write_recipe(tmp_path, tmp_path / "no-model"))])
    assert "which is not a folder with a config.json" in error
    error = error_line(capsys, ["up", str(write_recipe(tmp_path, "facebook/opt-125m"))])
    assert "which is not a folder with a config.json" in error
    assert "configuration file / is not a file" in error_line(capsys, ["up", "/"])


def test_a_grader_that_there_is_not_is_named_before_anything_is_started(tmp_path, model, capsys) -> None:
    file = tmp_path / "prompts.jsonl"
    file.write_text("".join(json.dumps({"prompt": f"{n} + 1", "answer": n + 1}) + "\n" for n in range(12)))
    recipe = str(write_recipe(tmp_path, model, str(file)))
    assert "there is no grader 'maths'; known: " in error_line(capsys, ["up", recipe, "--prompts.grader", "maths"])


def test_prompt_without_an_answer_is_named_by_its_line(tmp_path, model, capsys) -> None:
    file = tmp_path / "prompts.jsonl"
    rows = [
        {"prompt_id": "one", "prompt": "1 + 1", "answer": "2"},
        {"prompt_id": "two", "prompt": "1 + 2", "answer": ""},
    ]
    file.write_text("\n".join(map(json.dumps, rows)))
    error = error_line(capsys, ["up", str(write_recipe(tmp_path, model, str(file)))])
    assert error == (
        f"rucksack up: {file}:2 has no answer: 'answer' is ''; it has prompt_id, prompt, answer: give it one, or set "
        "prompts.answer_key"
    )


def test_broker_that_is_not_there_is_named_with_the_remedy(tmp_path, model, capsys) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    recipe = write_recipe(tmp_path, model, extra=f'bootstrap_servers = "{address}"\n')
    error = error_line(capsys, ["up", str(recipe)], code=3)
    assert f"no Kafka broker answers at {address}" in error
    assert "rucksack broker start" in error


def test_port_in_use_is_named(tmp_path, capsys) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        error = error_line(capsys, ["broker", "start", "--data-dir", str(tmp_path / "broker"), "--ports", str(port)])
    assert f"{port} is in use" in error


def test_run_name_of_another_config_is_refused(tmp_path, model, capsys) -> None:
    recipe = write_recipe(tmp_path, model, extra='bootstrap_servers = "127.0.0.1:1"\n')
    error_line(capsys, ["up", str(recipe)], code=3)  # claims the name
    error = error_line(capsys, ["up", str(recipe), "--learner.lr", "0.5"])
    assert "learner.lr is 0.5, there it is 0.0002; choose another run.name" in error


@pytest.mark.parametrize("role", ["allocators", "learners"])
def test_only_producers_and_verifiers_are_scaled(tmp_path, role) -> None:
    config = Config()
    run = Run(config, Placement(config, tmp_path, []), tmp_path, LineScreen(Console(quiet=True)))
    with pytest.raises(UserError, match=f"role is '{role}'; want producers or verifiers: every other role has"):
        run.answer({"command": "scale", "role": role, "replicas": 2})


def test_no_more_workers_than_partitions_are_started(tmp_path) -> None:
    config = Config(broker={"partitions": 4})
    run = Run(config, Placement(config, tmp_path, []), tmp_path, LineScreen(Console(quiet=True)))
    with pytest.raises(
        UserError, match=r"producers?=99; want at most 4, which is broker\.partitions: no more have work"
    ):
        run.answer({"command": "scale", "role": "producers", "replicas": 99})


def test_a_run_without_held_out_prompts_needs_no_evaluator(tmp_path, model, capsys) -> None:
    recipe = str(write_recipe(tmp_path, model, extra='bootstrap_servers = "127.0.0.1:1"\n'))
    error = error_line(capsys, ["up", recipe, "--prompts.num_heldout", "0"])
    assert "no held-out prompt to evaluate on: prompts.num_heldout is 0" in error
    error_line(capsys, ["up", recipe, "--prompts.num_heldout", "0", "--evaluator.enabled", "false"], code=3)


def test_a_path_that_cannot_be_used_is_named(tmp_path, capsys) -> None:
    (tmp_path / "file").touch()
    error = error_line(capsys, ["broker", "start", "--data-dir", str(tmp_path / "file")], code=1)
    assert error == f"rucksack broker: [Errno 17] File exists: '{tmp_path / 'file'}'"


class DyingKafka:
    """A broker of one node that ends whenever it is started."""

    num_starts = 0

    def dead_nodes(self) -> list[int]:
        return [1]

    def stopped_nodes(self) -> list[int]:
        return []

    def restart(self, node: int, wait: bool) -> None:
        self.num_starts += 1

    def last_error(self, node: int) -> str:
        return "No space left on device (see broker.log)"


def test_a_broker_that_keeps_dying_ends_the_run_with_its_last_error() -> None:
    kafka, events = DyingKafka(), []
    nodes = BrokerNodes(kafka, UpTable(max_restarts=3, backoff_s=1e-6), events.append)  # type: ignore[arg-type]
    while not nodes.failure and kafka.num_starts < 10:
        nodes.step()
    assert kafka.num_starts == 3
    assert nodes.failure == "broker node 1 keeps dying; it says: No space left on device (see broker.log)"
    assert events == ["broker node 1 died; restarted in 0.0 s"] * 3


def test_unknown_command_and_run_are_named(tmp_path, capsys) -> None:
    assert "there is no command 'fly'; known: up, doctor, status" in error_line(capsys, ["fly"])
    assert f"no run is up in {tmp_path}" in error_line(capsys, ["status", "--dir", str(tmp_path)])
    assert "there is no run 'x'" in error_line(capsys, ["replay", "report", "x", "--dir", str(tmp_path)])
    assert "producers=two" in error_line(capsys, ["scale", "producers=two", "--dir", str(tmp_path)])
