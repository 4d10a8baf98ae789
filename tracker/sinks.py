"""Sends figures to a JSONL file, TensorBoard, Weights & Biases or trackio, each imported only if it is asked for.

A sink takes one step's figures at a time. A step may come again: after a crash the learner makes it again.
"""

import json
import logging
import time
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from typing import Any, Protocol

from stream.config import Config
from stream.errors import UserError

log = logging.getLogger(__name__)

Figures = Mapping[str, float]


class Sink(Protocol):
    """A service, or file, that takes figures."""

    def write(self, step: int, figures: Figures) -> None:
        """Send the figures of an update."""

    def close(self) -> None:
        """Return once all is sent."""


class Jsonl:
    """Appends to `metrics.jsonl` in the run's folder, one object a line."""

    def __init__(self, config: Config) -> None:
        config.run.path.mkdir(parents=True, exist_ok=True)
        self._file = (config.run.path / "metrics.jsonl").open("a", encoding="utf-8")

    def write(self, step: int, figures: Figures) -> None:
        """Append one line, and flush it."""
        print(json.dumps({"step": step, "time": time.time()} | dict(figures)), file=self._file, flush=True)

    def close(self) -> None:
        """Close the file."""
        self._file.close()


class TensorBoard:
    """Event files in the run's folder, under `tensorboard/`."""

    def __init__(self, config: Config) -> None:
        from tensorboard.compat.proto.event_pb2 import Event
        from tensorboard.compat.proto.summary_pb2 import Summary
        from tensorboard.summary.writer.event_file_writer import EventFileWriter

        self._event, self._summary = Event, Summary
        self._writer = EventFileWriter(str(config.run.path / "tensorboard"))

    def write(self, step: int, figures: Figures) -> None:
        """Write one event with all figures as scalars."""
        values = [self._summary.Value(tag=name, simple_value=value) for name, value in figures.items()]
        self._writer.add_event(self._event(wall_time=time.time(), step=step, summary=self._summary(value=values)))

    def close(self) -> None:
        """Flush the file."""
        self._writer.close()


def public(config: Config) -> dict[str, Any]:
    """The configuration without the broker's table, which may hold passwords."""
    return config.model_dump(mode="json", exclude={"broker"})


class WeightsAndBiases:
    """A W&B run named after this run; its environment variables say where it goes (WANDB_MODE, WANDB_API_KEY, ...)."""

    def __init__(self, config: Config) -> None:
        import wandb

        self._run = wandb.init(
            project=config.tracking.project, id=config.run.name, name=config.run.name, resume="allow",
            dir=str(config.run.path), config=public(config),
        )  # fmt: skip
        self._run.define_metric("*", step_metric="step")

    def write(self, step: int, figures: Figures) -> None:
        """Log a row whose x-axis is the update."""
        self._run.log({"step": step} | dict(figures))

    def close(self) -> None:
        """Upload the rest."""
        self._run.finish()


class Trackio:
    """A trackio run named after this run."""

    def __init__(self, config: Config) -> None:
        import trackio

        self._trackio: Any = trackio
        trackio.init(
            project=config.tracking.project, name=config.run.name, resume="allow", embed=False,
            config=public(config),
        )  # fmt: skip

    def write(self, step: int, figures: Figures) -> None:
        """One log call."""
        self._trackio.log(dict(figures), step=step)

    def close(self) -> None:
        """Send the rest."""
        self._trackio.finish()


SINKS: dict[str, Callable[[Config], Sink]] = {
    "jsonl": Jsonl,
    "tensorboard": TensorBoard,
    "wandb": WeightsAndBiases,
    "trackio": Trackio,
}


def require_packages(config: Config) -> None:
    """Check that what the sinks need is there, before a run is started.

    Raises:
        UserError: a package is not installed.

    """
    for name in config.tracking.to:
        if name != "jsonl" and find_spec(name) is None:
            raise UserError(_missing(name, f"no module {name!r}"))


def _missing(name: str, reason: str) -> str:
    return (
        f"tracking.to has {name!r}, which needs a package that is not installed ({reason}); "
        f"`.venv/bootstrap/bin/uv pip install --python .venv/bin/python {name}`, or pip install 'rucksack-rl[trackers]'"
    )


class Sinks:
    """All sinks of a configuration. One that fails is given up with a warning: figures must never stop a run."""

    def __init__(self, config: Config) -> None:
        """Open them.

        Raises:
            UserError: the package of one is not installed.

        """
        self._open: dict[str, Sink] = {}
        for name in config.tracking.to:
            try:
                self._open[name] = SINKS[name](config)
            except ImportError as error:
                raise UserError(_missing(name, str(error))) from None

    def write(self, step: int, figures: Figures) -> None:
        """Send the figures of an update, or of an evaluation, to all."""
        for name in list(self._open):
            self._try(name, lambda sink: sink.write(step, figures))

    def close(self) -> None:
        """Return once all is sent."""
        for name in list(self._open):
            self._try(name, lambda sink: sink.close())

    def _try(self, name: str, act: Callable[[Sink], None]) -> None:
        try:
            act(self._open[name])
        except Exception as error:  # a service may fail in any way
            log.warning("tracker given up name=%s error=%s", name, error)
            del self._open[name]
