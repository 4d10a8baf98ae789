import json
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from factories import make_job, make_verdict
from learner_groups import random_groups
from safetensors.torch import load_file

from learner import checkpoint
from learner.batches import collate, micro_batches, samples_of
from learner.changes import ChangeFinder
from learner.group_ids import GroupIds
from learner.groups import Group
from learner.lora import merged_weights
from learner.model import compile_layers, load_model
from learner.presets import PRESETS
from learner.publisher import FolderPublisher
from learner.trainer import Trainer
from stream.config import LearnerTable
from stream.errors import UserError
from stream.weights import digest_of

CPU = torch.device("cpu")


def make_trainer(model: Path, **fields: Any) -> Trainer:
    return Trainer(load_model(str(model), CPU), LearnerTable(**fields))


def on_policy(groups: list[Group], trainer: Trainer, gap: float = 0.0) -> list[Group]:
    """The same groups, as if the trainer's weights had sampled them with logprobs that are `gap` too high."""
    for group in groups:
        for rollout, verdict in group.verdicts.items():
            batch = collate(samples_of([Group("x", 1, {0: verdict})], trainer.objective), CPU)
            logprobs = trainer.current_logprobs(batch)[0][0].detach().numpy() + np.float32(gap)
            group.verdicts[rollout] = make_verdict(
                rollout_index=rollout,
                reward=verdict.reward,
                job=verdict.trajectory.job,
                token_ids=verdict.trajectory.token_ids,
                behavior_logprobs=logprobs,
            )
    return groups


def gradient(trainer: Trainer, groups: list[Group], max_tokens: int) -> torch.Tensor:
    for part in micro_batches(samples_of(groups, trainer.objective), max_tokens):
        trainer.backward(collate(part, CPU), version=0)
    flat = torch.cat([p.grad.flatten() for p in trainer.model.parameters()])
    trainer.optimizer.zero_grad()
    return flat


def test_current_logprobs_are_those_of_the_whole_model_without_padding(tiny_model: Path) -> None:
    trainer, groups = make_trainer(tiny_model), random_groups()
    rollouts = samples_of(groups, PRESETS["dapo"])
    batch = collate(rollouts, CPU)
    expected = []
    for rollout in rollouts:
        trajectory = rollout.verdict.trajectory
        prompt = torch.tensor(trajectory.job.prompt_token_ids.astype(np.int64))
        completion = torch.tensor(trajectory.token_ids.astype(np.int64))
        with torch.no_grad():
            logits = trainer.model(torch.cat([prompt, completion])[None]).logits[0, prompt.numel() - 1 : -1]
        expected.append(torch.log_softmax(logits, -1).gather(-1, completion[:, None])[:, 0])
    assert torch.allclose(trainer.current_logprobs(batch)[0][batch.mask], torch.cat(expected), atol=1e-6)


def test_gradient_does_not_depend_on_how_the_batch_is_cut(tiny_model: Path) -> None:
    trainer, groups = make_trainer(tiny_model), random_groups(num_groups=6)
    whole, cut = gradient(trainer, groups, 10_000), gradient(trainer, groups, 16)
    assert whole.abs().max() > 1e-3
    assert torch.allclose(whole, cut, atol=1e-6)


def test_micro_batches_hold_every_rollout_once_within_the_token_budget() -> None:
    rollouts = samples_of(random_groups(num_groups=8), PRESETS["dapo"])
    parts = list(micro_batches(rollouts, 24))
    assert sorted(id(r) for part in parts for r in part) == sorted(id(r) for r in rollouts)
    assert all(len(part) * max(r.length for r in part) <= 24 for part in parts)


def test_update_raises_the_probability_of_what_was_rewarded(tiny_model: Path) -> None:
    trainer = make_trainer(tiny_model, lr=1e-2)
    groups = random_groups()
    batch = collate(samples_of(groups, PRESETS["tis"]), CPU)
    before = trainer.current_logprobs(batch)[0].detach()
    metrics = trainer.update(groups, version=0, step=0)
    change = (trainer.current_logprobs(batch)[0].detach() - before).sum(-1)
    assert change[batch.advantages > 0].mean() > 0 > change[batch.advantages < 0].mean()
    assert metrics["learner/num_tokens"] == batch.token_ids.numel() == batch.mask.sum()
    assert metrics["learner/lr"] == 1e-2


