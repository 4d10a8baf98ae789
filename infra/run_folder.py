"""Guards a run's folder: one `rucksack up` at a time, always with the same configuration.

runs/NAME/config.json     the configuration that the run was started with
runs/NAME/lock            held by its `rucksack up`
runs/NAME/control.sock    to talk to it
runs/NAME/broker.address  where its local broker answers
runs/NAME/kafka/          what its local broker keeps
runs/NAME/logs/           a file per worker
runs/NAME/policies/       published weights, the newest few, with learner.weights = "files"
runs/NAME/checkpoints/    the learner's, the newest few
runs/NAME/model/          the trained model
runs/NAME/report.html
"""

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from stream.config import Config
from stream.errors import UserError

MAY_CHANGE = ("up", "broker.timeout_s", "broker.settings", "producer.replicas", "verifier.replicas", "run.dir")
"""Tables and keys that may differ when a run is resumed: none changes what is learned."""


@contextmanager
def claimed(config: Config) -> Iterator[Path]:
    """The run's folder, ours alone while inside; made if it is new. A mistake that shows inside leaves a new run's name free.

    Raises:
        UserError: a run of this name has another configuration, or is up already.

    """
    folder = config.run.path
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"run folder {folder} cannot be made: {error.strerror}; choose another run.dir") from None
    with (folder / "lock").open("a+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            raise UserError(
                f"run {config.run.name} is up already (pid {lock.read().strip() or 'unknown'}); see `rucksack status`, "
                "stop it with `rucksack down`, or choose another run.name"
            ) from None
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        is_new = _settle_config(folder, config)
        try:
            yield folder
        except UserError:
            if is_new:
                (folder / "config.json").unlink(missing_ok=True)
            raise


def _settle_config(folder: Path, config: Config) -> bool:
    """Write the configuration of a new run, or compare it with that of a run that is there; whether it is new."""
    file, wanted = folder / "config.json", flattened(config.model_dump(mode="json"))
    if not file.is_file():
        temporary = file.with_suffix(".tmp")
        temporary.write_text(config.model_dump_json(indent=2))
        temporary.rename(file)
        return True
    try:
        saved = flattened(json.loads(file.read_text()))
    except (ValueError, AttributeError) as error:
        raise UserError(f"{file} cannot be read ({error}); remove {folder}, or choose another run.name") from None
    changed = [key for key in sorted(wanted.keys() | saved.keys()) if wanted.get(key) != saved.get(key)]
    changed = [key for key in changed if not any(key == free or key.startswith(f"{free}.") for free in MAY_CHANGE)]
    if changed:
        key = changed[0]
        more = f" (and {len(changed) - 1} keys more)" if len(changed) > 1 else ""
        raise UserError(
            f"run {config.run.name} exists in {folder} with another configuration: {key} is {wanted.get(key)!r}, there it "
            f"is {saved.get(key)!r}{more}; choose another run.name, resume with the old values, or remove the folder"
        )
    return False


def flattened(table: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested tables as one, keys joined by dots."""
    flat: dict[str, Any] = {}
    for name, value in table.items():
        key = f"{prefix}{name}"
        if isinstance(value, dict):
            flat |= flattened(value, f"{key}.")
        else:
            flat[key] = value
    return flat


def await_release(folder: Path) -> None:
    """Return when no `rucksack up` holds the run's folder any more."""
    with (folder / "lock").open("a+") as lock:
        fcntl.flock(lock, fcntl.LOCK_SH)
