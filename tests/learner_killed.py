"""What tests/learner/test_killed.py runs in processes of its own, to be killed there."""

import os
import signal
import sys
from pathlib import Path

import torch
from learner_groups import random_groups

from learner import checkpoint
from learner.group_ids import GroupIds
from learner.model import load_model
from learner.trainer import Trainer
from stream.config import LearnerTable


def one_update_killed_at(model: str, folder: str, kill_at: int) -> None:
    """Resume, make one update, save; SIGKILL at the `kill_at`-th file operation below `folder` of the saving."""
    torch.set_num_threads(1)
    trainer = make_trainer(model)
    progress = checkpoint.load_newest(Path(folder), trainer)
    step = progress.step if progress else 0
    trainer.update(random_groups(step), version=step, step=step)
    num_left = kill_at

    def count(event: str, arguments: tuple[object, ...]) -> None:
        nonlocal num_left
        if event.startswith(("open", "os.", "shutil.")) and any(str(a).startswith(folder) for a in arguments):
            num_left -= 1
            if num_left == 0:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(count)
    save(Path(folder), trainer, step + 1)


def make_trainer(model: str) -> Trainer:
    """A trainer with a large learning rate, so that every update shows in the weights."""
    return Trainer(load_model(model, torch.device("cpu")), LearnerTable(lr=1e-2))


def save(folder: Path, trainer: Trainer, step: int) -> None:
    """A checkpoint of which nothing older is kept."""
    progress = checkpoint.Progress(step=step, version=step, offsets={}, pending=[], seen=GroupIds(), num_rollouts=0)
    checkpoint.save(folder, trainer, progress, keep=1)


def learner(arguments: list[str]) -> None:
    """The learner's own process, as `python -m learner` starts it."""
    from learner.__main__ import main

    sys.exit(main(arguments))
