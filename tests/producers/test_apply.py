"""Weight patches against real vLLM, in float32 and bfloat16, with tied embeddings and a long shared prompt."""

import asyncio
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from threading import Event
from typing import Any

import numpy as np
import pytest
import torch
import unsalted_core
from engine_bench import PROMPT, Bench, assert_logprobs, load, reference_logprobs, start
from factories import make_job, make_verdict
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from tiny_models import VOCABULARY, make_model, make_tokenizer

from learner.role import Learner
from producers import process
from producers.engine import Completion
from producers.weights import INDICES, in_memory, read_header
from prompts.tokens import load_tokenizer
from stream.config import Config
from stream.errors import UserError
from stream.memory import MemoryBroker
from stream.patches import BITS, Dtype, TensorPatch
from stream.run_topics import RunTopics
from stream.topics import TOPICS, UPDATES, VERDICTS
from stream.worker import run_loop

CONTEXT = 1100
BLOCK = 128
"""Tokens of a block of vLLM's KV cache on a CPU."""
LONG_PROMPT = np.random.default_rng(0).integers(2, VOCABULARY, 1000).tolist()
DTYPES: dict[Dtype, torch.dtype] = {"float32": torch.float32, "bfloat16": torch.bfloat16}


class Checkpoint:
    """A folder of weights that are changed as bits, and the patches that change the engine's alike."""

    def __init__(self, folder: Path, dtype: Dtype) -> None:
        self.folder, self.dtype = folder, dtype
        tensors = load_file(folder / "model.safetensors")
        self.shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
        signed = torch.int16 if dtype == "bfloat16" else torch.int32
        self.bits: dict[str, NDArray[Any]] = {
            name: tensor.to(DTYPES[dtype]).flatten().view(signed).numpy().view(BITS[dtype]).copy()
            for name, tensor in tensors.items()
        }
        self.save()

    def save(self) -> None:
        signed = np.int16 if self.dtype == "bfloat16" else np.int32
        tensors = {
            name: torch.from_numpy(bits.view(signed)).view(DTYPES[self.dtype]).view(self.shapes[name])
            for name, bits in self.bits.items()
        }
        save_file(tensors, self.folder / "model.safetensors", metadata={"format": "pt"})

    def patch(self, name: str, indices: NDArray[Any] | None, values: NDArray[Any]) -> TensorPatch:
        self.bits[name][slice(None) if indices is None else indices] = values
        return TensorPatch(name=name, shape=self.shapes[name], dtype=self.dtype, values=values, indices=indices)

    def change(self, rng: np.random.Generator, share: float = 0.05) -> list[TensorPatch]:
        """Other values for some elements of all tensors, and for all of one."""
        names = list(self.bits)
        rng.shuffle(names)
        patches = [self.patch(names[0], None, self.values(rng, self.bits[names[0]].size))]
        for name in names[1:]:
            indices = np.flatnonzero(rng.random(self.bits[name].size) < share).astype(np.uint32)
            patches.append(self.patch(name, indices, self.values(rng, indices.size)))
        return patches

    def values(self, rng: np.random.Generator, size: int) -> NDArray[Any]:
        numbers = torch.from_numpy(rng.normal(0, 0.3, size)).to(DTYPES[self.dtype])
        signed = torch.int16 if self.dtype == "bfloat16" else torch.int32
        return numbers.view(signed).numpy().view(BITS[self.dtype])


class PatchBench(Bench):
    """An engine, and the checkpoint that it should have."""

    checkpoint: Checkpoint
    rng: np.random.Generator

    async def apply(self, patches: Sequence[TensorPatch]) -> int:
        version = self.engine.policy_version + 1
        assert 0 < await self.engine.apply(patches, version) < 60
        self.checkpoint.save()
        self.weights[version] = load(self.checkpoint.folder, DTYPES[self.checkpoint.dtype])
        return version

    def logprobs(self) -> list[NDArray[np.float32]]:
        return [self.sample(seed=seed, max_tokens=40).behavior_logprobs for seed in range(3)]

    async def reload(self) -> None:
        """Let vLLM load the checkpoint by its own rules."""
        files = {"files": [str(self.checkpoint.folder / "model.safetensors")]}
        await self.engine._switch(self.engine.policy_version, "reload_files", files)