def test_ungraded_rollouts_take_no_part(tiny_model: Path) -> None:
    trainer, (group, *_) = make_trainer(tiny_model), random_groups()
    job = make_job(
        group.group_id,
        group.num_rollouts + 1,
        prompt_token_ids=next(iter(group.verdicts.values())).trajectory.job.prompt_token_ids,
    )
    late = make_verdict(rollout_index=group.num_rollouts, reward=0.0, outcome="timeout", job=job)
    larger = Group(group.group_id, group.num_rollouts + 1, {**group.verdicts, group.num_rollouts: late})
    assert torch.equal(gradient(trainer, [group], 1000), gradient(trainer, [larger], 1000))


def test_minibatches_are_steps_of_their_own_with_the_ratio_to_the_start_of_the_update(tiny_model: Path) -> None:
    """On records of the weights' own, the second of two steps sees ratios that the first has moved away from 1."""
    groups = on_policy(random_groups(num_groups=4), make_trainer(tiny_model))
    fields = {"objective": "areal", "lr": 1e-2, "clip_low": 1e-4, "clip_high": 1e-4}
    one, two = make_trainer(tiny_model, **fields), make_trainer(tiny_model, minibatches=2, **fields)
    by_hand = make_trainer(tiny_model, **(fields | {"objective": "grpo", "weighting": "token_mean"}))
    metrics = one.update(groups, version=0, step=0), two.update(groups, version=0, step=0)
    by_hand.update(groups[:2], version=0, step=0)
    by_hand.update(groups[2:], version=0, step=0)
    assert metrics[0]["learner/truncated_fraction"] == 0.0
    assert metrics[1]["learner/truncated_fraction"] > 0.1
    for a, b in zip(two.model.parameters(), by_hand.model.parameters(), strict=True):
        assert torch.allclose(a, b, atol=1e-5)


def test_a_kl_holds_the_policy_at_its_reference(tiny_model: Path) -> None:
    groups = random_groups()
    moved = []
    for fields in ({}, {"kl_coef": 100.0}):
        reference = load_model(str(tiny_model), CPU)
        trainer = Trainer(load_model(str(tiny_model), CPU), LearnerTable(lr=1e-3, **fields), reference)
        before = [p.clone() for p in reference.parameters()]
        for step in range(4):
            metrics = trainer.update(groups, version=0, step=step)
        assert all(map(torch.equal, before, reference.parameters()))
        moved.append(sum((a - b).abs().sum().item() for a, b in zip(before, trainer.model.parameters(), strict=True)))
    assert moved[1] < 0.8 * moved[0]
    assert metrics["learner/kl"] > 0


def test_an_entropy_bonus_raises_the_entropy(tiny_model: Path) -> None:
    groups, entropies = random_groups(), []
    for fields in ({}, {"entropy_coef": 1.0}):
        trainer = make_trainer(tiny_model, lr=1e-2, **fields)
        for step in range(3):
            trainer.update(groups, version=0, step=step)
        _, entropy = trainer.current_logprobs(collate(samples_of(groups, trainer.objective), CPU), with_entropy=True)
        assert entropy is not None
        entropies.append(entropy.sum().item())
    assert entropies[1] > entropies[0]


def test_no_groups_change_nothing(tiny_model: Path) -> None:
    trainer = make_trainer(tiny_model)
    before = [p.clone() for p in trainer.model.parameters()]
    assert trainer.update([], version=0, step=0) == {"learner/num_tokens": 0.0}
    assert all(torch.equal(a, b) for a, b in zip(before, trainer.model.parameters(), strict=True))


def test_on_policy_ratios_are_one(tiny_model: Path) -> None:
    """What a synchronous run (max_staleness = 0) sees: tokens sampled by the weights that are trained."""
    trainer = make_trainer(tiny_model)
    metrics = trainer.update(on_policy(random_groups(num_groups=8), trainer), version=0, step=0)
    for which in ("mean", "min", "max"):
        assert metrics[f"learner/importance_ratio/{which}"] == pytest.approx(1.0, abs=1e-5)
    assert metrics["learner/ess"] == pytest.approx(1.0, abs=1e-9)
    assert metrics["learner/logprob_gap/max"] < 1e-5
    assert metrics["learner/staleness/share_from_0"] == 1.0


def test_the_gap_between_engine_and_learner_is_measured_at_equal_weights_only(tiny_model: Path) -> None:
    trainer = make_trainer(tiny_model)
    groups = on_policy(random_groups(), trainer, gap=1e-3)
    metrics = trainer.update(groups, version=0, step=0)
    assert metrics["learner/importance_ratio/mean"] == pytest.approx(np.exp(-1e-3), abs=1e-5)
    assert metrics["learner/logprob_gap/max"] == pytest.approx(1e-3, abs=1e-5)
    assert metrics["learner/truncated_fraction"] == 0.0
    later = trainer.update(groups, version=1, step=1)
    assert "learner/logprob_gap/max" not in later
    assert later["learner/staleness/share_from_1"] == 1.0


