"""Two ranks (gloo, FSDP2) against one: the same losses, and checkpoints that either resumes."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from learner_ranks import train
from safetensors.torch import load_file

from learner.ranks import pack_groups, unpack_groups

pytestmark = pytest.mark.timeout(900)  # three processes that import torch, on a machine that others share
TESTS = Path(__file__).parents[1]


def train_on_two(model: Path, folder: Path, first: int, last: int, **options: object) -> list[dict[str, float]]:
    """Metrics of the updates from step `first` to `last`, trained on two ranks."""
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", str(TESTS / "learner_ranks.py")]
    paths = [str(TESTS), str(TESTS.parent), os.environ.get("PYTHONPATH", "")]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, *launcher, str(model), str(folder), str(first), str(last), json.dumps(options)]
    folder.mkdir(exist_ok=True)
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=800)
    assert done.returncode == 0, done.stderr[-3000:]
    metrics: list[dict[str, float]] = json.loads((folder / "metrics.json").read_text())
    return metrics


def same(one: list[dict[str, float]], other: list[dict[str, float]]) -> None:
    assert len(one) == len(other)
    for a, b in zip(one, other, strict=True):
        for key in ("loss", "grad_norm", "ess", "num_tokens", "importance_ratio/min", "importance_ratio/max", "kl"):
            assert a[f"learner/{key}"] == pytest.approx(b[f"learner/{key}"], abs=1e-5, rel=1e-5), key


def test_one_rank_then_two_then_one_have_the_losses_of_one(tiny_model: Path, tmp_path: Path) -> None:
    alone = train(str(tiny_model), tmp_path / "one", 0, 9)
    assert np.ptp([metrics["learner/loss"] for metrics in alone]) > 0.1  # a curve, not a constant
    chain = train(str(tiny_model), tmp_path / "chain", 0, 3)
    chain += train_on_two(tiny_model, tmp_path / "chain", 3, 6)  # of one rank's checkpoint
    chain += train(str(tiny_model), tmp_path / "chain", 6, 9)  # of two ranks' checkpoint
    same(alone, chain)


def test_two_ranks_with_adapters_a_reference_and_minibatches_have_the_losses_of_one(
    tiny_model: Path, tmp_path: Path
) -> None:
    pytest.importorskip("peft")
    options = {"lora_rank": 2, "objective": "areal", "minibatches": 2, "kl_coef": 0.1, "gradient_checkpointing": True}
    alone = train(str(tiny_model), tmp_path / "one", 0, 3, **options)
    same(alone, train_on_two(tiny_model, tmp_path / "two", 0, 3, **options))
    assert alone[-1]["learner/kl"] > 1e-6
    one, two = (load_file(tmp_path / name / "step00000003" / "parameters.safetensors") for name in ("one", "two"))
    assert one.keys() == two.keys()
    assert all(torch.allclose(one[name], two[name], atol=1e-4) for name in one)


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