def started(folder: Path, dtype: Dtype, **settings: Any) -> Iterator[PatchBench]:
    loop = asyncio.new_event_loop()
    checkpoint = Checkpoint(make_model(folder, seed=0, context=CONTEXT, tied=True), dtype)
    make_tokenizer(folder)
    engine = start(loop, folder, dtype=dtype, max_model_len=CONTEXT, **settings)
    bench = PatchBench(engine, loop, {0: load(folder, DTYPES[dtype])})
    bench.checkpoint, bench.rng = checkpoint, np.random.default_rng(0)
    yield bench
    loop.run_until_complete(engine.close())
    loop.close()


@pytest.fixture(scope="module", params=["float32", "bfloat16"])
def bench(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[PatchBench]:
    yield from started(tmp_path_factory.mktemp(request.param), request.param)


def test_every_tensor_is_found_where_vllm_has_it(bench: PatchBench) -> None:
    assert bench.engine._in_place == bench.checkpoint.bits.keys()
    assert "lm_head.weight" not in bench.engine._in_place  # tied


def test_logprobs_after_patches_are_those_of_transformers(bench: PatchBench) -> None:
    before = bench.sample(seed=0, max_tokens=1)
    for _ in range(2):
        version = bench.run(bench.apply(bench.checkpoint.change(bench.rng)))
    for seed in range(4):
        completion = bench.sample(seed=seed)
        assert {span.policy_version for span in completion.spans} == {version}
        gap = np.abs(completion.behavior_logprobs - reference_logprobs(bench, completion))
        assert gap.max() < 1e-4 if bench.checkpoint.dtype == "float32" else gap.mean() < 0.05
    assert abs(before.behavior_logprobs - bench.sample(seed=0, max_tokens=1).behavior_logprobs) > 0.05


def test_many_patches_are_one_full_reload_bit_for_bit(bench: PatchBench) -> None:
    for _ in range(12):
        bench.run(bench.apply(bench.checkpoint.change(bench.rng)))
    patched = bench.logprobs()
    bench.run(bench.swap(bench.checkpoint.folder))
    swapped = bench.logprobs()
    bench.run(bench.reload())
    for ours, dense, reloaded in zip(patched, swapped, bench.logprobs(), strict=True):
        assert np.array_equal(ours, reloaded)
        assert np.array_equal(dense, reloaded)


def test_patches_after_a_reload_by_vllm_itself_still_arrive(bench: PatchBench) -> None:
    bench.run(bench.reload())
    bench.run(bench.apply(bench.checkpoint.change(bench.rng)))
    patched = bench.logprobs()
    bench.run(bench.reload())
    assert all(map(np.array_equal, patched, bench.logprobs()))


def test_a_model_that_cannot_be_written_in_place_takes_whole_weights_alone(
    bench: PatchBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bench.engine, "_in_place", bench.engine._in_place - {"model.norm.weight"})
    bench.checkpoint.change(bench.rng)
    whole = [bench.checkpoint.patch(name, None, bits.copy()) for name, bits in bench.checkpoint.bits.items()]
    with pytest.raises(
        UserError, match=r"1 tensors of this model .*first model\.norm\.weight, so only the whole model"
    ):
        bench.run(bench.engine.apply(whole[1:], bench.engine.policy_version + 1))
    bench.run(bench.apply(whole))
    loaded = bench.logprobs()
    monkeypatch.undo()
    bench.run(bench.apply(whole))
    assert all(map(np.array_equal, loaded, bench.logprobs()))


def test_whole_tensors_in_another_dtype_are_converted(bench: PatchBench) -> None:
    dtype: Dtype = "bfloat16" if bench.checkpoint.dtype == "float32" else "float32"
    other = Checkpoint(Path(shutil.copytree(bench.checkpoint.folder, bench.checkpoint.folder / "other")), dtype)
    patches = [other.patch(name, None, other.values(bench.rng, bits.size)) for name, bits in other.bits.items()]
    bench.run(bench.engine.apply(patches, bench.engine.policy_version))
    patched = bench.logprobs()
    other.save()
    bench.run(bench.engine.swap(other.folder, bench.engine.policy_version))
    assert all(map(np.array_equal, patched, bench.logprobs()))
    bench.run(bench.swap(bench.checkpoint.folder))


def test_sequences_in_flight_go_on_and_every_token_is_its_versions(bench: PatchBench) -> None:
    first = bench.engine.policy_version
    change = lambda: bench.apply(bench.checkpoint.change(bench.rng))  # noqa: E731
    completions = bench.run(bench.sample_across(change, num_crossing=4))
    assert {completion.finish_reason for completion in completions} <= {"stop", "length"}
    for completion in completions:
        versions = [span.policy_version for span in completion.spans]
        assert first <= versions[0] <= versions[-1] <= bench.engine.policy_version
        if bench.checkpoint.dtype == "float32":
            assert_logprobs(bench, completion, lambda logits: logits)


def updated(model: Path, folder: Path, completion: Completion) -> dict[str, float]:
    """Metrics of the first update of a learner whose weights these are, of a group of this completion and a wrong one."""
    broker = MemoryBroker()
    broker.create_topics("r", TOPICS, 1)
    topics = RunTopics(broker, "r", "learner-0")
    run = {"name": "r", "dir": folder, "model": str(model), "num_updates": 1, "prompts_per_update": 1}
    job = make_job(num_rollouts=2, prompt_token_ids=np.array(PROMPT, np.int32))
    fields: dict[str, Any] = {"token_ids": completion.token_ids, "behavior_logprobs": completion.behavior_logprobs}
    for number in range(2):
        topics.send_of_group(
            VERDICTS, job.group_id, make_verdict(rollout_index=number, reward=number, job=job, **fields)
        )
    config = Config(run=run, learner={"objective": "tis"}, evaluator={"enabled": False})
    learner = Learner(config, topics, load_tokenizer(model))
    run_loop(learner, topics, learner.reader, Event())
    return dict(topics.read_all(UPDATES)[-1].metrics)


def test_two_tensors_of_one_shape_that_are_exchanged_are_told_by_the_learner_within_one_update(
    bench: PatchBench, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A wrong mapping: nothing fails, and every digest is right."""
    one, two = (f"model.layers.{layer}.self_attn.k_proj.weight" for layer in (0, 1))
    bits, right = bench.checkpoint.bits, bench.sample(max_tokens=100, seed=1)
    exchanged = [
        TensorPatch(
            name=name, shape=bench.checkpoint.shapes[name], dtype=bench.checkpoint.dtype, values=bits[other].copy()
        )
        for name, other in ((one, two), (two, one))
    ]
    version = bench.run(bench.apply(exchanged))
    wrong = bench.sample(max_tokens=100, seed=1)
    gaps = [float(np.abs(c.behavior_logprobs - reference_logprobs(bench, c)).mean()) for c in (right, wrong)]
    assert gaps[1] > 0.2 > 4 * gaps[0]
    assert wrong.spans[0].policy_version == version
    quiet = updated(bench.checkpoint.folder, tmp_path / "right", right)
    assert quiet["learner/logprob_gap/alarm"] == 0
    loud = updated(bench.checkpoint.folder, tmp_path / "wrong", wrong)
    assert loud["learner/logprob_gap/alarm"] == 1
    assert loud["learner/logprob_gap/mean"] == pytest.approx(gaps[1], rel=0.2)
    (line,) = [record.getMessage() for record in caplog.records if record.name == "learner.role"]  # of the second alone
    assert "nats a token at equal weights (want below 0.1) step=1 version=1. The learner trains on other" in line
    bench.run(bench.apply([bench.checkpoint.patch(name, None, bits[name].copy()) for name in (one, two)]))


def test_what_does_not_fit_is_refused_and_the_weights_stay(bench: PatchBench) -> None:
    before, bits = bench.logprobs(), BITS[bench.checkpoint.dtype]
    name, shape = "model.norm.weight", (32,)

    def patch(**changed: Any) -> TensorPatch:
        fields = {"name": name, "shape": shape, "dtype": bench.checkpoint.dtype, "values": np.zeros(2, bits)}
        return TensorPatch(**fields | {"indices": np.array([3, 5], np.uint32)} | changed)

    wrong = {
        r"shape is \(32,\); want a tensor of the model": [patch(name="model.norm.bias")],
        r"shape is \(33,\); want \(32,\)": [patch(shape=(33,))],
        "want raw bits": [patch(values=np.zeros(2, np.int32))],
        r"values have shape \(3,\); want \(2,\)": [patch(values=np.zeros(3, bits))],
        r"values have shape \(2,\); want \(32,\)": [patch(indices=None)],
        "indices run from 5 to 5": [patch(indices=np.array([5, 5], np.uint32))],
        "indices run from 5 to 32; want ascending ones from 0, below 32": [patch(indices=np.array([5, 32], np.uint32))],
        "indices are float32": [patch(indices=np.array([5, 6], np.float32))],
        "it is patched twice": [patch(), patch()],
    }
    for message, patches in wrong.items():
        with pytest.raises(UserError, match=message):
            bench.run(bench.engine.apply(patches, bench.engine.policy_version + 1))
    if bench.engine.policy_version:
        with pytest.raises(UserError, match="versions only grow"):
            bench.run(bench.engine.apply([patch()], bench.engine.policy_version - 1))
    assert all(map(np.array_equal, before, bench.logprobs()))


def test_nothing_that_changed_is_a_version_too(bench: PatchBench) -> None:
    before = bench.logprobs()
    name, none = next(iter(bench.checkpoint.bits)), np.empty(0, np.uint32)
    for patches in ([], [bench.checkpoint.patch(name, none, none.astype(BITS[bench.checkpoint.dtype]))]):
        version = bench.run(bench.apply(patches))
        assert bench.sample().spans[0].policy_version == version
    assert all(map(np.array_equal, before, bench.logprobs()))


def test_a_file_of_patches_is_as_safetensors_writes_it_and_leaves_no_name(bench: PatchBench) -> None:
    patches = bench.checkpoint.change(np.random.default_rng(3), share=0.3)
    with in_memory(patches) as path:
        tensors = load_file(path)
        assert read_header(Path(path)) == {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    for patch in patches:
        bits = tensors[patch.name].flatten().view(torch.int16 if patch.values.itemsize == 2 else torch.int32).numpy()
        assert np.array_equal(bits.view(patch.values.dtype), patch.values)
        if patch.indices is not None:
            assert np.array_equal(tensors[patch.name + INDICES].numpy(), patch.indices)
    assert not Path(path).exists()
    bench.run(bench.apply(patches))


def shared_prefix(bench: PatchBench) -> list[Completion]:
    """Rollouts of one long prompt: one under the first weights, and eight that wait in vLLM while they are changed."""

    async def rollout(name: str) -> Completion:
        return await bench.engine.generate(LONG_PROMPT, request_id=name, max_tokens=16, seed=1)

    async def run() -> list[Completion]:
        await rollout("reads the prompt")
        again = await rollout("shares it")
        core: Any = bench.engine._llm.engine_core
        await core.pause_scheduler_async("keep", False)
        waiting = [asyncio.create_task(rollout(f"waits{n}")) for n in range(8)]
        while len(bench.engine._running) < 8:
            await asyncio.sleep(0)
        await core.get_weight_version_async()  # the requests that went out before it are in vLLM's queue now
        await bench.apply(bench.checkpoint.change(bench.rng))
        return [again, *await asyncio.gather(*waiting), await rollout("comes later")]

    return bench.run(run())


def gaps(bench: PatchBench, completions: list[Completion]) -> NDArray[np.float64]:
    """Largest difference of each completion's logprobs to those of transformers under the weights it is labelled with."""
    return np.array(
        [np.abs(c.behavior_logprobs - reference_logprobs(bench, c, prompt=LONG_PROMPT)).max() for c in completions]
    )


def test_a_shared_prompt_is_read_once_by_each_version_and_the_logprob_gap_stays_flat(bench: PatchBench) -> None:
    before = bench.engine.policy_version
    completions = shared_prefix(bench)
    assert [c.spans[0].policy_version for c in completions] == [before] + 9 * [before + 1]
    cached = [completion.num_cached_tokens for completion in completions]
    whole_blocks = (len(LONG_PROMPT) - 1) // BLOCK * BLOCK
    assert cached[0] == cached[-1] == whole_blocks
    assert sorted(cached[1:9]) == [0, *7 * [whole_blocks]]
    if bench.checkpoint.dtype == "float32":
        assert gaps(bench, completions).max() < 1e-4


def test_without_the_salt_a_shared_prompt_is_that_of_the_old_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process, "run_engine_core", unsalted_core.run_engine_core)
    for bench in started(tmp_path, "float32"):
        completions = shared_prefix(bench)
        assert completions[1].num_cached_tokens > 0
        assert gaps(bench, completions)[0] < 1e-4
        assert gaps(bench, completions)[1:9].min() > 0.01
