"""Decides which command, environment and hardware each worker gets. Config in, worker specs out; starts nothing."""

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from stream.config import Config
from stream.errors import UserError
from stream.launch import METRICS_VARIABLE, WORKER_VARIABLE

PACKAGES = {
    "allocator": "allocator",
    "producer": "producers",
    "verifier": "verifier",
    "learner": "learner",
    "evaluator": "evaluator",
    "tracker": "tracker",
}
"""Role to the package that `python -m` runs."""
SCALABLE = ("producer", "verifier")
"""Roles that may have any number of workers; every other role has one."""
THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS")


@dataclass(frozen=True, slots=True)
class WorkerSpec:
    """How one worker is started."""

    role: str
    index: int
    command: tuple[str, ...]
    environment: dict[str, str]
    log: Path

    @property
    def name(self) -> str:
        """Role and index, e.g. `producer-0`."""
        return f"{self.role}-{self.index}"


class Placement:
    """Hands out specs; the same role and index always get the same."""

    def __init__(self, config: Config, recipe: Path, overrides: Sequence[str], gpus: Sequence[str] = ()) -> None:
        self._config = config
        self._arguments = (str(recipe), *overrides)
        self._gpus = list(gpus)

    def initial(self) -> list[WorkerSpec]:
        """The workers that a run starts with, in order of starting: what takes longest to start comes first."""
        roles = ["producer"] * self._config.producer.replicas + ["learner", "allocator"]
        roles += ["verifier"] * self._config.verifier.replicas
        if self._config.evaluator.enabled:
            roles.append("evaluator")
        if self._config.tracking.to:
            roles.append("tracker")
        return [self.spec(role, roles[:position].count(role)) for position, role in enumerate(roles)]

    def spec(self, role: str, index: int) -> WorkerSpec:
        """One worker."""
        return WorkerSpec(
            role=role,
            index=index,
            command=(sys.executable, "-m", PACKAGES[role], *self._arguments),
            environment=self._environment(role, index),
            log=self._config.run.path / "logs" / f"{role}-{index}.log",
        )

    def _environment(self, role: str, index: int) -> dict[str, str]:
        table = getattr(self._config, role, None)
        environment = {name: str(getattr(table, "threads", 1)) for name in THREAD_VARIABLES}
        environment |= {WORKER_VARIABLE: f"{role}-{index}", "PYTHONUNBUFFERED": "1", "TOKENIZERS_PARALLELISM": "false"}
        if self._config.up.metrics_port:
            environment[METRICS_VARIABLE] = str(self._config.up.metrics_port + self._port_offset(role, index))
        if self._gpus:
            environment["CUDA_VISIBLE_DEVICES"] = ",".join(self._gpus_of(role, index))
        return environment

    def _port_offset(self, role: str, index: int) -> int:
        singles = [name for name in PACKAGES if name not in SCALABLE]
        if role in SCALABLE:
            return len(singles) + len(SCALABLE) * index + SCALABLE.index(role)
        return singles.index(role)

    def _gpus_of(self, role: str, index: int) -> list[str]:
        """The learner has the first GPU, each producer its own next ones; the other roles see none."""
        if role == "learner":
            return self._gpus[:1]
        if role != "producer":
            return []
        size = self._config.producer.tensor_parallel_size
        own = self._gpus[1 + index * size : 1 + (index + 1) * size]
        if len(own) < size:
            raise UserError(
                f"producer-{index} needs {size} GPUs beside the learner's one; this machine shows {len(self._gpus)}: "
                "lower producer.replicas or producer.tensor_parallel_size"
            )
        return own


def visible_gpus() -> list[str]:
    """The GPUs that workers may use: CUDA_VISIBLE_DEVICES, or all that nvidia-smi lists; [] without any."""
    given = os.environ.get("CUDA_VISIBLE_DEVICES")
    if given is not None:
        return [name.strip() for name in given.split(",") if name.strip()]
    smi = shutil.which("nvidia-smi")
    if smi is None:
        return []
    listed = subprocess.run(
        [smi, "--query-gpu=index", "--format=csv,noheader"], capture_output=True, text=True, timeout=30, check=False
    )
    return listed.stdout.split() if listed.returncode == 0 else []
