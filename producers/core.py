"""vLLM's scheduling loop, which can switch weights between two steps. Runs in the engine's process alone.

Enters: a version, and the method of the workers that gives them its weights. Leaves: the seconds for which nothing was sampled.
Invariants: a step's tokens are labelled with the version that sampled them, and a sequence that has not begun to be read
finds in the prefix cache only what the weights in force have computed: the cache's keys are salted with their version.
"""

import time
from concurrent.futures import Future
from functools import partial
from typing import Any

from vllm.v1.engine.core import EngineCoreProc
from vllm.v1.request import Request


class SwitchingCore(EngineCoreProc):
    """EngineCoreProc with `switch_weights`."""

    def add_request(self, request: Request, request_wave: int = 0) -> None:
        """Take a request, which may have been on its way while the weights were switched."""
        self._salt(request)
        super().add_request(request, request_wave)

    def switch_weights(self, version: str, method: str, arguments: dict[str, Any]) -> "float | Future[float]":
        """Let the step that runs end, call a method of all workers that gives them other weights, and go on."""
        switch = partial(self._switch, version, method, arguments)
        paused = self.pause_scheduler("keep", clear_cache=False)
        if paused is None:
            return switch()
        switched: Future[float] = Future()

        def proceed(paused: "Future[None]") -> None:
            try:
                paused.result()
                switched.set_result(switch())
            except Exception as error:
                switched.set_exception(error)

        paused.add_done_callback(proceed)
        return switched

    def _switch(self, version: str, method: str, arguments: dict[str, Any]) -> float:
        started_at = time.monotonic()
        self.collective_rpc(method, kwargs=arguments)
        self.set_weight_version(version)
        scheduler: Any = self.scheduler
        for request in scheduler.requests.values():
            if request.num_computed_tokens == 0:  # it waits, and will be read by the new weights
                self._salt(request)
        self.resume_scheduler()
        return time.monotonic() - started_at

    def _salt(self, request: Request) -> None:
        version = self.get_weight_version()
        if request.cache_salt != version:
            request.cache_salt = version
            request.block_hashes.clear()
            request.update_block_hashes()
