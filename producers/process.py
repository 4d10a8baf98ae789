"""Sets up and starts vLLM's engine process, which ends with ours. Imports neither vLLM nor torch itself.

Measured with a 0.8 M-parameter model, 2 cores, seconds until the engine is ready / until the first rollout is there:
    vLLM's defaults (3 processes, a spawned worker, inductor)   39 / 59, of which 20 compile one sampler kernel with g++
    two processes, no inductor                                  22 / 22
    two processes, no inductor, forked                          13 / 13, of which 10 import vLLM
"""

import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from typing import Any

QUIET = {
    "VLLM_LOGGING_LEVEL": "WARNING",
    "VLLM_LOGGING_STREAM": "ext://sys.stderr",
    "VLLM_NO_USAGE_STATS": "1",
    "DO_NOT_TRACK": "1",
    "HF_HUB_OFFLINE": "1",
    "TOKENIZERS_PARALLELISM": "false",
}
"""Environment of the engine, where a variable is not set: it logs little, and sends nothing anywhere."""

CPU = {
    # The worker runs in the engine's process: one import of vLLM less, and no message between processes at every step.
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
    # The sampler's one compiled function (ranks of tokens, which are not read) would need g++ and 20 s.
    "TORCHDYNAMO_DISABLE": "1",
    # Several producers on one machine must not all be bound to its first core.
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    "OMP_NUM_THREADS": "1",
}
"""The same for machines without a GPU."""


_original_body: Callable[..., None] | None = None
"""vLLM's body of the engine's process, while it is replaced by ours."""


def on_cpu() -> bool:
    """Whether the vLLM that is installed is the one for CPUs."""
    for name in ("vllm-cpu", "vllm"):
        try:
            return "cpu" in f"{name} {version(name)}"
        except PackageNotFoundError:
            continue
    return False


def prepare_environment() -> bool:
    """Set what vLLM reads from the environment; to be called before it is imported.

    Returns:
        Whether the engine may be forked: only on a CPU, and only from a process that has never run torch, whose thread
        pool does not survive a fork.

    """
    for name, value in (QUIET | CPU if on_cpu() else QUIET).items():
        os.environ.setdefault(name, value)
    return on_cpu() and "torch" not in sys.modules


@contextmanager
def starting(forked: bool) -> Iterator[None]:
    """Within the block an engine's process is started by fork if `forked`, and ends when this process ends.

    vLLM alone leaves it behind when its parent is killed: it would wait for requests for ever, with its memory.
    """
    from vllm.v1.engine.core import EngineCoreProc

    global _original_body
    _original_body = EngineCoreProc.run_engine_core
    EngineCoreProc.run_engine_core = staticmethod(run_engine_core)
    if forked:
        os.environ["VLLM_WORKER_MULTIPROC_METHOD"] = "fork"  # vLLM's CPU platform has just set it to spawn
    try:
        yield
    finally:
        EngineCoreProc.run_engine_core = staticmethod(_original_body)
        _original_body = None


@contextmanager
def default_signals() -> Iterator[None]:
    """Within the block SIGTERM and SIGINT end the process at once. To be used on the main thread, while vLLM starts.

    Nothing is under way yet, and vLLM, which cannot be interrupted then, ends with this process.
    """
    before = {number: signal.signal(number, signal.SIG_DFL) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def run_engine_core(*args: Any, **kwargs: Any) -> None:
    """Body of the engine's process."""
    if threading.current_thread() is threading.main_thread():
        signal.set_wakeup_fd(-1)  # a forked engine shares its parent's, which would see the engine's signals
    threading.Thread(target=_end_with_parent, name="end-with-parent", daemon=True).start()
    from vllm.v1.engine.core import EngineCoreProc

    # A forked process sees the module as it was patched, a spawned one as vLLM wrote it.
    (_original_body or EngineCoreProc.run_engine_core)(*args, **kwargs)


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None, "the engine's process was started by multiprocessing"
    parent.join()
    os._exit(1)
