"""The learner's benchmark, at a size that takes a second."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks import learner
from benchmarks.learner import PlainLoop, main, make_groups, make_model
from learner.batches import samples_of
from learner.trainer import Trainer
from stream.config import LearnerTable

TINY = {"vocab_size": 50, "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2,
        "num_key_value_heads": 1, "tie_word_embeddings": True}  # fmt: skip
CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(learner.SHAPES, "135m", TINY)


def test_it_writes_both_ways_and_their_figures(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(
        ["--rollouts", "6", "--rounds", "1", "--threads", "1", "--max-tokens", "32", "--out", str(tmp_path / "l.json")]
    )
    rows = {row["way"]: row for row in json.loads((tmp_path / "l.json").read_text())["ways"]}
    assert rows.keys() == {"learner", "plain loop"}
    parameters = sum(p.numel() for p in make_model("135m", CPU, False).parameters())
    for row in rows.values():
        assert row["parameters"] == parameters
        assert row["tflop_per_s"] == pytest.approx(6e-12 * parameters * row["tokens"] / row["best_s"])
        assert row["tokens_per_s"] == pytest.approx(row["tokens"] / row["best_s"])
    assert "times as fast as the plain loop" in capsys.readouterr().out


def test_both_ways_have_the_same_gradient() -> None:
    groups = make_groups(6, TINY["vocab_size"], 32, np.random.default_rng(1))
    ours, theirs = make_model("135m", CPU, False), make_model("135m", CPU, False)
    # Uniform behavior at random weights: ratios near 1, of which tis only cuts above 2.
    trainer = Trainer(ours, LearnerTable(objective="belief", trust_region="none", ratio="none", micro_batch_tokens=300))
    samples = samples_of(groups, trainer.objective)
    for batch in trainer._collate(samples):
        trainer.backward(batch, 0)
    loop = PlainLoop(theirs, torch.float32, 300)
    for plain_batch in loop._batches(samples):
        loop._backward(plain_batch)
    for one, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert torch.allclose(one.grad, other.grad, atol=1e-6)
