"""The tracker over a memory broker; W&B, TensorBoard and trackio where they are installed, by a stand-in where not."""

import json
import subprocess
import sys
import types
from pathlib import Path
from typing import Any

import pytest

from stream.codec import decode
from stream.config import BrokerTable, Config, EvaluatorTable, RunTable, TrackingTable
from stream.errors import UserError
from stream.memory import MemoryBroker
from stream.messages import Evaluation, Update
from stream.run_topics import RunTopics
from stream.topics import EVALUATIONS, TOPICS, UPDATES, topic_of
from stream.worker import Delivery
from tracker.role import Tracker
from tracker.sinks import SINKS, Sinks


def config_of(folder: Path, *sinks: str) -> Config:
    return Config(
        run=RunTable(name="r", dir=folder),
        broker=BrokerTable(bootstrap_servers="b:1", settings={"sasl_plain_password": "secret"}),
        evaluator=EvaluatorTable(pool=False),
        tracking=TrackingTable(to=sinks),  # type: ignore[arg-type]
    )


def update(step: int, version: int, final: bool = False) -> Update:
    metrics = {"learner/loss": step / 10}
    return Update(step=step, version=version, parent_version=version - 1, groups=(), metrics=metrics, final=final)


def evaluation(step: int, version: int, accuracy: float, final: bool = False) -> Evaluation:
    return Evaluation(
        name="heldout", step=step, policy_version=version, min_policy_version=version, max_policy_version=version,
        accuracy=accuracy, temperature=0.0, scores=(), metrics={"pass@1": accuracy}, final=final,
    )  # fmt: skip


class World:
    def __init__(self, config: Config) -> None:
        broker = MemoryBroker()
        broker.create_topics("r", TOPICS, 2)
        self.config, self.topics = config, RunTopics(broker, "r", "tracker-0")
        self.tracker = self.start()

    def start(self) -> Tracker:
        return Tracker(self.config, self.topics, Sinks(self.config))

    def follow(self) -> None:
        """What the loop does, progress included."""
        for record in self.tracker.reader.poll(0.0):
            topic = topic_of(record.topic)
            self.tracker.handle(Delivery(topic, decode(record.value, topic.message_type), record, lambda: None))
        self.tracker.reader.commit(self.tracker.reader.positions())


def lines(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "r" / "metrics.jsonl").read_text().splitlines()]


def test_updates_and_evaluations_are_sent_once_at_their_step_until_the_last(tmp_path: Path) -> None:
    world = World(config_of(tmp_path, "jsonl"))
    world.topics.send(UPDATES, "update", update(1, version=4))
    world.topics.send(EVALUATIONS, "heldout", evaluation(1, 4, 0.5))
    world.follow()
    assert not world.tracker.finished
    world.tracker.close()
    world.tracker = world.start()  # killed and started again: it goes on behind what it has sent
    world.topics.send(UPDATES, "update", update(2, version=5, final=True))
    world.follow()
    assert not world.tracker.finished
    world.topics.send(EVALUATIONS, "heldout", evaluation(2, 5, 0.75, final=True))
    assert not world.tracker.finished
    world.follow()
    assert world.tracker.finished
    world.tracker.close()
    for line in (sent := lines(tmp_path)):
        assert line.pop("time") > 0
    assert sent == [
        {"step": 1, "learner/version": 4.0, "learner/loss": 0.1},
        {"step": 1, "evaluation/heldout/accuracy": 0.5, "evaluation/heldout/pass@1": 0.5},
        {"step": 2, "learner/version": 5.0, "learner/loss": 0.2},
        {"step": 2, "evaluation/heldout/accuracy": 0.75, "evaluation/heldout/pass@1": 0.75},
    ]


