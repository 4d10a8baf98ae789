"""Starts a real engine for a test, and says what transformers gives for its completions."""

import asyncio
import warnings
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch
from transformers import AutoModelForCausalLM, DynamicCache

from producers.engine import Completion, Engine
from stream.messages import Span

PROMPT = [0, 5, 9, 4]
MAX_TOKENS = 100
SLOTS = 16


@dataclass
class Bench:
    """An engine and its event loop. `weights` are those of each version that was loaded."""

    engine: Engine
    loop: asyncio.AbstractEventLoop
    weights: dict[int, Any]
    processes: set[psutil.Process] = field(default_factory=set)

    def run(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        return self.loop.run_until_complete(asyncio.wait_for(coroutine, 300))

    def sample(self, **settings: Any) -> Completion:
        return self.run(self.engine.generate(PROMPT, **{"request_id": "request", "max_tokens": MAX_TOKENS} | settings))

    async def sample_across(self, change: Callable[[], Awaitable[object]], num_crossing: int) -> list[Completion]:
        """Rollouts, more than there are slots, while the weights are changed twice; again until so many were in flight at a change.

        On a busy machine the engine may be done with them before we ask it to change the weights.
        """
        rollouts: list[Completion] = []
        while sum(len(rollout.spans) > 1 for rollout in rollouts) < num_crossing:
            numbers = range(len(rollouts), len(rollouts) + 4 * SLOTS)
            tasks = [
                asyncio.create_task(
                    self.engine.generate(PROMPT, request_id=f"flight{n}", max_tokens=MAX_TOKENS, seed=n)
                )
                for n in numbers
            ]
            for _ in range(2):
                if pending := [task for task in tasks if not task.done()]:
                    await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
                await change()
            rollouts += await asyncio.gather(*tasks)
        return rollouts

    async def swap(self, folder: Path) -> int:
        version = self.engine.policy_version + 1
        await self.engine.swap(folder, version)
        self.weights[version] = load(folder)
        return version


def load(folder: Path, dtype: torch.dtype = torch.float32) -> Any:
    return AutoModelForCausalLM.from_pretrained(folder, dtype=dtype)


def start(loop: asyncio.AbstractEventLoop, folder: Path, **settings: Any) -> Engine:
    settings = {"max_model_len": 128, "max_num_seqs": SLOTS, "dtype": "float32", "kv_cache_gib": 0.1} | settings
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # vLLM's own, of its import
        return loop.run_until_complete(Engine.start(folder, **settings))


def children() -> set[psutil.Process]:
    """Processes that we started and that live; without multiprocessing's resource tracker, which ends with us."""

    def counts(process: psutil.Process) -> bool:
        try:
            return "resource_tracker" not in " ".join(process.cmdline())
        except psutil.NoSuchProcess:  # a zombie among them
            return False

    return set(filter(counts, psutil.Process().children(recursive=True)))


@torch.no_grad()
def reference_logprobs(
    bench: Bench,
    rollout: Completion,
    warp: Callable[[torch.Tensor], torch.Tensor] = lambda logits: logits,
    prompt: Sequence[int] = PROMPT,
) -> np.ndarray:
    """Log-probability of each token by transformers, each span by its version, on the KV cache that was there then."""
    ids = torch.tensor([[*prompt, *rollout.token_ids.tolist()]])
    cache, logits = DynamicCache(), []
    done = 0
    for span in rollout.spans:  # the token before a span is the first that its weights read
        stop = len(prompt) + span.stop - 1
        output = bench.weights[span.policy_version](ids[:, done:stop], past_key_values=cache, use_cache=True)
        logits.append(output.logits[0, -(span.stop - span.start) :])
        done = stop
    logprobs = torch.log_softmax(warp(torch.cat(logits)).float(), dim=-1)
    return logprobs.gather(-1, ids[0, len(prompt) :, None])[:, 0].numpy()


def assert_logprobs(bench: Bench, rollout: Completion, warp: Callable[[torch.Tensor], torch.Tensor]) -> None:
    assert rollout.behavior_logprobs.dtype == np.float32
    np.testing.assert_allclose(rollout.behavior_logprobs, reference_logprobs(bench, rollout, warp), atol=1e-4, rtol=0)


def one_version(bench: Bench, rollout: Completion, version: int) -> np.ndarray:
    """The log-probabilities that would be right had there been no swap."""
    whole = Span(policy_version=version, start=0, stop=rollout.token_ids.size)
    unswapped = Completion(
        token_ids=rollout.token_ids, behavior_logprobs=rollout.behavior_logprobs, spans=(whole,),
        finish_reason=rollout.finish_reason, queued_s=0.0, generated_s=0.0,
    )  # fmt: skip
    return reference_logprobs(bench, unswapped, lambda logits: logits)
