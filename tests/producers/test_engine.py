"""The engine against real vLLM: one engine for the file, in one event loop; the last tests destroy it."""

import asyncio
import itertools
import os
import shutil
import signal
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from engine_bench import (
    MAX_TOKENS,
    PROMPT,
    SLOTS,
    Bench,
    assert_logprobs,
    children,
    load,
    one_version,
    reference_logprobs,
    start,
)
from tiny_models import END, make_model

from producers import engine as engine_module
from producers.engine import Completion, Engine, EngineDied, Refused
from stream.errors import UserError
from stream.messages import Span


@pytest.fixture(scope="module")
def bench(model_folder: Path) -> Iterator[Bench]:
    before = children()
    loop = asyncio.new_event_loop()
    engine = start(loop, model_folder, policy_version=3)
    yield Bench(engine, loop, {3: load(model_folder)}, children() - before)
    loop.run_until_complete(engine.close())
    loop.run_until_complete(engine.close())
    assert children() == before
    loop.close()


def test_greedy_completion_is_that_of_transformers(bench):
    rollout = bench.sample(temperature=0.0, max_tokens=40)
    model = bench.weights[3]
    expected = model.generate(
        torch.tensor([PROMPT]), max_new_tokens=40, do_sample=False, pad_token_id=END, eos_token_id=END
    )
    assert rollout.token_ids.tolist() == expected[0, len(PROMPT) :].tolist()
    assert_logprobs(bench, rollout, lambda logits: logits)


@pytest.mark.parametrize("temperature", [1.0, 0.5])
def test_behavior_logprobs_are_those_of_the_tempered_distribution(bench, temperature):
    for seed in range(4):
        assert_logprobs(bench, bench.sample(temperature=temperature, seed=seed), lambda logits: logits / temperature)


def test_behavior_logprobs_are_those_of_the_truncated_distribution(bench):
    def keep_four(logits):
        return torch.where(logits >= logits.topk(4).values[:, -1:], logits, -torch.inf)

    rollout = bench.sample(top_k=4, seed=1)
    assert_logprobs(bench, rollout, keep_four)
    assert (rollout.behavior_logprobs > reference_logprobs(bench, rollout, lambda logits: logits)).all()


def test_completions_end_at_the_end_token_at_a_stop_token_or_at_the_limit(bench):
    rollouts = [bench.sample(seed=seed, max_tokens=20) for seed in range(12)]
    for rollout in rollouts:
        ended = rollout.token_ids[-1] == END
        assert rollout.finish_reason == ("stop" if ended else "length")
        assert ended or rollout.token_ids.size == 20
        assert END not in rollout.token_ids[:-1]
        assert rollout.spans == (Span(policy_version=3, start=0, stop=rollout.token_ids.size),)
    assert {rollout.finish_reason for rollout in rollouts} == {"stop", "length"}
    first = bench.sample(temperature=0.0)
    stopped = bench.sample(temperature=0.0, stop_token_ids=[int(first.token_ids[0])])
    assert (stopped.finish_reason, stopped.token_ids.tolist()) == ("stop", first.token_ids[:1].tolist())


def test_samples_follow_the_models_distribution(bench):
    async def first_tokens() -> list[int]:
        rollouts = await asyncio.gather(
            *(bench.engine.generate(PROMPT, request_id=f"law{n}", max_tokens=1) for n in range(600))
        )
        return [int(rollout.token_ids[0]) for rollout in rollouts]

    with torch.no_grad():
        expected = torch.softmax(bench.weights[3](torch.tensor([PROMPT])).logits[0, -1], dim=-1).numpy()
    counts = np.bincount(bench.run(first_tokens()), minlength=expected.size)
    # Chi-square over the tokens that are not too rare; mean df, standard deviation sqrt(2 df).
    common = expected * 600 > 5
    statistic = float((((counts - 600 * expected) ** 2) / (600 * expected))[common].sum())
    degrees = int(common.sum())
    assert degrees > 5
    assert statistic < degrees + 6 * (2 * degrees) ** 0.5


