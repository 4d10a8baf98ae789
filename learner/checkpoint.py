"""Saves and loads checkpoints: all that the learner needs to go on as if it had never stopped.

One folder, published whole, holds what training has changed (parameters, optimizer, random state) and what the learner has
consumed (offsets, verdicts of groups not yet ended, ids of groups that have been complete), as Flink keeps offsets next to
state. Only safetensors and msgpack; nothing is unpickled (law 7).
"""

import logging
import re
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import torch
from safetensors.torch import load_file, save_file

from learner.group_ids import GroupIds
from learner.trainer import Trainer
from stream.broker import TopicPartition
from stream.codec import decode, encode
from stream.errors import UserError
from stream.folders import drop_folder, publish_folder, remove_leftovers
from stream.messages import Verdict

log = logging.getLogger(__name__)

PARAMETERS, OPTIMIZER, PROGRESS = "parameters.safetensors", "optimizer.safetensors", "progress.msgpack"
COMPLETE = "COMPLETE"
"""Written last: a folder without it was cut off."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far the learner has come."""

    step: int
    version: int
    offsets: dict[TopicPartition, int]
    """Of `verdicts`, the next to read."""
    pending: list[Verdict]
    """Verdicts of groups that have not ended."""
    seen: GroupIds
    """Groups that have ended."""
    num_rollouts: int
    """In groups that have ended."""
    early: dict[int, int] = field(default_factory=dict)
    """Of groups that have ended before they were due (`learner.order`), by round."""


class _Stored(msgspec.Struct):
    step: int
    version: int
    offsets: list[tuple[str, int, int]]
    pending: list[bytes]
    seen: dict[str, int]
    seen_apart: list[str]
    num_rollouts: int
    early: dict[int, int]


def save(folder: Path, trainer: Trainer, progress: Progress, keep: int) -> Path:
    """Write a checkpoint and drop all but the newest `keep`. It is there whole or not at all, also after SIGKILL."""
    parameters, optimizer = trainer.state()
    remove_leftovers(folder)
    checkpoint = folder / f"step{progress.step:08d}"
    with publish_folder(checkpoint) as staging:
        save_file(parameters, staging / PARAMETERS)
        save_file(optimizer | {"rng": torch.get_rng_state()}, staging / OPTIMIZER)
        (staging / PROGRESS).write_bytes(msgspec.msgpack.encode(_store(progress)))
        (staging / COMPLETE).touch()
    for old in _complete(folder)[:-keep]:
        drop_folder(old)
    return checkpoint


def load_newest(folder: Path, trainer: Trainer) -> Progress | None:
    """Restore the newest whole checkpoint into the trainer, on any number of ranks; None if there is none.

    Raises:
        UserError: it is of another model.

    """
    remove_leftovers(folder)  # a half-written checkpoint may be what fills the disk
    checkpoints = _complete(folder)
    if not checkpoints:
        return None
    newest = checkpoints[-1]
    optimizer = load_file(newest / OPTIMIZER)
    torch.set_rng_state(optimizer.pop("rng"))
    try:
        trainer.load_state(load_file(newest / PARAMETERS), optimizer)
    except ValueError as error:
        raise UserError(f"{newest}: {error}") from None
    log.info("resumed checkpoint=%s", newest)
    return _restore(msgspec.msgpack.decode((newest / PROGRESS).read_bytes(), type=_Stored))


def _complete(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    return sorted(p for p in folder.iterdir() if re.fullmatch(r"step\d+", p.name) and (p / COMPLETE).exists())


def _store(progress: Progress) -> _Stored:
    return _Stored(
        step=progress.step,
        version=progress.version,
        offsets=[(topic, partition, offset) for (topic, partition), offset in sorted(progress.offsets.items())],
        pending=[encode(verdict) for verdict in progress.pending],
        seen=progress.seen.counts,
        seen_apart=sorted(progress.seen.apart),
        num_rollouts=progress.num_rollouts,
        early=progress.early,
    )


def _restore(stored: _Stored) -> Progress:
    return Progress(
        step=stored.step,
        version=stored.version,
        offsets={(topic, partition): offset for topic, partition, offset in stored.offsets},
        pending=[decode(data, Verdict) for data in stored.pending],
        seen=GroupIds(stored.seen, set(stored.seen_apart)),
        num_rollouts=stored.num_rollouts,
        early=stored.early,
    )
