"""Samples completions with vLLM's AsyncLLM, and swaps its weights while sequences are in flight.

Enters: token ids of a prompt. Leaves: a completion, every token with the version of the weights that sampled it and the
log-probability it had then (law 3). vLLM itself labels each step's tokens with the version in force, in the process and
on the thread that runs the step, so the labels are right however late the outputs arrive. A swap pauses between two
steps; sequences keep their KV cache, which for their older tokens stays that of the old weights, and their next tokens
are sampled from the new weights. A sequence that has not begun shares with others what the weights in force have read.
"""

import asyncio
import contextlib
import gc
import logging
import time
from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, cast

import numpy as np
from numpy.typing import NDArray

from producers.adapters import Adapter, check_adapter, request
from producers.process import import_vllm, kill, on_cpu, prepare_environment, require_vllm, start_llm
from producers.spans import version_spans
from producers.weights import check_fit, check_in_place, in_memory, model_folder, read_tensors
from stream.errors import RucksackError, UserError
from stream.messages import FinishReason, Span
from stream.patches import TensorPatch

if TYPE_CHECKING:
    from vllm.outputs import RequestOutput
    from vllm.sampling_params import SamplingParams
    from vllm.v1.engine.async_llm import AsyncLLM

log = logging.getLogger(__name__)

PING_EVERY_S = 5.0
"""Seconds between two questions whether the engine still answers."""
POLL_S = 0.005
"""Seconds between two questions whether new weights are prepared."""
WARM_UP_TOKENS = 8
"""Prompt tokens of the completions that warm the engine up."""


class EngineDied(RucksackError):
    """vLLM's process is gone, hangs, or may hold half-loaded weights: only a new engine helps."""


class Refused(RucksackError, ValueError):
    """vLLM refuses a prompt or a sampling parameter, and would every time; the engine goes on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Completion:
    """One completion. T tokens, the end token among them if one was sampled."""

    token_ids: NDArray[np.int32]  # [T]
    behavior_logprobs: NDArray[np.float32]  # [T]
    """Of the distribution that was sampled from (after temperature, top-k, top-p). At temperature 0, which samples
    nothing, those of the model's own distribution (temperature 1)."""
    spans: tuple[Span, ...]  # cover [0, T) in order
    finish_reason: FinishReason
    queued_s: float
    """Seconds it waited for one of the engine's max_num_seqs slots."""
    generated_s: float
    """Seconds from then to the last token."""
    num_cached_tokens: int = 0
    """Prompt tokens that were not read again: the weights in force had read them for another completion."""


