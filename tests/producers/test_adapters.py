"""Adapters that travel alone against real vLLM: what samples is base and adapter together, version by version."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from engine_bench import Bench, reference_logprobs, start
from learner_groups import random_groups
from tiny_models import VOCABULARY, make_model, make_tokenizer

from learner.changes import ChangeFinder
from learner.model import load_model
from learner.trainer import Trainer
from producers.adapters import Adapter
from producers.engine import Completion
from stream.config import LearnerTable
from stream.errors import UserError
from stream.patches import TensorPatch

pytest.importorskip("peft")
RANK, ALPHA = 3, 32
LONG_PROMPT = np.random.default_rng(0).integers(2, VOCABULARY, 300).tolist()


class AdapterBench(Bench):
    """An engine that serves an adapter, and the learner that trains it."""

    trainer: Trainer

    def train(self) -> list[TensorPatch]:
        """An update; returns the adapter as a producer gets it."""
        step = self.engine.policy_version
        self.trainer.update(random_groups(step), version=step, step=step)
        with torch.no_grad():  # updates of random groups are small: a wrong adapter must show
            for name, parameter in self.trainer.model.named_parameters():
                if "lora_" in name:
                    parameter.add_(torch.randn_like(parameter), alpha=0.02)
        return ChangeFinder("float32").take(self.trainer.each_weight()).patches

    async def apply(self, patches: list[TensorPatch]) -> int:
        version = self.engine.policy_version + 1
        assert 0 < await self.engine.apply(patches, version) < 60
        merged = load_model(str(self.folder), torch.device("cpu"))
        merged.load_state_dict(self.trainer.weights())
        self.weights[version] = merged.eval()
        return version

    folder: Path


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AdapterBench]:
    loop, folder = asyncio.new_event_loop(), make_model(tmp_path_factory.mktemp("base"), seed=0, context=400)
    make_tokenizer(folder)
    engine = start(loop, folder, max_model_len=400, adapter=Adapter(RANK, ALPHA))
    torch.manual_seed(0)
    cpu = torch.device("cpu")
    bench = AdapterBench(engine, loop, {0: load_model(str(folder), cpu)})
    table = LearnerTable(lr=1e-2, lora_rank=RANK, lora_alpha=ALPHA, lora_publish="adapter")
    bench.trainer, bench.folder = Trainer(load_model(str(folder), cpu), table), folder
    yield bench
    loop.run_until_complete(engine.close())
    loop.close()


def assert_right(bench: AdapterBench, completion: Completion) -> None:
    """Merging rounds otherwise than adding the adapter's output: seen up to 5e-4; a wrong version gives .01 and more."""
    gap = np.abs(completion.behavior_logprobs - reference_logprobs(bench, completion))
    assert gap.max() < 2e-3
    assert gap.mean() < 5e-5


def test_what_travels_is_the_adapter_alone_and_before_it_the_base_samples(bench: AdapterBench) -> None:
    assert_right(bench, bench.sample(seed=0))
    patches = ChangeFinder("float32").take(bench.trainer.each_weight()).patches
    assert {patch.name.partition(".lora_")[2] for patch in patches} == {"A.weight", "B.weight"}
    assert len(patches) == 2 * 2 * 7
    assert not bench.engine.patchable


def test_logprobs_are_those_of_the_learners_merged_model_at_every_version(bench: AdapterBench) -> None:
    for _ in range(3):
        before = bench.sample(seed=0, max_tokens=1)
        version = bench.run(bench.apply(bench.train()))
        after = bench.sample(seed=0, max_tokens=1)
        assert abs(before.behavior_logprobs - after.behavior_logprobs).max() > 0.01
        for seed in range(3):
            completion = bench.sample(seed=seed)
            assert {span.policy_version for span in completion.spans} == {version}
            assert_right(bench, completion)


def test_sequences_in_flight_go_on_and_every_token_is_its_versions(bench: AdapterBench) -> None:
    completions = bench.run(bench.sample_across(lambda: bench.apply(bench.train()), num_crossing=4))
    for completion in completions:
        assert_right(bench, completion)


def test_a_shared_prompt_is_read_anew_by_each_version(bench: AdapterBench) -> None:
    def sample() -> Any:
        return bench.run(bench.engine.generate(LONG_PROMPT, request_id="long", max_tokens=8, seed=0))

    for _ in range(2):
        bench.run(bench.apply(bench.train()))
        first, second = sample(), sample()
        assert (first.num_cached_tokens, second.num_cached_tokens) == (0, 256)
        for completion in (first, second):
            gap = np.abs(completion.behavior_logprobs - reference_logprobs(bench, completion, prompt=LONG_PROMPT))
            assert gap.max() < 2e-3


def test_what_is_no_whole_adapter_of_the_model_is_refused_in_one_line(bench: AdapterBench, tmp_path: Path) -> None:
    before, patches = bench.sample(seed=0), bench.train()
    strange = TensorPatch(
        name="model.norm.lora_A.weight", shape=(RANK, 32), dtype="float32", values=np.zeros(RANK * 32, np.uint32)
    )
    wrong = {
        "vLLM has no adapters for 1 layers that are trained, first model.norm:": [*patches, strange],
        "1 matrices of the adapter are missing, first model.layers.0": patches[1:],
        "does not fit the served model: it is patched twice": [*patches, patches[0]],
    }
    for message, some in wrong.items():
        with pytest.raises(UserError, match=message):
            bench.run(bench.engine.apply(some, bench.engine.policy_version + 1))
    with pytest.raises(UserError, match="holds a whole model; this engine serves an adapter"):
        bench.run(bench.engine.swap(bench.folder, bench.engine.policy_version + 1))
    assert np.array_equal(before.behavior_logprobs, bench.sample(seed=0).behavior_logprobs)
    with pytest.raises(UserError, match="lora_rank is 513; vLLM serves adapters up to rank 512"):
        Adapter(513, 32).settings()
