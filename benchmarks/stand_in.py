"""Runs real producers with an engine that samples nothing: it knows the answers, and takes as long as it is told to.

    python -m benchmarks.stand_in CONFIG [--tokens-per-s R] [--answer-tokens N] [--lengths KIND] [--table.key VALUE ...]

Everything but vLLM is the producer's own: jobs, leases, weights with their digests, trajectories, heartbeats. It imports
neither vLLM nor torch, and is ready in two seconds. What the engine gives is drawn from a stated distribution, of which
its log-probabilities are exact: filler, every token of the vocabulary alike, and then one of two answers, the prompt's
own with a probability that the prompt's id settles, or another prompt's. It learns nothing from the weights that it is
given, so its log-probabilities move away from those of the policy that is trained: the learner says so, and is right.

Each sequence gets a token a step, and a step takes max_num_seqs / R seconds however many sequences there are, as on a
GPU that waits for its memory: with all slots taken the engine gives R tokens a second.
"""

import argparse
import asyncio
import math
import os
import sys
import threading
import time
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Any, Literal, Self, get_args

import numpy as np
from numpy.typing import NDArray

from infra.placement import THREAD_VARIABLES, WorkerSpec
from producers.engine import Completion, EngineDied
from producers.role import run as run_producer
from producers.sampler import StartEngine
from producers.spans import version_spans
from prompts.sources import read_prompts
from prompts.tokens import load_tokenizer, tokenize
from stream.config import Config
from stream.launch import WORKER_VARIABLE, run_role
from stream.messages import Prompt, Span
from stream.patches import TensorPatch
from stream.run_topics import RunTopics

Tokens = NDArray[np.int32]
Kind = Literal["fixed", "geometric", "lognormal"]

SURE = 0.02
"""No prompt is answered right more rarely than this, nor more often than one minus this."""
WHOLE_ANSWERS = ("string", "regex")
"""Graders for which the whole message is the answer: the others find it in a box."""


@dataclass(frozen=True)
class Lengths:
    """Tokens of a completion, its end included; an answer that is longer by itself is as long as it is."""

    mean: float = 0.0
    """0: the answer alone."""
    kind: Kind = "fixed"
    """`lognormal` has a sigma of 1: one completion in a hundred is six times as long as the mean."""

    def draw(self, rng: np.random.Generator) -> int:
        """One length."""
        if self.kind == "geometric" and self.mean > 1:
            return int(rng.geometric(1 / self.mean))
        if self.kind == "lognormal" and self.mean > 0:
            return round(rng.lognormal(math.log(self.mean) - 0.5, 1.0))
        return round(self.mean)


@dataclass(frozen=True)
class Answers:
    """Two answers to a prompt, each with the end token."""

    right: Tokens
    wrong: Tokens
    probability: float
    """Of the right one."""

    def draw(self, rng: np.random.Generator) -> tuple[Tokens, NDArray[np.float32]]:
        """One of the two, and the log-probability of each of its tokens: it is told from the other by one token."""
        is_right = rng.random() < self.probability
        tokens, other = (self.right, self.wrong) if is_right else (self.wrong, self.right)
        logprobs = np.zeros(tokens.size, np.float32)
        shared = min(tokens.size, other.size)
        differ = np.flatnonzero(tokens[:shared] != other[:shared])
        if differ.size:
            logprobs[differ[0]] = math.log(self.probability if is_right else 1 - self.probability)
        return tokens, logprobs


