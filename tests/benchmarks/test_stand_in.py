import asyncio
import math
import os
import selectors
import subprocess
import sys
import time
from collections.abc import Coroutine
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from factories import make_job

from benchmarks.stand_in import Answers, Lengths, Script, StandIn, positive, starter
from producers.engine import Completion, EngineDied
from prompts.sources import read_prompts
from prompts.tokens import load_tokenizer, tokenize
from stream.codec import decode
from stream.config import Config, load
from stream.kafka import KafkaBroker
from stream.messages import Policy, Trajectory
from stream.run_topics import RunTopics
from stream.topics import JOBS, POLICIES, TOPICS, TRAJECTORIES
from stream.weights import WEIGHTS_FILE, HostTensor, State, digest_of, write_state

ROOT = Path(__file__).parents[2]
END = 9
PROMPT = np.array([1, 2], np.int32)
RIGHT, WRONG = np.array([5, 6, END], np.int32), np.array([5, 7, END], np.int32)
FILLER = np.array([3, 4], np.int32)
STEP_S = 4 / 400
"""Of four slots at 400 tokens a second: a sequence ends with a step."""


def demo(*arguments: str) -> Config:
    return load(ROOT / "configs/demo.toml", [f"--run.model={ROOT / 'demo/base'}", *arguments])


def script(length: float = 0, probability: float = 0.25) -> Script:
    return Script({PROMPT.tobytes(): Answers(RIGHT, WRONG, probability)}, FILLER, END, Lengths(length))


def sample(*prompts: np.ndarray, length: float = 0, most: int = 64) -> list[Completion]:
    return asyncio.run(sample_at(math.inf, *prompts, length=length, most=most))


async def sample_at(tokens_per_s: float, *prompts: np.ndarray, length: float, most: int = 64) -> list[Completion]:
    engine = StandIn(script(length), tokens_per_s, 4, seed=0)
    asked = [engine.generate(p, request_id=str(i), max_tokens=most, temperature=1.0) for i, p in enumerate(prompts)]
    return await asyncio.gather(*asked)


