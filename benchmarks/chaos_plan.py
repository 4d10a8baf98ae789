"""Plans blows: which kinds, at which worker or broker node, for how long, in which order. Pure: a seed in, a list out.

How many there are of each kind does not depend on the seed, only their order, times and lengths do.
"""

import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle, islice
from typing import Literal

Kind = Literal["kill", "stop", "hang", "cut", "clock", "disk"]

WEIGHTS: Mapping[tuple[Kind, str], float] = {
    ("kill", "worker"): 54,
    ("kill", "node"): 6,
    ("stop", "worker"): 10,
    ("stop", "node"): 3,
    ("hang", "worker"): 5,
    ("hang", "node"): 1,
    ("cut", "worker"): 10,
    ("cut", "node"): 3,
    ("clock", "worker"): 6,
    ("disk", "worker"): 1,
    ("disk", "node"): 1,
}
"""(Kind, what it strikes) to its share of the blows, in hundredths."""
SECONDS: Mapping[Kind, tuple[float, float]] = {
    "kill": (0, 0),
    "stop": (0.5, 5),
    "hang": (90, 90),
    "cut": (0, 5),
    "clock": (0, 0),
    "disk": (3, 10),
}
"""How long it lasts. `hang` is to be noticed before that; a clock stays as it is set."""
SHIFTS_S = (-7200, -3600, -300, -5, 5, 300, 3600, 7200)


@dataclass(frozen=True, slots=True, kw_only=True)
class Blow:
    """One thing that goes wrong.

    kill: SIGKILL. stop: SIGSTOP, and SIGCONT after `seconds`. hang: SIGSTOP for good. cut: all its connections to the
    broker (of a node: all its connections) are closed, again and again for `seconds`. clock: its wall clock jumps to
    `shift_s` from the true time. disk: what it writes to is full for `seconds`.
    """

    kind: Kind
    target: str
    """A worker, e.g. `learner-0`, `engine` (the producer's child), or `node-2`."""
    seconds: float
    shift_s: int = 0

    @property
    def on_node(self) -> bool:
        """Whether it strikes the broker."""
        return self.target.startswith("node-")


def plan(num_blows: int, seed: int, targets: Mapping[tuple[Kind, str], Sequence[str]]) -> list[Blow]:
    """The blows in their order.

    Args:
        num_blows: of all kinds together.
        seed: of their order and lengths.
        targets: (kind, `worker` or `node`) to what it can strike here; a kind without any is left out.

    """
    rng = random.Random(seed)
    weights = {key: WEIGHTS[key] for key in WEIGHTS if targets.get(key)}
    blows = []
    for key, count in shares(num_blows, weights).items():
        kind = key[0]
        victims = rng.sample(list(targets[key]), len(targets[key]))
        blows += [
            Blow(
                kind=kind,
                target=target,
                seconds=rng.uniform(*SECONDS[kind]),
                shift_s=rng.choice(SHIFTS_S) if kind == "clock" else 0,
            )
            for target in islice(cycle(victims), count)
        ]
    rng.shuffle(blows)
    return blows


def shares(total: int, weights: Mapping[tuple[Kind, str], float]) -> dict[tuple[Kind, str], int]:
    """Divide a number by weights, to the last one: the largest remainders get what is left (Hamilton's method)."""
    whole = sum(weights.values())
    exact = {key: total * weight / whole for key, weight in weights.items()}
    counts = {key: int(value) for key, value in exact.items()}
    by_remainder = sorted(exact, key=lambda key: counts[key] - exact[key])
    for key in by_remainder[: total - sum(counts.values())]:
        counts[key] += 1
    return counts


@dataclass(frozen=True, slots=True)
class Span:
    """A stretch of time, and what was lost in it."""

    start_s: float
    end_s: float
    amount: float


def attribute(losses: Iterable[Span], under_way: Sequence[tuple[float, float]]) -> tuple[list[float], float]:
    """Share losses among the blows under way meanwhile, by how long each was; (of each blow, of none).

    Args:
        losses: when something was lost, and how much.
        under_way: from when to when each blow was.

    """
    of_each, of_none = [0.0] * len(under_way), 0.0
    for loss in losses:
        overlaps = {
            i: overlap
            for i, (start, end) in enumerate(under_way)
            if (overlap := min(end, loss.end_s) - max(start, loss.start_s)) > 0
        }
        whole = sum(overlaps.values())
        if not whole:
            of_none += loss.amount
        for i, overlap in overlaps.items():
            of_each[i] += loss.amount * overlap / whole
    return of_each, of_none