class Script:
    """What the stand-in says to each prompt of a run."""

    def __init__(self, answers: Mapping[bytes, Answers], filler: Tokens, end: int, lengths: Lengths) -> None:
        self._answers = answers
        self._filler = filler
        self._end = np.array([end], np.int32)
        self._lengths = lengths

    @classmethod
    def of(cls, config: Config, lengths: Lengths) -> Self:
        """The answers to a recipe's prompts, in its model's tokens."""
        tokenizer = load_tokenizer(config.run.model)
        loaded = read_prompts(config)
        prompts = [*loaded.pool, *loaded.heldout]
        ids, end = tokenize(prompts, config), int(tokenizer.eos_token_id)
        prompts = [prompt for prompt in prompts if prompt.prompt_id in ids]
        said = {p.prompt_id: np.array([*encode(tokenizer, said_of(p)), end], np.int32) for p in prompts}
        answers = {
            ids[prompt.prompt_id].tobytes(): Answers(
                said[prompt.prompt_id], said[other.prompt_id], success_rate(prompt.prompt_id)
            )
            for prompt, other in pairwise([*prompts, prompts[0]])
        }
        special = set(tokenizer.all_special_ids)
        filler = np.array([token for token in sorted(tokenizer.get_vocab().values()) if token not in special], np.int32)
        return cls(answers, filler, end, lengths)

    def complete(self, prompt: Tokens, most: int, rng: np.random.Generator) -> tuple[Tokens, NDArray[np.float32], bool]:
        """Tokens [T], their log-probabilities [T], and whether `most` tokens cut them off. Unknown prompts get filler alone."""
        found = self._answers.get(np.asarray(prompt, np.int32).tobytes())
        answer, logprobs = found.draw(rng) if found else (self._end, np.zeros(1, np.float32))
        num_filler = max(0, self._lengths.draw(rng) - answer.size)
        tokens = np.concatenate([rng.choice(self._filler, num_filler), answer]).astype(np.int32)
        uniform = np.full(num_filler, -math.log(self._filler.size), np.float32)
        return tokens[:most], np.concatenate([uniform, logprobs])[:most], tokens.size > most


def said_of(prompt: Prompt) -> str:
    """The message that its grader takes for right."""
    return prompt.answer if prompt.grader in WHOLE_ANSWERS else f"\\boxed{{{prompt.answer}}}"


def encode(tokenizer: Any, text: str) -> list[int]:
    """Token ids that are decoded to a text; a tokenizer of words, such as the demo's, is given it character by character."""
    for spelled in (text, " ".join(text)):
        ids = list(tokenizer(spelled, add_special_tokens=False)["input_ids"])
        if tokenizer.decode(ids).strip() == text:
            break
    return ids


def success_rate(prompt_id: str) -> float:
    """How often a prompt is answered right, the same in every process; all rates are alike often."""
    return min(max(zlib.crc32(prompt_id.encode()) / 2**32, SURE), 1 - SURE)