def test_a_tracker_started_after_the_end_sends_all_and_ends(tmp_path: Path) -> None:
    world = World(config_of(tmp_path, "jsonl"))
    world.topics.send(UPDATES, "update", update(1, version=1, final=True))
    world.topics.send(EVALUATIONS, "heldout", evaluation(1, 1, 0.5, final=True))
    world.tracker.close()
    world.tracker = world.start()
    assert not world.tracker.finished
    world.follow()
    assert world.tracker.finished
    world.tracker.close()
    assert len(lines(tmp_path)) == 2


class StandIn(types.ModuleType):
    """Takes any call of wandb's or trackio's and notes it."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.calls: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = []

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)

        def call(*args: Any, **kwargs: Any) -> Any:
            self.calls.append((name, args, kwargs))
            return self

        return call


def test_wandb_gets_the_step_as_its_axis_and_resumes_by_the_runs_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wandb = StandIn("wandb")
    monkeypatch.setitem(sys.modules, "wandb", wandb)
    sinks = Sinks(config_of(tmp_path, "wandb"))
    sinks.write(3, {"learner/loss": 0.5})
    sinks.close()
    (_, _, init), axis, log, finish = wandb.calls
    assert {key: init[key] for key in ("project", "id", "resume")} == {
        "project": "rucksack",
        "id": "r",
        "resume": "allow",
    }
    assert init["config"]["learner"]["objective"] == "belief"
    assert "secret" not in repr(wandb.calls)
    assert axis == ("define_metric", ("*",), {"step_metric": "step"})
    assert log == ("log", ({"step": 3, "learner/loss": 0.5},), {})
    assert finish[0] == "finish"


def test_trackio_gets_steps_and_resumes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trackio = StandIn("trackio")
    monkeypatch.setitem(sys.modules, "trackio", trackio)
    sinks = Sinks(config_of(tmp_path, "trackio"))
    sinks.write(3, {"learner/loss": 0.5})
    sinks.close()
    assert [name for name, _, _ in trackio.calls] == ["init", "log", "finish"]
    assert trackio.calls[0][2]["name"] == "r"
    assert "secret" not in repr(trackio.calls)
    assert trackio.calls[1][1:] == (({"learner/loss": 0.5},), {"step": 3})


def test_tensorboard_event_files_hold_the_figures(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard.summary.writer.event_file_writer")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    sinks = Sinks(config_of(tmp_path, "tensorboard"))
    for step in (1, 2):
        sinks.write(step, {"learner/loss": step / 4})
    sinks.close()
    events = EventAccumulator(str(tmp_path / "r" / "tensorboard")).Reload().Scalars("learner/loss")
    assert [(event.step, event.value) for event in events] == [(1, 0.25), (2, 0.5)]


def test_a_tracker_that_fails_is_given_up_and_the_others_go_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Down:
        def __init__(self, config: Config) -> None:
            self.tries = 0

        def write(self, step: int, figures: object) -> None:
            self.tries += 1
            raise ConnectionError("service is down")

        def close(self) -> None:
            raise AssertionError("given up already")

    down: list[Down] = []
    monkeypatch.setitem(SINKS, "wandb", lambda config: down.append(Down(config)) or down[-1])
    sinks = Sinks(config_of(tmp_path, "wandb", "jsonl"))
    sinks.write(1, {"a": 1.0})
    sinks.write(2, {"a": 2.0})
    sinks.close()
    assert [line["a"] for line in lines(tmp_path)] == [1.0, 2.0]
    assert down[0].tries == 1


def test_a_package_that_is_missing_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "trackio", None)
    with pytest.raises(UserError, match=r"tracking\.to has 'trackio', which needs a package that is not installed"):
        Sinks(config_of(tmp_path, "trackio"))


def test_no_tracker_is_imported_unless_asked_for(tmp_path: Path) -> None:
    code = (
        "import sys\nfor name in ('torch', 'wandb', 'trackio', 'tensorboard'): sys.modules[name] = None\n"
        "from tracker.sinks import Sinks\nimport tracker.role\nfrom stream.config import Config\nSinks(Config()).close()"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[2])