def test_resumed_training_is_bit_for_bit_the_uninterrupted_one(tiny_model: Path, tmp_path: Path) -> None:
    torch.set_num_threads(1)
    straight, broken = make_trainer(tiny_model, lr=1e-2), make_trainer(tiny_model, lr=1e-2)
    for step in range(4):
        straight.update(random_groups(step), version=step, step=step)
    for step in range(2):
        broken.update(random_groups(step), version=step, step=step)
    pending = [make_verdict("open", 0, num_rollouts=2)]
    progress = checkpoint.Progress(
        step=2,
        version=5,
        offsets={("r.verdicts", 1): 17},
        pending=pending,
        seen=GroupIds.of(["a", "p.0000"]),
        num_rollouts=9,
    )
    checkpoint.save(tmp_path, broken, progress, keep=2)
    resumed = make_trainer(tiny_model, lr=1e-2)
    back = checkpoint.load_newest(tmp_path, resumed)
    assert back is not None
    assert (back.step, back.version, back.offsets, back.seen) == (2, 5, {("r.verdicts", 1): 17}, progress.seen)
    assert [v.trajectory.job.group_id for v in back.pending] == ["open"]
    for step in range(2, 4):
        resumed.update(random_groups(step), version=step, step=step)
    for one, other in zip(straight.model.parameters(), resumed.model.parameters(), strict=True):
        assert torch.equal(one, other)


def test_checkpoints_that_were_cut_off_are_passed_over_and_old_ones_dropped(tiny_model: Path, tmp_path: Path) -> None:
    trainer = make_trainer(tiny_model)
    for step in (1, 2, 3):
        progress = checkpoint.Progress(step=step, version=step, offsets={}, pending=[], seen=GroupIds(), num_rollouts=0)
        checkpoint.save(tmp_path, trainer, progress, keep=2)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step00000002", "step00000003"]
    (tmp_path / "step00000003" / checkpoint.COMPLETE).unlink()
    (tmp_path / ".writing-9").mkdir()
    (tmp_path / ".dropping-step00000001").mkdir()
    back = checkpoint.load_newest(tmp_path, trainer)
    assert back is not None
    assert back.step == 2
    assert checkpoint.load_newest(tmp_path / "nothing", trainer) is None


@pytest.mark.parametrize("tied", [False, True])
def test_published_weights_load_in_transformers_with_the_announced_digest(tmp_path: Path, tied: bool) -> None:
    from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=24,
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        tie_word_embeddings=tied,
    )
    model = LlamaForCausalLM(config)
    finder = ChangeFinder("float32")
    store = FolderPublisher(tmp_path / "policies", 2, model.config)
    for version in (0, 1, 2):
        place = store.publish(finder.take(merged_weights(model).items()), version)
        store.tidy(version)
    uri = place.uri
    assert sorted(path.name for path in (tmp_path / "policies").iterdir()) == ["v000001", "v000002"]
    file = Path(uri) / "model.safetensors"
    assert digest_of(uri) == place.digest
    assert ("lm_head.weight" in load_file(file)) is not tied
    assert json.loads((Path(uri) / "config.json").read_text())["vocab_size"] == 24
    loaded = AutoModelForCausalLM.from_pretrained(uri)
    tokens = torch.tensor([[1, 2, 3]])
    assert torch.equal(loaded(tokens).logits, model.eval()(tokens).logits)


def test_models_that_do_not_load_are_a_users_mistake(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="does not load"):
        load_model(str(tmp_path), CPU)


@pytest.mark.filterwarnings("ignore")  # torch.compile trips over those of torch that are made errors
def test_compiled_blocks_give_the_same_gradient_at_every_size_of_a_batch(
    tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the graphs of torch.compile, but not its kernels, which take a C++ compiler half a minute."""
    monkeypatch.setattr("learner.trainer.compile_layers", partial(compile_layers, backend="aot_eager"))
    plain = make_trainer(tiny_model)
    compiled = make_trainer(tiny_model, compile=True, gradient_checkpointing=True)
    groups = random_groups(num_groups=6)
    for max_tokens in (10_000, 40):
        expected, found = gradient(plain, groups, max_tokens), gradient(compiled, groups, max_tokens)
        assert expected.abs().max() > 1e-3
        assert torch.allclose(found, expected, atol=1e-6)