class StandIn:
    """A `producers.sampler.Sampler`. Its methods are called on one event loop."""

    patchable = True

    def __init__(self, script: Script, tokens_per_s: float, max_num_seqs: int, seed: int) -> None:
        self._script = script
        self._step_s = max_num_seqs / tokens_per_s
        self._slots = asyncio.Semaphore(max_num_seqs)
        self._rng = np.random.default_rng(seed)
        self._running: dict[asyncio.Task[Any], float] = {}
        """When each began, on the monotonic clock."""
        self._switches = [(-math.inf, 0)]
        """When which version came; those that no running sequence has seen are forgotten."""
        self._closed = False

    async def generate(
        self, prompt_token_ids: Sequence[int] | Tokens, *, request_id: str, max_tokens: int, **_: float
    ) -> Completion:
        """A completion of a prompt [P], as soon as an engine of this speed would have it. Temperature and the like change nothing."""
        self.require_alive()
        task = asyncio.current_task()
        assert task is not None
        queued_at = time.monotonic()
        async with self._slots:
            self.require_alive()
            started_at = self._running[task] = time.monotonic()
            try:
                prompt = np.asarray(prompt_token_ids, np.int32)
                tokens, logprobs, is_cut = self._script.complete(prompt, max_tokens, self._rng)
                await self._until(started_at + tokens.size * self._step_s)
                spans = self._spans(started_at, tokens.size)
            finally:
                del self._running[task]
        return Completion(
            token_ids=tokens,
            behavior_logprobs=logprobs,
            spans=spans,
            finish_reason="length" if is_cut else "stop",
            queued_s=started_at - queued_at,
            generated_s=time.monotonic() - started_at,
        )

    async def swap(self, weights_dir: str, version: int) -> float:
        """Label what comes with a version; returns 0, the seconds of pause."""
        return self._switch(version)

    async def apply(self, patches: Sequence[TensorPatch], version: int) -> float:
        """The same; what the patches hold is not looked at."""
        return self._switch(version)

    def require_alive(self) -> None:
        """Raise EngineDied after `close`."""
        if self._closed:
            raise EngineDied("the stand-in was closed")

    async def close(self) -> None:
        """Cancel what is in flight."""
        self._closed = True
        running = list(self._running)
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)

    async def _until(self, ready_at: float) -> None:
        """Wait for the end of the engine's step: sequences end together."""
        if self._step_s > 0:
            ready_at = math.ceil(ready_at / self._step_s) * self._step_s
        await asyncio.sleep(max(0.0, ready_at - time.monotonic()))

    def _switch(self, version: int) -> float:
        now = time.monotonic()
        oldest = min(self._running.values(), default=now)
        first = max(i for i, (at, _) in enumerate(self._switches) if at <= oldest)
        self._switches = [*self._switches[first:], (now, version)]
        return 0.0

    def _spans(self, started_at: float, num_tokens: int) -> tuple[Span, ...]:
        """A token has the version that was there when its step began."""
        begins = [self._token_at(at - started_at, num_tokens) for at, _ in self._switches]
        versions = [str(version) for _, version in self._switches]
        stretches = zip(versions, begins, [*begins[1:], num_tokens], strict=True)
        return version_spans(((v, start, stop) for v, start, stop in stretches if stop > start), num_tokens)

    def _token_at(self, after_s: float, num_tokens: int) -> int:
        """The first token whose step begins so many seconds after the start, or later."""
        if after_s <= 0:
            return 0
        return min(num_tokens, math.ceil(after_s / self._step_s)) if self._step_s else num_tokens


def starter(script: Callable[[Config], Script], tokens_per_s: float) -> StartEngine:
    """What `producers.role.run` starts in place of vLLM."""

    async def start(config: Config) -> StandIn:
        seed = zlib.crc32(f"{os.getpid()} {time.time_ns()}".encode())  # no two sample alike, one that restarts included
        said = await asyncio.to_thread(script, config)
        return StandIn(said, tokens_per_s, config.producer.max_num_seqs, seed)

    return start


def spec(config: Config, index: int, arguments: Sequence[str]) -> WorkerSpec:
    """One of these producers for `infra.supervisor.Supervisor`; `arguments` are the command's, the recipe first."""
    worker = f"producer-{index}"
    environment = dict.fromkeys(THREAD_VARIABLES, "1") | {WORKER_VARIABLE: worker, "PYTHONUNBUFFERED": "1"}
    command = (sys.executable, "-m", "benchmarks.stand_in", *arguments)
    return WorkerSpec("producer", index, command, environment, config.run.path / "logs" / f"{worker}.log")


def positive(text: str) -> float:
    """A number above 0; `inf` is one."""
    if not (number := float(text)) > 0:
        raise ValueError(text)
    return number


def options_of(argv: Sequence[str] | None = None) -> tuple[float, Lengths, list[str]]:
    """Tokens per second, lengths, and the arguments that are the role's."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--tokens-per-s", type=positive, default=2500.0)
    parser.add_argument("--answer-tokens", type=float, default=0.0)
    parser.add_argument("--lengths", choices=get_args(Kind), default="fixed")
    options, rest = parser.parse_known_args(argv)
    return options.tokens_per_s, Lengths(options.answer_tokens, options.lengths), rest


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point of the process; returns its exit code."""
    tokens_per_s, lengths, rest = options_of(argv)
    start = starter(partial(Script.of, lengths=lengths), tokens_per_s)

    def run(config: Config, topics: RunTopics, stop: threading.Event) -> None:
        run_producer(config, topics, stop, start)

    return run_role("producer", run, rest)


if __name__ == "__main__":
    sys.modules["torch"] = None  # type: ignore[assignment]  # transformers would import it for a tokenizer: 4 s
    sys.exit(main())
