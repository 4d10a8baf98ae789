"""Adapters: trained alone, merged where weights are published, and switched off for the reference."""

from pathlib import Path

import pytest
import torch
from learner_groups import random_groups

from learner import checkpoint
from learner.batches import collate, samples_of
from learner.lora import base_policy
from learner.model import load_model
from learner.trainer import Trainer
from stream.config import LearnerTable
from stream.errors import UserError

pytest.importorskip("peft")
CPU = torch.device("cpu")


def make_trainer(model: Path, **fields: object) -> Trainer:
    return Trainer(load_model(str(model), CPU), LearnerTable(lr=1e-2, lora_rank=2, **fields))  # type: ignore[arg-type]


def test_adapters_alone_are_trained_and_published_merged(tiny_model: Path, tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM

    base = load_model(str(tiny_model), CPU).state_dict()
    trainer = make_trainer(tiny_model)
    assert {name: torch.equal(value, base[name]) for name, value in trainer.weights().items()} == dict.fromkeys(
        base, True
    )
    for step in range(3):
        trainer.update(random_groups(step), version=step, step=step)
    weights = trainer.weights()
    changed = {name for name in base if not torch.equal(base[name], weights[name])}
    assert changed == {name for name in base if "_proj" in name}
    assert all(
        torch.equal(value, base[name.replace(".base_layer.", ".")])
        for name, value in trainer.model.state_dict().items()
        if "lora_" not in name
    )
    merged = AutoModelForCausalLM.from_pretrained(tiny_model)
    merged.load_state_dict(weights)
    tokens = torch.tensor([[1, 2, 3, 4]])
    assert torch.allclose(merged.eval()(tokens).logits, trainer.model(tokens).logits, atol=1e-5)
    progress = checkpoint.Progress(step=3, version=3, offsets={}, pending=[], seen=set(), num_rollouts=0)
    checkpoint.save(tmp_path, trainer, progress, keep=1)
    resumed = make_trainer(tiny_model)
    checkpoint.load_newest(tmp_path, resumed)
    for name, value in resumed.weights().items():
        assert torch.equal(value, weights[name])
    assert all("lora_" in name for name in resumed.state()[0])
    with pytest.raises(UserError, match="go back to the model and lora_rank it was started with"):
        checkpoint.load_newest(tmp_path, Trainer(load_model(str(tiny_model), CPU), LearnerTable()))


def test_the_reference_is_the_model_without_its_adapters(tiny_model: Path) -> None:
    trainer = make_trainer(tiny_model, kl_coef=0.1, lora_targets=("q_proj", "v_proj"))
    batch = collate(samples_of(random_groups(), trainer.objective), CPU)
    before = trainer.current_logprobs(batch)[0].detach()
    first = trainer.update(random_groups(), version=0, step=0)
    later = trainer.update(random_groups(), version=1, step=1)
    assert abs(first["learner/kl"]) < 1e-9 < later["learner/kl"]
    assert not torch.allclose(before, trainer.current_logprobs(batch)[0], atol=1e-4)
    with base_policy(trainer.model):
        assert torch.equal(before, trainer.current_logprobs(batch)[0])
    assert all(p.requires_grad == ("lora_" in name) for name, p in trainer.model.named_parameters())


def test_targets_that_are_not_there_are_a_users_mistake(tiny_model: Path) -> None:
    with pytest.raises(UserError, match="lora_targets is \\['nothing'\\]"):
        make_trainer(tiny_model, lora_targets=("nothing",))