class Engine:
    """One vLLM engine. Its methods are called on the event loop that started it."""

    def __init__(
        self,
        llm: "AsyncLLM",
        folder: Path,
        *,
        max_num_seqs: int,
        policy_version: int,
        hang_s: float,
        load_s: float,
        in_place: Collection[str] = (),
        adapter: Adapter | None = None,
    ) -> None:
        self._llm = llm
        self._tensors = read_tensors(folder)
        self._in_place = frozenset(in_place)
        """Tensors that can be written where vLLM has them; with an adapter, layers that it can change."""
        self._adapter, self._lora = adapter, None if adapter is None else request()
        self._max_num_seqs = max_num_seqs
        self._slots = asyncio.Semaphore(max_num_seqs)
        self._running: set[str] = set()
        """Ids of the requests that vLLM has."""
        self._swapping = asyncio.Lock()
        self._load_s = load_s
        self._fault: str | None = None
        self._hang_monitor = asyncio.create_task(self._kill_if_silent(hang_s))
        self.policy_version = policy_version

    @classmethod
    async def start(
        cls,
        model_path: str | Path,
        *,
        max_model_len: int,
        max_num_seqs: int = 256,
        dtype: str = "auto",
        seed: int = 0,
        gpu_memory_utilization: float = 0.85,
        kv_cache_gib: float = 1.0,
        tensor_parallel_size: int = 1,
        enforce_eager: bool = False,
        prefix_caching: bool = True,
        policy_version: int = 0,
        adapter: Adapter | None = None,
        hang_s: float = 300.0,
        load_s: float = 600.0,
    ) -> Self:
        """Start vLLM on a folder of a transformers model.

        Args:
            kv_cache_gib: size of the KV cache, on a CPU; on a GPU it is what gpu_memory_utilization leaves.
            enforce_eager: no compilation, no CUDA graphs; on a CPU always so.
            prefix_caching: prompts that begin alike are read once by each version of the weights.
            policy_version: version of the weights in model_path.
            adapter: serve an adapter of this kind beside them, of zeros at first; `apply` then takes adapters.
            hang_s: an engine that does not answer for so long is killed.
            load_s: an engine that needs longer to load weights is killed.

        Raises:
            UserError: no model there, or vLLM is missing or too old, or refuses the model or a setting.
            EngineDied: its process did not start; vLLM's own message is on standard error.

        """
        require_vllm()
        folder = model_folder(model_path)
        read_tensors(folder)
        settings: dict[str, Any] = {
            "model": str(folder),
            "max_model_len": max_model_len,
            "max_num_seqs": max_num_seqs,
            "dtype": dtype,
            "seed": seed,
            "tensor_parallel_size": tensor_parallel_size,
            "gpu_memory_utilization": gpu_memory_utilization,
            "enforce_eager": enforce_eager or on_cpu(),
            "enable_prefix_caching": prefix_caching,
            "kv_cache_memory_bytes": int(kv_cache_gib * 2**30) if on_cpu() else None,
            **({} if adapter is None else adapter.settings()),
        }
        forked = prepare_environment()
        await asyncio.to_thread(import_vllm)
        try:
            llm = start_llm(settings, forked)
        except RuntimeError as error:
            raise EngineDied(f"vLLM did not start: {error}") from error
        changing = ("locate_weights", ()) if adapter is None else ("serve_adapter", (adapter.rank, adapter.alpha))
        found = set.intersection(*map(set, await llm.collective_rpc(changing[0], args=changing[1])))
        engine = cls(
            llm, folder, max_num_seqs=max_num_seqs, policy_version=policy_version, hang_s=hang_s, load_s=load_s,
            in_place=found, adapter=adapter,
        )  # fmt: skip
        await llm.update_weight_version(str(policy_version))
        gc.collect()
        gc.freeze()  # else each full collection visits the million objects that vLLM's import made: 0.4 s
        return engine

    # -- sampling -----------------------------------------------------------------------------------------------------

    async def generate(
        self,
        prompt_token_ids: Sequence[int] | NDArray[np.int32],
        *,
        request_id: str,
        max_tokens: int,
        temperature: float = 1.0,
        top_p: float = 1.0,
        top_k: int = 0,
        seed: int | None = None,
        stop_token_ids: Sequence[int] = (),
    ) -> Completion:
        """Sample one completion of a prompt [P].

        Args:
            top_k: 0 keeps the whole vocabulary.
            stop_token_ids: end the completion, besides the end tokens of the model's generation_config.json.

        Raises:
            Refused: vLLM cannot use the prompt or a parameter.
            EngineDied: the engine is gone, and with it all that was in flight.

        """
        from vllm.exceptions import VLLMClientError

        queued_at = time.monotonic()
        try:
            params = _params(max_tokens, temperature, top_p, top_k, seed, tuple(stop_token_ids))
            async with self._slots:
                started_at = time.monotonic()
                output = await self._sample(np.asarray(prompt_token_ids).tolist(), params, request_id)
        except (VLLMClientError, ValueError, TypeError, OverflowError) as error:
            raise Refused(f"vLLM refuses request {request_id}: {error}") from error
        return completion_of(output, queued_s=started_at - queued_at, generated_s=time.monotonic() - started_at)

    async def _sample(self, prompt: list[int], params: "SamplingParams", request_id: str) -> "RequestOutput":
        """The final output of a request, the only one that is asked for."""
        from vllm.inputs.engine import tokens_input
        from vllm.v1.engine.exceptions import EngineDeadError, EngineGenerateError

        self.require_alive()
        self._running.add(request_id)
        try:
            salted = tokens_input(prompt, cache_salt=str(self.policy_version))
            async for output in self._llm.generate(salted, params, request_id, lora_request=self._lora):
                if output.finished:
                    return output
            raise EngineDied(f"vLLM ended request {request_id} without an output")
        except (EngineDeadError, EngineGenerateError) as error:
            raise self._died(error) from error
        finally:
            self._running.discard(request_id)

    async def warm_up(self, prompt_tokens: int = WARM_UP_TOKENS) -> float:
        """Sample completions for nobody, so that kernels are compiled before jobs wait; returns the seconds it took."""
        started_at = time.monotonic()
        for size in sorted({1, 2, min(32, self._max_num_seqs), self._max_num_seqs}):
            await asyncio.gather(
                *(
                    self.generate([1] * prompt_tokens, request_id=f"warm-up/{size}/{row}", max_tokens=3)
                    for row in range(size)
                )
            )
        return time.monotonic() - started_at

    # -- weights ------------------------------------------------------------------------------------------------------

    @property
    def patchable(self) -> bool:
        """Whether some elements of the weights can be changed; if not, only all of them together."""
        return self._adapter is None and self._in_place >= self._tensors.keys()

    async def swap(self, weights_dir: str | Path, version: int) -> float:
        """Sample every token from now on from other weights; returns the seconds for which sampling was paused.

        Sequences in flight continue. The caller has checked the digest.

        Raises:
            UserError: the weights are missing, broken or of another model, or the version is older than the one
                served; the engine keeps its weights.
            EngineDied: loading broke off, so that it is unknown what is loaded.

        """
        if self._adapter is not None:
            raise UserError(f"{str(weights_dir)!r} holds a whole model; this engine serves an adapter")
        offered = await asyncio.to_thread(read_tensors, weights_dir)
        check_fit(self._tensors, offered, weights_dir)
        files = [str(file) for file in Path(weights_dir).glob("*.safetensors")]
        return await self._replace(version, str(weights_dir), lambda: self._write(files, version))

    async def apply(self, patches: Sequence[TensorPatch], version: int) -> float:
        """Sample every token from now on from patched weights, or from another whole adapter; returns the seconds of pause.

        Sequences in flight continue. The caller has checked the digest of what the patches make of the weights served.

        Raises:
            UserError: a patch does not fit the model, or is not of the whole model where this is not `patchable`, or the
                version is older than the one served; the engine keeps its weights.
            EngineDied: writing broke off, so that it is unknown what is served.

        """
        await asyncio.to_thread(self._check, patches)
        with contextlib.ExitStack() as stack:
            path = await asyncio.to_thread(stack.enter_context, in_memory(patches))
            return await self._replace(version, "patches", lambda: self._write([path], version))

    def _check(self, patches: Sequence[TensorPatch]) -> None:
        if self._adapter is not None:
            check_adapter(self._adapter, self._tensors, self._in_place, patches)
        else:
            check_in_place(self._tensors, self._in_place, patches)

    async def _replace(self, version: int, source: str, load: Callable[[], Awaitable[float]]) -> float:
        """Load other weights, alone; a load that breaks off is the end of the engine."""
        async with self._swapping:
            if version < self.policy_version:
                raise UserError(f"policy version is {version}; want {self.policy_version} or later: versions only grow")
            self.require_alive()
            try:
                async with asyncio.timeout(self._load_s):
                    paused_s = await load()
            except BaseException as error:
                self._fault = f"loading version {version} from {source} broke off: {error!r}"
                kill(self._llm)  # what is in flight must not go on with half of the weights
                raise self._died(error) from error
            self.policy_version = version
            return paused_s

    async def _write(self, files: list[str], version: int) -> float:
        """Write tensors in place: they are prepared while sampling goes on. If they cannot be, reload them all."""
        if not self.patchable and self._adapter is None:
            return await self._switch(version, "reload_files", {"files": files})
        prepare = "prepare_weights" if self._adapter is None else "prepare_adapter"
        await self._llm.collective_rpc(prepare, args=(files,))
        while not all(await self._llm.collective_rpc("weights_prepared")):
            await asyncio.sleep(POLL_S)
        return await self._switch(version, "switch_weights", {})

    async def _switch(self, version: int, method: str, arguments: dict[str, Any]) -> float:
        """Between two steps, call a method of the workers that gives them other weights, and label with the version."""
        core: Any = self._llm.engine_core
        paused_s: float = await core.call_utility_async("switch_weights", str(version), method, arguments)
        return paused_s

    # -- life and death -----------------------------------------------------------------------------------------------

    @property
    def alive(self) -> bool:
        """Whether the engine can sample."""
        return self._fault is None and not self._llm.errored

    def require_alive(self) -> None:
        """Raise EngineDied unless the engine can sample."""
        if not self.alive:
            raise EngineDied(f"the engine cannot be used any more: {self._fault or 'vLLM is gone'}")

    async def close(self) -> None:
        """Abort what is in flight, let what waits for a slot fail, and end the process; a second call does nothing."""
        in_flight = list(self._running) if self.alive else []
        self._fault = self._fault or "it was closed"
        self._hang_monitor.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._hang_monitor
        if in_flight:
            await self._llm.abort(in_flight)
        if (handler := self._llm.output_handler) is not None:
            handler.cancel()  # it would log the engine's end as an error
        await asyncio.to_thread(self._llm.shutdown, 5.0)

    def _died(self, error: BaseException) -> EngineDied:
        self._fault = self._fault or f"vLLM's process is gone ({error})"
        return EngineDied(f"the engine cannot be used any more: {self._fault}")

    async def _kill_if_silent(self, hang_s: float) -> None:
        """Kill an engine that no longer answers (stopped, or stuck in a step), so that all that waits for it fails."""
        while True:
            await asyncio.sleep(PING_EVERY_S)
            try:
                async with self._swapping:
                    await asyncio.wait_for(self._llm.get_weight_version(), hang_s)
            except TimeoutError:
                log.error("engine hangs silent_s=%.0f", hang_s)
                self._died(TimeoutError(f"no answer for {hang_s:.0f} s"))
                kill(self._llm)
                return
            except Exception as error:
                log.error("engine died error=%s", self._died(error))
                return


