"""Checkpoints: all that the learner must know to go on as if it had never stopped, in one folder, renamed into place.

Weights, optimizer, random state, and what it has consumed: offsets, verdicts of groups not yet ended, groups that were
complete (as Flink keeps offsets next to state). Only safetensors and msgpack; nothing is unpickled (law 7).
"""

import logging
import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import torch
from safetensors.torch import load_file, save_file

from learner.trainer import Trainer
from learner.weights import save_weights
from stream.codec import decode, encode
from stream.messages import Verdict

log = logging.getLogger(__name__)

COMPLETE = "COMPLETE"
"""Written last: a folder without it was cut off."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """What has been consumed and made."""

    step: int
    version: int
    offsets: dict[tuple[str, int], int]
    pending: list[Verdict]
    seen: set[str]
    num_rollouts: int


class _Stored(msgspec.Struct):
    step: int
    version: int
    offsets: list[tuple[str, int, int]]
    pending: list[bytes]
    seen: list[str]
    num_rollouts: int


def save(folder: Path, trainer: Trainer, progress: Progress, keep: int) -> Path:
    """Write a checkpoint and drop all but the newest `keep`. It is there whole or not at all, also after SIGKILL."""
    final, staging = folder / f"step{progress.step:08d}", folder / f".writing-{progress.step}"
    shutil.rmtree(staging, ignore_errors=True)
    staging.mkdir(parents=True)
    save_weights(trainer.model, staging / "model.safetensors")
    save_file(_optimizer_tensors(trainer), staging / "optimizer.safetensors")
    (staging / "progress.msgpack").write_bytes(msgspec.msgpack.encode(_store(progress)))
    (staging / COMPLETE).touch()
    _sync(staging)
    shutil.rmtree(final, ignore_errors=True)
    os.replace(staging, final)
    for old in _complete(folder)[:-keep]:
        shutil.rmtree(old, ignore_errors=True)
    return final


def load_newest(folder: Path, trainer: Trainer) -> Progress | None:
    """Restore the newest whole checkpoint into the trainer; None if there is none."""
    found = _complete(folder)
    if not found:
        return None
    newest = found[-1]
    missing, unexpected = trainer.model.load_state_dict(load_file(newest / "model.safetensors"), strict=False)
    tied = set(getattr(trainer.model, "all_tied_weights_keys", {}))
    assert not unexpected and set(missing) <= tied, (missing, unexpected)
    _restore_optimizer(trainer, load_file(newest / "optimizer.safetensors"))
    log.info("resumed checkpoint=%s", newest)
    return _restore(msgspec.msgpack.decode((newest / "progress.msgpack").read_bytes(), type=_Stored))


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
        seen=sorted(progress.seen),
        num_rollouts=progress.num_rollouts,
    )


def _restore(stored: _Stored) -> Progress:
    return Progress(
        step=stored.step,
        version=stored.version,
        offsets={(topic, partition): offset for topic, partition, offset in stored.offsets},
        pending=[decode(data, Verdict) for data in stored.pending],
        seen=set(stored.seen),
        num_rollouts=stored.num_rollouts,
    )


def _optimizer_tensors(trainer: Trainer) -> dict[str, torch.Tensor]:
    tensors = {"rng": torch.get_rng_state()}
    for number, state in trainer.optimizer.state_dict()["state"].items():
        for name, value in state.items():
            tensors[f"{number}/{name}"] = value.detach().cpu().contiguous()
    return tensors


def _restore_optimizer(trainer: Trainer, tensors: dict[str, torch.Tensor]) -> None:
    torch.set_rng_state(tensors.pop("rng"))
    state: dict[int, dict[str, Any]] = {}
    for key, value in tensors.items():
        number, name = key.split("/")
        state.setdefault(int(number), {})[name] = value
    groups = trainer.optimizer.state_dict()["param_groups"]
    trainer.optimizer.load_state_dict({"state": state, "param_groups": groups})


def _sync(folder: Path) -> None:
    """Bytes on the disk before the rename, or a power cut could leave a complete-looking folder of empty files."""
    for path in (*folder.iterdir(), folder):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
