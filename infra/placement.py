"""Decides which command, environment and GPUs each worker gets. Config in, worker specs out; starts nothing."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from infra.gpu_plan import GpuPlan
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

    def __init__(self, config: Config, recipe: Path, overrides: Sequence[str], gpus: GpuPlan | None = None) -> None:
        self._config = config
        self._arguments = (str(recipe), *overrides)
        self._gpus = gpus or GpuPlan()

    def initial(self) -> list[WorkerSpec]:
        """The workers that a run starts with, in order of starting: what takes longest to start comes first."""
        producers = len(self._gpus.producers) if self._gpus.has_gpus else self._config.producer.replicas
        roles = ["producer"] * producers + ["learner", "allocator"]
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
            command=(sys.executable, "-m", PACKAGES[role], *self._arguments, *self._share(role)),
            environment=self._environment(role, index),
            log=self._config.run.path / "logs" / f"{role}-{index}.log",
        )

    def _share(self, role: str) -> tuple[str, ...]:
        """The engine's share of a card that it does not have for itself."""
        if role != "producer" or self._gpus.utilization is None:
            return ()
        return (f"--producer.gpu_memory_utilization={self._gpus.utilization:g}",)

    def _environment(self, role: str, index: int) -> dict[str, str]:
        table = getattr(self._config, role, None)
        environment = {name: str(getattr(table, "threads", 1)) for name in THREAD_VARIABLES}
        environment |= {WORKER_VARIABLE: f"{role}-{index}", "PYTHONUNBUFFERED": "1", "TOKENIZERS_PARALLELISM": "false"}
        if self._config.up.metrics_port:
            environment[METRICS_VARIABLE] = str(self._config.up.metrics_port + self._port_offset(role, index))
        if self._gpus.has_gpus:
            environment["CUDA_VISIBLE_DEVICES"] = ",".join(self._gpus_of(role, index))
        return environment

    def _port_offset(self, role: str, index: int) -> int:
        singles = [name for name in PACKAGES if name not in SCALABLE]
        if role in SCALABLE:
            return len(singles) + len(SCALABLE) * index + SCALABLE.index(role)
        return singles.index(role)

    def _gpus_of(self, role: str, index: int) -> Sequence[str]:
        """What a worker sees of the GPUs; the roles that only use the CPU see none."""
        if role == "learner":
            return self._gpus.learner
        if role != "producer":
            return ()
        if index >= len(self._gpus.producers):
            raise UserError(
                f"there is no GPU for producer-{index}: this run has {len(self._gpus.producers)} producers on GPUs, and no more"
            )
        return self._gpus.producers[index]
