"""Adapters: trained alone, merged where weights are published, and switched off for the reference."""

from pathlib import Path

import pytest
import torch
from learner_groups import random_groups

from learner import checkpoint
from learner.batches import collate, samples_of
from learner.changes import ChangeFinder
from learner.group_ids import GroupIds
from learner.lora import base_policy
from learner.model import load_model
from learner.publisher import LogPublisher
from learner.trainer import Trainer
from replay.policy import write_policy
from stream.config import Config, LearnerTable
from stream.errors import UserError
from stream.memory import MemoryBroker
from stream.messages import Policy
from stream.run_topics import RunTopics
from stream.topics import POLICIES, TOPICS

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
    progress = checkpoint.Progress(step=3, version=3, offsets={}, pending=[], seen=GroupIds(), num_rollouts=0)
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


def test_an_adapter_of_the_output_layer_is_in_the_logprobs(tiny_model: Path) -> None:
    trainer = make_trainer(tiny_model, lora_targets=("lm_head",))
    for step in range(2):
        trainer.update(random_groups(step), version=step, step=step)
    batch = collate(samples_of(random_groups(9), trainer.objective), CPU)
    logits = trainer.model(batch.input_ids).logits[batch.rows, batch.columns] / batch.temperature[:, None]
    expected = torch.log_softmax(logits, -1).gather(-1, batch.token_ids[:, None]).squeeze(-1)
    assert torch.allclose(trainer.current_logprobs(batch)[0], batch.padded(expected), atol=1e-5)
    with base_policy(trainer.model):
        assert not torch.allclose(trainer.current_logprobs(batch)[0], batch.padded(expected), atol=1e-4)


def test_targets_that_are_not_there_are_a_users_mistake(tiny_model: Path) -> None:
    with pytest.raises(UserError, match="lora_targets is \\['nothing'\\]"):
        make_trainer(tiny_model, lora_targets=("nothing",))


def test_an_adapter_that_travels_alone_is_written_as_peft_reads_it(tiny_model: Path, tmp_path: Path) -> None:
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    trainer = make_trainer(tiny_model, lora_publish="adapter")
    trainer.update(random_groups(), version=0, step=0)
    broker = MemoryBroker()
    broker.create_topics("r", TOPICS, 1)
    topics = RunTopics(broker, "r", "learner-0")
    publisher = LogPublisher(Config(run={"name": "r"}), topics)
    place = publisher.publish(ChangeFinder("float32").take(trainer.each_weight()), 3)
    topics.send(POLICIES, "policy", Policy(version=3, digest=place.digest, step=3))
    assert write_policy(broker, "r", 3, tiny_model, tmp_path / "out", lora_alpha=32) == place.digest
    adapted = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(tiny_model), tmp_path / "out")
    tokens = torch.tensor([[1, 2, 3, 4]])
    assert torch.allclose(adapted.eval()(tokens).logits, trainer.model(tokens).logits, atol=1e-5)
    with pytest.raises(UserError, match=r"whose scale is in its folder's config\.json"):
        write_policy(broker, "r", 3, tiny_model, tmp_path / "other")


@pytest.mark.parametrize("table", [{}, {"lora_rank": 8, "weights": "files"}])
def test_an_adapter_can_be_published_alone_only_if_there_is_one_and_by_the_log(table: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"lora_publish is adapter.*want a rank above 0 and weights log"):
        Config.model_validate({"run": {"name": "r"}, "learner": {"lora_publish": "adapter", **table}})
