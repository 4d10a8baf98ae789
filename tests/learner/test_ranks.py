"""Two ranks (gloo, FSDP2) against one: the same losses, and checkpoints that either resumes."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from learner_ranks import train

from learner.ranks import pack_groups, unpack_groups

TESTS = Path(__file__).parents[1]


def train_on_two(model: Path, folder: Path, first: int, last: int) -> list[dict[str, float]]:
    """Metrics of the updates from step `first` to `last`, trained on two ranks."""
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", str(TESTS / "learner_ranks.py")]
    paths = [str(TESTS), str(TESTS.parent), os.environ.get("PYTHONPATH", "")]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, *launcher, str(model), str(folder), str(first), str(last)]
    folder.mkdir(exist_ok=True)
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr[-3000:]
    metrics: list[dict[str, float]] = json.loads((folder / "metrics.json").read_text())
    return metrics


def same(one: list[dict[str, float]], other: list[dict[str, float]]) -> None:
    for a, b in zip(one, other, strict=True):
        for key in ("loss", "grad_norm", "ess", "num_tokens", "importance_ratio/min", "importance_ratio/max"):
            assert a[f"learner/{key}"] == pytest.approx(b[f"learner/{key}"], abs=1e-5, rel=1e-5), key


def test_two_ranks_have_the_losses_of_one_and_resume_each_others_checkpoints(tiny_model: Path, tmp_path: Path) -> None:
    alone = train(str(tiny_model), tmp_path / "one", 0, 3) + train(str(tiny_model), tmp_path / "one", 3, 6)
    losses = [metrics["learner/loss"] for metrics in alone]
    assert np.ptp(losses) > 0.1  # a curve, not a constant
    same(alone[:3], train_on_two(tiny_model, tmp_path / "two", 0, 3))
    same(alone[3:], train(str(tiny_model), tmp_path / "two", 3, 6))  # two ranks' checkpoint, one rank
    shutil.rmtree(tmp_path / "one" / "step00000006")
    same(alone[3:], train_on_two(tiny_model, tmp_path / "one", 3, 6))  # one rank's checkpoint, two ranks


def test_groups_survive_the_way_to_another_rank() -> None:
    from learner_groups import random_groups

    groups = random_groups()
    back = unpack_groups(pack_groups(groups))
    assert [(g.group_id, g.num_rollouts, sorted(g.verdicts)) for g in back] == [
        (g.group_id, g.num_rollouts, sorted(g.verdicts)) for g in groups
    ]
    assert all(
        np.array_equal(a.verdicts[0].trajectory.token_ids, b.verdicts[0].trajectory.token_ids)
        for a, b in zip(groups, back, strict=True)
    )