@pytest.mark.parametrize(
    ("prompt", "settings"),
    [
        pytest.param([0] * 128, {}, id="prompt as long as the context"),
        pytest.param([0] * 5000, {}, id="prompt far too long"),
        pytest.param([], {}, id="no prompt"),
        pytest.param([0, 32], {}, id="token outside the vocabulary"),
        pytest.param([0, 2**31 - 1], {}, id="token far outside"),
        pytest.param([0, -1], {}, id="negative token"),
        pytest.param(PROMPT, {"max_tokens": 0}, id="no tokens"),
        pytest.param(PROMPT, {"max_tokens": -5}, id="fewer than no tokens"),
        pytest.param(PROMPT, {"temperature": 2.5}, id="temperature above vLLM's highest"),
        pytest.param(PROMPT, {"temperature": -1.0}, id="negative temperature"),
        pytest.param(PROMPT, {"temperature": float("nan")}, id="temperature not a number"),
        pytest.param(PROMPT, {"temperature": float("inf")}, id="infinite temperature"),
        pytest.param(PROMPT, {"top_p": 0.0}, id="top_p 0"),
        pytest.param(PROMPT, {"top_p": float("nan")}, id="top_p not a number"),
        pytest.param(PROMPT, {"top_k": -7}, id="negative top_k"),
    ],
)
def test_what_cannot_be_sampled_is_refused_and_the_engine_goes_on(bench, prompt, settings):
    with pytest.raises(Refused, match="vLLM refuses request bad: "):
        bench.run(bench.engine.generate(prompt, **{"request_id": "bad", "max_tokens": 4} | settings))
    assert bench.engine.alive
    assert bench.sample(temperature=0.0, max_tokens=4).token_ids.size > 0


@pytest.mark.parametrize("settings", [{"max_tokens": 2**63}, {"top_k": 2**40}, {"top_k": -1}])
def test_limits_beyond_all_measure_are_no_limits(bench, settings):
    unlimited = bench.sample(seed=5, max_tokens=124)
    rollout = bench.sample(**{"seed": 5, "max_tokens": 124} | settings)
    assert rollout.token_ids.tolist() == unlimited.token_ids.tolist()


