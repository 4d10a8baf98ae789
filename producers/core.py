"""vLLM's scheduling loop, which can switch weights between two steps. Runs in the engine's process alone.

Enters: a version, and the method of the workers that gives them its weights. Leaves: the seconds for which nothing was sampled.
Invariants: tokens are labelled with the version that sampled them, and a sequence that has not begun to be read
finds in the prefix cache only what the weights in force have computed: the cache's keys are salted with their version.

Only whole completions are asked for, so tokens leave this process once: with the sequence's last one, or, labelled with
the old version, when the weights are switched. A message for each step would cost the producer a quarter of its time.
"""

import time
from collections import defaultdict
from concurrent.futures import Future
from functools import partial
from typing import Any

from vllm.v1.engine import EngineCoreOutputs
from vllm.v1.engine.core import EngineCoreProc
from vllm.v1.request import Request

from producers.stretch import Stretch

Outputs = dict[int, EngineCoreOutputs]
"""By number of the client."""


class SwitchingCore(EngineCoreProc):
    """EngineCoreProc with `switch_weights`."""

    def __init__(self, *args: Any, **settings: Any) -> None:
        self._kept: dict[str, tuple[int, Stretch]] = {}
        """By request: the client, and what it has not been sent."""
        super().__init__(*args, **settings)

    # -- sampling -----------------------------------------------------------------------------------------------------

    def add_request(self, request: Request, request_wave: int = 0) -> None:
        """Take a request, which may have been on its way while the weights were switched."""
        self._salt(request)
        super().add_request(request, request_wave)

    def step(self) -> tuple[Outputs, bool]:
        """Sample a token of every running sequence; the outputs are those of the ended ones."""
        outputs, executed = super().step()
        return self._ended(outputs), executed

    def step_with_batch_queue(self) -> tuple[Outputs | None, bool]:
        """`step`, where the next step begins before this one has ended."""
        outputs, executed = super().step_with_batch_queue()
        return self._ended(outputs or {}), executed

    def abort_requests(self, request_ids: list[str]) -> None:
        """Forget requests that nobody waits for any more."""
        for request_id in request_ids:
            self._kept.pop(request_id, None)
        super().abort_requests(request_ids)

    def _ended(self, outputs: Outputs) -> Outputs:
        """The outputs of the sequences that have ended, whole; those of the others are kept."""
        told = {}
        for client, message in outputs.items():
            ended = []
            for output in message.outputs:
                _, stretch = self._kept.setdefault(output.request_id, (client, Stretch()))
                stretch.add(output)
                if output.finished:
                    del self._kept[output.request_id]
                    ended.append(stretch.joined())
            message.outputs = ended
            if ended or message.finished_requests or message.scheduler_stats is not None:
                told[client] = message
        return told

    # -- weights ------------------------------------------------------------------------------------------------------

    def set_weight_version(self, weight_version: str) -> None:
        """Label what is sampled from now on."""
        self._send_kept()
        super().set_weight_version(weight_version)

    def _send_kept(self) -> None:
        """Send what was kept, labelled with the version in force."""
        outputs = defaultdict(list)
        for client, stretch in self._kept.values():
            outputs[client].append(stretch.joined())
        self._kept.clear()
        for client, kept in outputs.items():
            message = EngineCoreOutputs(outputs=kept, weight_version=self.get_weight_version())
            self.output_queue.put_nowait((client, message))

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
