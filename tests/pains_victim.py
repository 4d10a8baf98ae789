"""A producer in a process of its own, to be killed, whose engine takes as long as a prompt's text says."""

import asyncio
import os
import sys
import threading
from typing import Any

import numpy as np

from producers.engine import Completion
from producers.role import run
from stream.config import Config
from stream.kafka import KafkaBroker
from stream.messages import Span
from stream.run_topics import RunTopics

POISON = 31
"""A prompt that holds this token ends the process at once."""
SECONDS_A_TOKEN = 0.01


class Sleeper:
    """Samples as many tokens as the prompt's first token times 8 says, each in SECONDS_A_TOKEN."""

    patchable = True

    def __init__(self) -> None:
        self._version = 0

    async def generate(self, prompt_token_ids: np.ndarray[Any, Any], **_: Any) -> Completion:
        if POISON in prompt_token_ids:
            os._exit(9)
        num_tokens, version = 8 * int(prompt_token_ids[0]), self._version
        await asyncio.sleep(num_tokens * SECONDS_A_TOKEN)
        return Completion(
            token_ids=np.full(num_tokens, 2, np.int32),
            behavior_logprobs=np.full(num_tokens, -0.5, np.float32),
            spans=(Span(policy_version=version, start=0, stop=num_tokens),),
            finish_reason="stop",
            queued_s=0.0,
            generated_s=num_tokens * SECONDS_A_TOKEN,
        )

    async def swap(self, weights_dir: str, version: int) -> float:
        self._version = version
        return 0.0

    async def apply(self, patches: object, version: int) -> float:
        return await self.swap("", version)

    def require_alive(self) -> None:
        pass

    async def close(self) -> None:
        pass


async def start(_: Config) -> Sleeper:
    return Sleeper()


def produce(servers: str, config: Config) -> None:
    """Run the producer until it is killed; what a child process calls."""
    broker = KafkaBroker(servers)
    run(config, RunTopics(broker, config.run.name, "producer-0"), threading.Event(), start)
    sys.exit(0)