@lru_cache(maxsize=64)
def _params(
    max_tokens: int, temperature: float, top_p: float, top_k: int, seed: int | None, stop_token_ids: tuple[int, ...]
) -> "SamplingParams":
    """One for all requests that are alike: making it, and the deep copy that vLLM would make, cost a fifth of a request."""
    from vllm.sampling_params import RequestOutputKind, SamplingParams

    return SamplingParams(
        max_tokens=max_tokens,
        temperature=temperature,
        top_p=top_p,
        top_k=top_k,
        seed=seed,
        stop_token_ids=list(stop_token_ids),
        logprobs=0,  # of the sampled token alone
        flat_logprobs=True,
        detokenize=False,
        output_kind=RequestOutputKind.FINAL_ONLY,
        skip_clone=True,  # vLLM adds the model's end tokens to a shallow copy, the same ones each time
    )


def completion_of(output: "RequestOutput", *, queued_s: float, generated_s: float) -> Completion:
    """A finished request's completion, checked to have one logprob and one version for each token.

    Raises:
        EngineDied: it has not, so nothing that this vLLM says of its tokens can be trusted.

    """
    completion = output.outputs[0]
    tokens = np.asarray(completion.token_ids, np.int32)
    logprobs = np.asarray(cast("Any", completion.logprobs).logprobs if tokens.size else [], np.float32)
    versions = [(span.version, span.start, span.end) for span in completion.weight_versions or ()]
    try:
        spans = version_spans(versions, tokens.size)
    except ValueError as error:
        raise EngineDied(f"vLLM labels the tokens of {output.request_id} wrongly: {error}") from error
    if logprobs.shape != tokens.shape:
        raise EngineDied(f"vLLM gave {logprobs.size} logprobs for the {tokens.size} tokens of {output.request_id}")
    reason = completion.finish_reason
    return Completion(
        token_ids=tokens,
        behavior_logprobs=logprobs,
        spans=spans,
        finish_reason=cast("FinishReason", reason if reason in ("stop", "length", "abort") else "abort"),
        queued_s=queued_s,
        generated_s=generated_s,
        num_cached_tokens=output.num_cached_tokens or 0,
    )
