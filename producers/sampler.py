"""Says what a producer asks of an engine. `producers.engine.Engine`, which is vLLM, gives it; so may another engine."""

from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from producers.engine import Completion
from stream.config import Config
from stream.patches import TensorPatch


class Sampler(Protocol):
    """What a producer asks of an engine, on the event loop that started it; `producers.engine.Engine` says more of each."""

    @property
    def patchable(self) -> bool:
        """Whether `apply` takes some elements of the weights; if not, only all of them together."""

    async def generate(
        self,
        prompt_token_ids: NDArray[np.int32],
        *,
        request_id: str,
        max_tokens: int,
        temperature: float,
        top_p: float,
        top_k: int,
    ) -> Completion:
        """Sample one completion of a prompt [P]."""

    async def swap(self, weights_dir: str, version: int) -> float:
        """Sample from the weights of a folder from now on; returns the seconds of pause."""

    async def apply(self, patches: Sequence[TensorPatch], version: int) -> float:
        """Sample from patched weights from now on; returns the seconds of pause."""

    def require_alive(self) -> None:
        """Raise EngineDied unless it can sample."""

    async def close(self) -> None:
        """Abort what is in flight, and end."""


StartEngine = Callable[[Config], Coroutine[Any, Any, Sampler]]
"""Starts an engine with the weights of run.model, ready to sample."""
