"""Deals blows to a run that is up, and notes when what was struck is back.

    planned --target is at work--> strike --seconds are over--> heal --it answers again--> back

A worker is struck only while it is at work and no other blow at it is under way; a broker node only while all nodes hold all
replicas in sync, so that never more than one is missing; both only once the run has made an update since they were back from
the blow before. Blows whose target is not ready let others pass.
"""

import signal
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from benchmarks import chaos_machine as machine
from benchmarks.chaos_plan import Blow
from benchmarks.chaos_up import CLOCKS_FOLDER
from benchmarks.chaos_world import World

CUT_AGAIN_S = 0.5
"""A connection that is made again is closed again this soon."""
LOST_S = 300.0
"""What is not back by then is given up."""
DISKS = {"learner-0": "checkpoints", "node-1": "kafka/node-1"}
"""What writes to a small file system of its own, in the run's folder."""


@dataclass(slots=True)
class Struck:
    """A blow that was dealt. Times are of the monotonic clock."""

    blow: Blow
    pid: int
    """The process that was struck."""
    worker_pid: int | None
    """That of the worker to which it belongs; None of a node."""
    struck_s: float
    healed_s: float | None = None
    back_s: float | None = None
    cut_s: float = 0.0
    """When connections were closed last."""
    fault: str = ""
    """What the run did not do as it should have."""


class Striker:
    """Deals blows; `step` is called again and again."""

    def __init__(self, world: World, blows: Sequence[Blow], every_s: float, tell: Callable[[str], None]) -> None:
        self._world = world
        self._waiting = list(blows)
        self._every_s = every_s
        self._next_s = time.monotonic()
        self._tell = tell
        self.dealt: list[Struck] = []

    @property
    def over(self) -> bool:
        """Whether all blows are dealt, and all that was struck is back."""
        return not self._waiting and not any(True for _ in self._under_way())

    def step(self) -> None:
        """Heal what is due, note what is back, strike if it is time."""
        for struck in list(self._under_way()):
            self._advance(struck)
        self._world.nodes.is_struck = any(struck.blow.on_node for struck in self._under_way())
        now = time.monotonic()
        if now < self._next_s or not self._waiting:
            return
        for position, blow in enumerate(self._waiting):
            pid = self._ready(blow)
            if pid is not None:
                del self._waiting[position]
                self._strike(blow, pid)
                self._next_s = max(self._next_s + self._every_s, now)
                return

    def _under_way(self) -> Iterator[Struck]:
        return (struck for struck in self.dealt if struck.back_s is None)

    def _ready(self, blow: Blow) -> int | None:
        """The process to strike; None while it, or what else a blow needs, is not there."""
        others = [struck.blow for struck in self._under_way()]
        if any(worker_of(other.target) == worker_of(blow.target) for other in others):
            return None
        newest_s, worker = self._world.steps[-1].at_s, worker_of(blow.target)
        before = (struck.back_s for struck in reversed(self.dealt) if worker_of(struck.blow.target) == worker)
        if newest_s < (next(before, None) or 0.0):
            return None
        if not blow.on_node:
            return self._world.engine_pid() if blow.target == "engine" else self._world.pid(blow.target)
        if any(other.on_node for other in others) or not self._world.nodes.whole():
            return None
        return self._world.nodes.pid(node_of(blow))

    def _strike(self, blow: Blow, pid: int) -> None:
        if blow.on_node:
            self._world.nodes.is_struck = True
        worker_pid = None if blow.on_node else self._world.pid(worker_of(blow.target))
        struck = Struck(blow, pid, worker_pid, time.monotonic())
        match blow.kind:
            case "kill":
                machine.send_signal(pid, signal.SIGKILL)
            case "stop" | "hang":
                machine.send_signal(pid, signal.SIGSTOP)
            case "cut":
                self._cut(struck)
            case "clock":
                machine.set_clock(self._world.folder / CLOCKS_FOLDER / blow.target, blow.shift_s)
            case "disk":
                machine.fill(self._disk(blow))
        self.dealt.append(struck)
        self._tell(f"blow {len(self.dealt)}: {blow.kind} {blow.target} at update {self._world.step}")

    def _advance(self, struck: Struck) -> None:
        now, blow = time.monotonic(), struck.blow
        if struck.healed_s is None:
            if blow.kind == "hang" and not alive(struck.pid):
                struck.healed_s = now  # its supervisor has noticed, and killed it
            elif now >= struck.struck_s + blow.seconds:
                self._heal(struck)
            elif blow.kind == "cut" and now >= struck.cut_s + CUT_AGAIN_S:
                self._cut(struck)
        elif self._is_back(struck, struck.healed_s):
            struck.back_s = now
        elif now > struck.healed_s + LOST_S:
            struck.fault, struck.back_s = f"{blow.target} was not back {LOST_S:.0f} s after {blow.kind}", now

    def _heal(self, struck: Struck) -> None:
        blow = struck.blow
        if blow.kind in ("stop", "hang"):
            machine.send_signal(struck.pid, signal.SIGCONT)
        if blow.kind == "hang":
            struck.fault = f"{blow.target} hung for {blow.seconds:.0f} s, and nobody noticed"
        if blow.kind == "disk":
            machine.free(self._disk(blow))
        struck.healed_s = time.monotonic()

    def _is_back(self, struck: Struck, healed_s: float) -> bool:
        """Whether what was struck answers since it was healed, as a new process where the old one was killed."""
        blow = struck.blow
        if blow.on_node:
            pid = self._world.nodes.pid(node_of(blow))
            return pid is not None and (blow.kind != "kill" or pid != struck.pid) and self._world.nodes.whole(healed_s)
        worker = worker_of(blow.target)
        beat, pid = self._world.beats[worker], self._world.pid(worker)
        killed = blow.kind in ("kill", "hang") and not struck.fault
        return pid is not None and beat.heard_s > healed_s and (not killed or pid != struck.worker_pid)

    def _cut(self, struck: Struck) -> None:
        blow, ports = struck.blow, self._world.nodes.ports
        struck.cut_s = time.monotonic()
        if blow.on_node:
            machine.cut(any_ports=ports[node_of(blow)])
        else:
            machine.cut(machine.ports_to(struck.pid, [broker for broker, _ in ports.values()]))

    def _disk(self, blow: Blow) -> Path:
        return self._world.folder / DISKS[blow.target]

    def heal_all(self) -> None:
        """Undo what is under way, as the run is over."""
        for struck in self._under_way():
            if struck.healed_s is None:
                self._heal(struck)


def worker_of(target: str) -> str:
    """The worker that a blow is noticed by: an engine is a producer's."""
    return "producer-0" if target == "engine" else target


def node_of(blow: Blow) -> int:
    """Number of the node that it strikes."""
    return int(blow.target.removeprefix("node-"))


def alive(pid: int) -> bool:
    """Whether a process is there, and no zombie."""
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.Error:
        return False
