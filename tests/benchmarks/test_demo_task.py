"""The benchmarks that train the demo's model: each trains once, briefly."""

import importlib
import json
import sys
from argparse import Namespace
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks import corrections, regimes, results
from benchmarks.demo_task import Task, accuracy, graded_groups, has_gradient
from learner.model import load_model

MODEL = "demo/base"


@pytest.fixture(scope="module")
def task() -> Task:
    return Task(MODEL, num_pool=64, num_heldout=64)  # one prompt a code


def test_groups_have_the_sizes_asked_for_and_rewards_that_say_what_is_right(task):
    model, generator = load_model(MODEL, torch.device("cpu")), torch.Generator().manual_seed(0)
    items, sizes = task.pool[8:20], [2, 5, 8] * 4
    groups = graded_groups(model, 3, items, sizes, task.end, generator)
    assert [group.group_id for group in groups] == [prompt.prompt_id for prompt, _, _ in items]
    assert [len(group.verdicts) for group in groups] == sizes
    for group, (_, _, answer) in zip(groups, items, strict=True):
        for verdict in group.graded:
            trajectory = verdict.trajectory
            assert verdict.reward == np.array_equal(trajectory.token_ids, answer)
            assert [(s.policy_version, s.start, s.stop) for s in trajectory.spans] == [
                (3, 0, trajectory.token_ids.size)
            ]
        assert has_gradient(group) == (0 < sum(v.reward for v in group.graded) < len(group.verdicts))


def test_sampled_accuracy_is_the_exact_one(task):
    model, generator = load_model(MODEL, torch.device("cpu")), torch.Generator().manual_seed(0)
    groups = graded_groups(model, 0, task.heldout, [64] * 64, task.end, generator)
    sampled = np.mean([verdict.reward for group in groups for verdict in group.graded])
    assert sampled == pytest.approx(accuracy(model, task.heldout), abs=0.03)  # more than four standard errors


@pytest.mark.parametrize("correction", corrections.CORRECTIONS)
def test_every_correction_trains(task, correction):
    options = Namespace(model=MODEL, lr=5e-4, updates=2, prompts=8, rollouts=4, every=1)
    run = corrections.run(options, task, correction, 1, 0)
    assert len(run["accuracy"]) == 2
    assert 0.2 < run["accuracy"][-1] < 0.8


def test_a_regime_spends_its_budget(task, monkeypatch):
    monkeypatch.setitem(regimes.REGIMES, "tiny", regimes.Regime(prompts=4, updates=2))
    cell = {"allocation": "bayes", "weighting": "prompt mean", "regime": "tiny", "seed": 0}
    run = regimes.run(task, MODEL, 2e-4, 2, cell)
    assert run["rollouts"] == [32, 64]
    assert len(run["accuracy"]) == len(run["samples"]) == 2


def test_a_log_gives_back_the_runs_of_the_same_settings(tmp_path):
    log = tmp_path / "log.jsonl"
    assert results.finished_runs(log, {"lr": 1}) == []
    results.append_run(log, {"seed": 0}, {"lr": 1})
    results.append_run(log, {"seed": 1}, {"lr": 2})
    assert results.finished_runs(log, {"lr": 1}) == [{"seed": 0}]
    settings = results.machine("numpy")
    assert settings == json.loads(json.dumps(results.machine("numpy")))


@pytest.mark.parametrize("file", sorted(Path("benchmarks").glob("[a-z]*.py")), ids=lambda file: file.stem)
def test_every_benchmark_tells_what_it_takes(file, monkeypatch, capsys):
    module = importlib.import_module(f"benchmarks.{file.stem}")
    if not hasattr(module, "main"):
        return
    monkeypatch.setattr(sys, "argv", [file.stem, "--help"])
    with pytest.raises(SystemExit) as stop:
        module.main()
    assert stop.value.code == 0
    assert f"python -m benchmarks.{file.stem}" in capsys.readouterr().out
