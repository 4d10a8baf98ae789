"""Divides what benchmarks.scale has measured into the cost of waiting, of a rollout, and of its tokens, role by role.

    python -m benchmarks.scale_costs FILE.json [--tokens-per-s 4000] [--answer-tokens 1000 4000]

Enters: cases on one broker, of several rates and lengths of answers. Leaves: CPU time as (processes x wait) + rate x (each +
tokens x per_token), by least squares with no cost below 0, relative to what was measured; the same for the bytes of a
rollout. From these, how many engines of a rate one core of each role serves: an extrapolation, and no measurement.
"""

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.table import Table

from stream.console import make_console

AT_ONCE = 1e9
"""Tokens a second at which a rollout takes no time."""
ROLES = ("producer", "kafka", "verifier", "allocator", "learner")


@dataclass(frozen=True)
class Cost:
    """What a role takes of a core."""

    wait_ms: float
    """Per second and process, whatever comes; of the broker, per process that asks it."""
    each_ms: float
    """Per rollout."""
    token_ms: float
    """Per thousand tokens."""
    error: float
    """Largest difference from a case, as a share of what was measured."""

    def rollout_ms(self, tokens: float) -> float:
        """Of a rollout of so many tokens."""
        return self.each_ms + self.token_ms * tokens / 1000

    def most_engines(self, tokens_per_s: float, tokens: float, *, each_waits: bool) -> float:
        """That one core can serve, whose rollouts have so many tokens; `each_waits` if the role waits once an engine."""
        work_ms = self.rollout_ms(tokens) * tokens_per_s / tokens
        return 1000 / (work_ms + self.wait_ms) if each_waits else (1000 - self.wait_ms) / work_ms


def least_squares(columns: NDArray[np.float64], wanted: NDArray[np.float64]) -> NDArray[np.float64]:
    """Factors >= 0 of the columns [N, K] that come nearest to `wanted` [N]: the best of all subsets' own factors."""
    best, least = np.zeros(columns.shape[1]), float(wanted @ wanted)
    for size in range(1, columns.shape[1] + 1):
        for chosen in map(list, combinations(range(columns.shape[1]), size)):
            factors = np.linalg.lstsq(columns[:, chosen], wanted, rcond=None)[0]
            rest = wanted - columns[:, chosen] @ factors
            if (factors >= 0).all() and rest @ rest < least:
                best, least = np.zeros(columns.shape[1]), float(rest @ rest)
                best[chosen] = factors
    return best


def num_waiting(role: str, case: Mapping[str, Any]) -> int:
    """Processes of a role; of the broker, those that ask it for records."""
    numbers = {"producer": case["producers"], "verifier": case["verifiers"], "allocator": 1, "learner": 1}
    return int(sum(numbers.values()) if role == "kafka" else numbers[role])


def mean_tokens(rows: Sequence[Mapping[str, Any]]) -> NDArray[np.float64]:
    """Of the rollouts of each case, by the bytes of their trajectories.

    Where engines have a rate, what has ended so far is shorter than what was asked for; where they have none, it is not.
    """
    sizes = np.array([row["found"]["kib"]["trajectories"] for row in rows])
    asked = np.array([float(row["case"]["answer_tokens"]) for row in rows])
    at_once = np.array([row["case"]["tokens_per_s"] >= AT_ONCE for row in rows])
    slope, start = np.polyfit(asked[at_once], sizes[at_once], 1)
    return np.where(at_once, asked, (sizes - start) / slope)


def cost_of(role: str, rows: Sequence[Mapping[str, Any]]) -> Cost:
    """One role's, from cases on one broker."""
    used = np.array([row["found"]["cpu_ms"].get(role, 0.0) * row["found"]["rollouts_per_s"] for row in rows])
    columns = np.array(
        [
            (
                num_waiting(role, row["case"]),
                row["found"]["rollouts_per_s"],
                row["found"]["rollouts_per_s"] * tokens / 1000,
            )
            for row, tokens in zip(rows, mean_tokens(rows), strict=True)
        ]
    )
    factors = least_squares(columns / used[:, None], np.ones(used.size))
    wait_ms, each_ms, token_ms = map(float, factors)
    return Cost(wait_ms, each_ms, token_ms, error=float(np.abs(columns @ factors / used - 1).max()))


def kib_of(rows: Sequence[Mapping[str, Any]]) -> tuple[float, float]:
    """KiB of a rollout on the log, one copy: of any, and per thousand tokens."""
    sizes = np.array([sum(row["found"]["kib"].values()) for row in rows])
    columns = np.array([(1.0, tokens / 1000) for tokens in mean_tokens(rows)])
    each, tokens = least_squares(columns / sizes[:, None], np.ones(sizes.size))
    return float(each), float(tokens)


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path, help="what benchmarks.scale has written")
    parser.add_argument("--tokens-per-s", type=float, default=4000.0, help="of an engine (default: %(default)g)")
    parser.add_argument("--answer-tokens", type=int, nargs="+", default=[1000, 4000], help="in the mean")
    options = parser.parse_args()
    rows = [row for row in json.loads(options.file.read_text())["rows"] if row["case"]["brokers"] == 1]
    table = Table(title=f"What a role takes of a core, from {len(rows)} cases")
    for column in ("role", "waits, ms/s", "rollout, ms", "1,000 tokens, ms", "off by at most"):
        table.add_column(column, justify="left" if column == "role" else "right")
    for tokens in options.answer_tokens:
        table.add_column(f"engines a core,\n{tokens:,} tokens", justify="right")
    for role in ROLES:
        cost = cost_of(role, rows)
        engines = [
            cost.most_engines(options.tokens_per_s, tokens, each_waits=role in ("producer", "kafka"))
            for tokens in options.answer_tokens
        ]
        table.add_row(
            role, f"{cost.wait_ms:.1f}", f"{cost.each_ms:.3f}", f"{cost.token_ms:.3f}", f"{cost.error:.0%}",
            *(f"{number:,.0f}" for number in engines),
        )  # fmt: skip
    console = make_console()
    console.print(table)
    each, per_thousand = kib_of(rows)
    console.print(f"A rollout is {each:.1f} KiB, and {per_thousand:.1f} KiB for each 1,000 tokens (one copy).")


if __name__ == "__main__":
    main()