class Clock(selectors.DefaultSelector):
    """Of an event loop that does not wait: its time goes on to the next timer at once."""

    now_s = 1000.0

    def select(self, timeout: float | None = None) -> Any:
        self.now_s += timeout or 0.0
        return super().select(0)

    def run(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        loop = asyncio.SelectorEventLoop(self)
        loop.time = lambda: self.now_s  # type: ignore[method-assign]
        with asyncio.Runner(loop_factory=lambda: loop) as runner:
            return runner.run(coroutine)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The engine's."""
    clock = Clock()
    monkeypatch.setattr("benchmarks.stand_in.time", SimpleNamespace(monotonic=lambda: clock.now_s))
    return clock


def test_answers_are_right_as_often_as_said_and_logprobs_say_so() -> None:
    completions = sample(*[PROMPT] * 2000)
    right = [completion for completion in completions if np.array_equal(completion.token_ids, RIGHT)]
    wrong = [completion for completion in completions if np.array_equal(completion.token_ids, WRONG)]
    assert len(right) + len(wrong) == 2000
    assert len(right) / 2000 == pytest.approx(0.25, abs=0.03)
    assert right[0].behavior_logprobs.tolist() == pytest.approx([0, math.log(0.25), 0])
    assert wrong[0].behavior_logprobs.tolist() == pytest.approx([0, math.log(0.75), 0])


def test_filler_makes_a_completion_as_long_as_asked() -> None:
    (completion,) = sample(PROMPT, length=20)
    assert completion.token_ids.size == 20
    assert set(completion.token_ids[:17].tolist()) == {3, 4}
    assert completion.behavior_logprobs[:17].tolist() == pytest.approx([math.log(0.5)] * 17)
    assert completion.finish_reason == "stop"


def test_a_completion_is_cut_off_at_max_tokens() -> None:
    (completion,) = sample(PROMPT, length=20, most=8)
    assert completion.token_ids.size == completion.behavior_logprobs.size == 8
    assert completion.finish_reason == "length"


def test_an_unknown_prompt_gets_an_empty_answer() -> None:
    (completion,) = sample(np.array([8], np.int32))
    assert completion.token_ids.tolist() == [END]


@pytest.mark.parametrize("kind", ["fixed", "geometric", "lognormal"])
def test_lengths_have_their_mean(kind) -> None:
    rng = np.random.default_rng(0)
    drawn = [Lengths(50, kind).draw(rng) for _ in range(20_000)]
    assert np.mean(drawn) == pytest.approx(50, rel=0.05)
    assert (np.std(drawn) == 0) == (kind == "fixed")


def test_all_slots_together_sample_at_the_given_rate(clock: Clock) -> None:
    started_at = clock.now_s
    completions = clock.run(sample_at(400, *[PROMPT] * 8, length=20))  # two turns of four, 100 tokens/s each
    assert clock.now_s - started_at == pytest.approx(0.4, abs=STEP_S)
    assert [completion.queued_s for completion in completions] == pytest.approx([0.0] * 4 + [0.2] * 4, abs=STEP_S)
    assert [completion.generated_s for completion in completions] == pytest.approx([0.2] * 8, abs=STEP_S)


def test_tokens_have_the_version_that_was_there_when_they_were_sampled(clock: Clock) -> None:
    async def run() -> list[Completion]:
        engine = StandIn(script(20), 400, 4, seed=0)
        await engine.apply((), 7)
        first = asyncio.create_task(engine.generate(PROMPT, request_id="a", max_tokens=64))
        await asyncio.sleep(0.1)
        await engine.swap("", 8)
        later = await engine.generate(PROMPT, request_id="b", max_tokens=64)
        return [await first, later]

    first, later = clock.run(run())
    assert [span.policy_version for span in first.spans] == [7, 8]
    assert first.spans[0].stop == pytest.approx(10, abs=1)
    assert [(span.policy_version, span.start, span.stop) for span in later.spans] == [(8, 0, 20)]


def test_closing_ends_what_runs_and_what_waits_for_a_slot() -> None:
    async def run() -> list[object]:
        engine = StandIn(script(), 1, 1, seed=0)
        asked = [asyncio.create_task(engine.generate(PROMPT, request_id=str(i), max_tokens=64)) for i in range(2)]
        await asyncio.sleep(0)
        await engine.close()
        return await asyncio.gather(*asked, return_exceptions=True)

    running, waiting = asyncio.run(run())
    assert isinstance(running, asyncio.CancelledError)
    assert isinstance(waiting, EngineDied)


def test_every_prompt_of_the_demo_has_its_answer_and_another() -> None:
    config = demo("--prompts.num_prompts=32", "--prompts.num_heldout=8")
    tokenizer, loaded = load_tokenizer(config.run.model), read_prompts(config)
    prompts, said = [*loaded.pool, *loaded.heldout], Script.of(config, Lengths())
    ids, rng = tokenize(prompts, config), np.random.default_rng(0)
    for prompt in prompts:
        texts = {
            tokenizer.decode(said.complete(ids[prompt.prompt_id], 8, rng)[0], skip_special_tokens=True)
            for _ in range(200)
        }
        assert prompt.answer in texts
        assert len(texts) <= 2


def test_producers_that_start_anew_sample_anew() -> None:
    async def first_tokens() -> list[list[int]]:
        engine = await starter(lambda _: script(30), math.inf)(demo())
        completions = [await engine.generate(PROMPT, request_id="", max_tokens=30) for _ in range(3)]
        return [completion.token_ids.tolist() for completion in completions]

    assert asyncio.run(first_tokens()) != asyncio.run(first_tokens())


@pytest.mark.parametrize("rate", ["0", "-1", "nan", "fast"])
def test_a_rate_is_above_zero(rate: str) -> None:
    with pytest.raises(ValueError):
        positive(rate)


def test_a_real_producer_samples_with_it_through_a_real_broker(kafka: str, tmp_path: Path) -> None:
    recipe = f"""
    run = {{ name = "standin", dir = "{tmp_path}", model = "{ROOT / "demo/base"}" }}
    broker = {{ bootstrap_servers = "{kafka}" }}
    prompts = {{ source = "codes", num_prompts = 16, num_heldout = 8 }}
    sampling = {{ max_tokens = 8 }}
    producer = {{ max_model_len = 32 }}
    """
    (tmp_path / "recipe.toml").write_text(recipe)
    config = load(tmp_path / "recipe.toml", [])
    broker = KafkaBroker(kafka)
    broker.create_topics("standin", TOPICS, config.broker.partitions)
    topics = RunTopics(broker, "standin", "world")
    announce(topics, tmp_path / "weights", version=3)
    pool = read_prompts(config).pool
    for prompt in pool:
        ids = tokenize([prompt], config)[prompt.prompt_id]
        topics.send_of_group(JOBS, prompt.prompt_id, make_job(prompt.prompt_id, prompt=prompt, prompt_token_ids=ids))
    topics.writer.flush()
    command = [sys.executable, "-m", "benchmarks.stand_in", str(tmp_path / "recipe.toml"), "--tokens-per-s=1000"]
    with subprocess.Popen(command, cwd=ROOT, env=os.environ | {"RUCKSACK_WORKER": "producer-0"}) as producer:
        reader, found = topics.reader(TRAJECTORIES), []
        deadline = time.monotonic() + 300
        while len(found) < 64 and time.monotonic() < deadline and producer.poll() is None:
            found += reader.poll(0.5)
        producer.terminate()
    reader.close()
    topics.writer.close()
    broker.close()
    assert producer.returncode == 143
    trajectories = [decode(record.value, Trajectory) for record in found]
    assert {(t.job.group_id, t.rollout_index) for t in trajectories} == {
        (p.prompt_id, i) for p in pool for i in range(4)
    }
    assert {span.policy_version for t in trajectories for span in t.spans} == {3}
    assert 0 < np.mean([t.text == t.job.prompt.answer for t in trajectories]) < 1


def announce(topics: RunTopics, folder: Path, version: int) -> None:
    folder.mkdir()
    with (folder / WEIGHTS_FILE).open("wb") as file:
        write_state(State({"w": HostTensor("float32", (), np.array([version], np.uint32))}), file)
    topics.send(POLICIES, "policy", Policy(version=version, uri=str(folder), digest=digest_of(folder), step=version))
