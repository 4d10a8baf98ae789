"""Run by torchrun in tests/learner/test_ranks.py: train from a checkpoint (or none) and leave losses and a new one.

learner_ranks.py MODEL CHECKPOINTS FIRST_STEP LAST_STEP OPTIONS (JSON)
"""

import json
import sys
from pathlib import Path
from typing import Any

import torch
from learner_groups import random_groups

from learner import checkpoint, ranks
from learner.group_ids import GroupIds
from learner.model import load_model
from learner.trainer import Trainer
from stream.config import LearnerTable


def train(model: str, folder: Path, first: int, last: int, **options: Any) -> list[dict[str, float]]:
    """Metrics of the updates from step `first` to `last`; [] on all ranks but the first."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    device = torch.device("cpu")
    if ranks.under_torchrun():
        ranks.join(device)
    table = LearnerTable(lr=1e-2, micro_batch_tokens=24, **options)
    trainer = Trainer(load_model(model, device), table)
    checkpoint.load_newest(folder, trainer)
    if ranks.rank() > 0:
        ranks.follow(trainer)
        return []
    metrics = [trainer.update(random_groups(step, 5), version=step, step=step) for step in range(first, last)]
    progress = checkpoint.Progress(step=last, version=last, offsets={}, pending=[], seen=GroupIds(), num_rollouts=0)
    checkpoint.save(folder, trainer, progress, keep=9)
    weights, each = trainer.weights(), dict(trainer.each_weight())
    assert all(type(tensor) is torch.Tensor and torch.equal(tensor, each.pop(name)) for name, tensor in weights.items())
    assert each == {}
    ranks.announce("stop")
    return metrics


if __name__ == "__main__":
    metrics = train(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]), **json.loads(sys.argv[5]))
    if metrics:
        (Path(sys.argv[2]) / "metrics.json").write_text(json.dumps(metrics))