def test_a_swap_in_flight_loses_no_sequence_and_every_token_is_its_versions(
    bench, model_folder, other_weights, monkeypatch
):
    processor = bench.engine._llm.output_processor
    process, outputs = processor.process_outputs, Counter[str]()

    def listen(came: list[Any], *args: Any, **settings: Any) -> Any:
        outputs.update(output.request_id for output in came)
        return process(came, *args, **settings)

    monkeypatch.setattr(processor, "process_outputs", listen)

    folders = itertools.cycle([other_weights, model_folder])
    first = bench.engine.policy_version
    rollouts = bench.run(bench.sample_across(lambda: bench.swap(next(folders)), SLOTS // 2))
    assert {rollout.finish_reason for rollout in rollouts} <= {"stop", "length"}
    crossed = [rollout for rollout in rollouts if len(rollout.spans) > 1]
    assert sorted(outputs.values()) == sorted(len(rollout.spans) for rollout in rollouts)  # not one for each token
    for rollout in rollouts:
        versions = [span.policy_version for span in rollout.spans]
        assert versions == sorted(set(versions))
        assert first <= versions[0] <= versions[-1] <= bench.engine.policy_version
        assert_logprobs(bench, rollout, lambda logits: logits)
    unswapped = [one_version(bench, rollout, rollout.spans[0].policy_version) for rollout in crossed]
    assert any(not np.allclose(r.behavior_logprobs, one, atol=1e-2) for r, one in zip(crossed, unswapped, strict=True))


def test_weights_that_do_not_fit_are_refused_and_the_old_ones_stay(bench, model_folder, tmp_path):
    before = bench.sample(temperature=0.0, max_tokens=12)
    cut = tmp_path / "cut"
    shutil.copytree(model_folder, cut)
    (cut / "model.safetensors").write_bytes((cut / "model.safetensors").read_bytes()[:-100])
    for folder in (tmp_path / "missing", cut, make_model(tmp_path / "wide", seed=0, width=96)):
        with pytest.raises(UserError, match=folder.name):
            bench.run(bench.engine.swap(folder, 99))
    with pytest.raises(UserError, match="versions only grow"):
        bench.run(bench.engine.swap(model_folder, 1))
    after = bench.sample(temperature=0.0, max_tokens=12)
    assert after.token_ids.tolist() == before.token_ids.tolist()
    assert after.spans == before.spans


def test_a_load_that_hangs_is_the_end_of_the_engine(model_folder):
    killed = []
    process = SimpleNamespace(kill=lambda: killed.append("killed"))
    llm = SimpleNamespace(
        errored=False,
        engine_core=SimpleNamespace(
            resources=SimpleNamespace(engine_manager=SimpleNamespace(processes=[process])),
            call_utility_async=lambda *_: asyncio.Event().wait(),
        ),
    )

    async def swap() -> None:
        engine = Engine(llm, model_folder, max_num_seqs=1, policy_version=0, hang_s=60, load_s=0.05)
        with pytest.raises(EngineDied, match=r"loading version 1 from .* broke off: TimeoutError"):
            await engine.swap(model_folder, 1)
        assert not engine.alive

    asyncio.run(swap())
    assert killed == ["killed"]


def test_closing_aborts_what_is_in_flight_and_fails_what_waits(model_folder):
    class Request:
        """vLLM's output of a request that never ends by itself."""

        def __init__(self) -> None:
            self.aborted = asyncio.Event()

        async def generate(self, *_: object, **__: object):
            await self.aborted.wait()
            completion = SimpleNamespace(
                token_ids=[5], logprobs=SimpleNamespace(logprobs=[-0.5]), finish_reason="abort"
            )
            completion.weight_versions = [SimpleNamespace(version="0", start=0, end=1)]
            yield SimpleNamespace(finished=True, outputs=[completion], request_id="r", num_cached_tokens=0)

    request = Request()

    async def abort(request_ids: list[str]) -> None:
        assert request_ids == ["in flight"]
        request.aborted.set()

    async def close() -> list[Any]:
        llm = SimpleNamespace(
            errored=False, generate=request.generate, abort=abort, output_handler=None, shutdown=lambda timeout: None
        )
        engine = Engine(llm, model_folder, max_num_seqs=1, policy_version=0, hang_s=60, load_s=60)
        tasks = [
            asyncio.create_task(engine.generate(PROMPT, request_id=name, max_tokens=4))
            for name in ("in flight", "waiting")
        ]
        await asyncio.sleep(0)
        await engine.close()
        await engine.close()
        return await asyncio.gather(*tasks, return_exceptions=True)

    completion, error = asyncio.run(close())
    assert (completion.finish_reason, completion.token_ids.tolist()) == ("abort", [5])
    assert isinstance(error, EngineDied)
    assert "it was closed" in str(error)


def test_no_model_is_one_clear_error(tmp_path):
    loop = asyncio.new_event_loop()
    with pytest.raises(UserError, match=r"no config\.json; want a folder of a transformers model"):
        start(loop, tmp_path / "missing")
    loop.close()


def test_an_engine_that_hangs_is_killed_and_what_waits_for_it_fails(bench, monkeypatch):
    """The last test: it leaves no engine."""
    (child,) = bench.processes
    monkeypatch.setattr(engine_module, "PING_EVERY_S", 0.2)

    def ask(number: int) -> asyncio.Task[Completion]:
        name = f"hang{number}"
        return asyncio.create_task(bench.engine.generate(PROMPT, request_id=name, max_tokens=MAX_TOKENS))

    async def hang() -> list[Any]:
        bench.engine._hang_monitor.cancel()  # which is patient, as tests before this one may have to wait
        bench.engine._hang_monitor = asyncio.create_task(bench.engine._kill_if_silent(5.0))
        before = [ask(number) for number in range(SLOTS)]
        await asyncio.wait(before, return_when=asyncio.FIRST_COMPLETED)
        os.kill(child.pid, signal.SIGSTOP)
        return await asyncio.gather(
            *before, *(ask(SLOTS + number) for number in range(2 * SLOTS)), return_exceptions=True
        )

    errors = [result for result in bench.run(hang()) if isinstance(result, BaseException)]
    assert len(errors) >= 2 * SLOTS
    assert all(isinstance(error, EngineDied) for error in errors)
    assert not bench.engine.alive
    with pytest.raises(EngineDied, match="no answer for 5 s"):
        bench.sample()
