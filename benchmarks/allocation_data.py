"""Reads how real runs were allocated from their topics into a small JSON file for the figures.

    python -m benchmarks.allocation_data --dir runs --out docs/figures/allocation_runs.json uniform-0 paper-0 bayes-0 ...

Written for each run: accuracy by rollouts spent, both gradient ratios by stretch of the run and as a whole, what the
groups held, and how many groups got how many rollouts.
"""

import argparse
import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from replay.accuracy import HELDOUT, POOL
from replay.load import RunData, read_run
from replay.series import bin_label
from replay.source import Location, open_run
from replay.tables import rollouts_by_version
from stream.console import make_console
from stream.messages import GroupEnd
from stream.ratios import gradient_ratios, has_gradient

STRETCHES = 20
"""Equal parts of a run's updates that ratios are given for."""
QUARTERS = 4
"""Equal parts of a run's updates that the distribution of rollouts is given for."""


def history_of(data: RunData) -> dict[str, Any]:
    """What the figures show of a run."""
    steps = len(data.lineage.steps)
    spent = rollouts_by_version(data.lineage.surviving)
    by_step = [spent[step.version] for step in data.lineage.steps]

    def part(first: int, last: int) -> list[GroupEnd]:
        return [end for update in data.lineage.steps[first:last] for end in update.groups]

    stretches: dict[str, list[float]] = {key: [] for key in ("rollouts", "samples", "prompts", "solved", "failed")}
    for k in range(STRETCHES):
        ended = part(k * steps // STRETCHES, (k + 1) * steps // STRETCHES)
        ratios = gradient_ratios(ended)
        same = [end for end in ended if end.num_graded and not has_gradient(end)]
        solved = sum(end.reward_sum > 0 for end in same)
        stretches["rollouts"].append(by_step[(k + 1) * steps // STRETCHES - 1])
        stretches["samples"].append(_round(ratios.samples))
        stretches["prompts"].append(_round(ratios.prompts))
        stretches["solved"].append(_round(solved / max(len(ended), 1)))
        stretches["failed"].append(_round((len(same) - solved) / max(len(ended), 1)))
    sizes, by_belief = [], []
    for k in range(QUARTERS):
        inside = [data.groups[end.group_id] for end in part(k * steps // QUARTERS, (k + 1) * steps // QUARTERS)]
        counts = Counter(group.num_rollouts for group in inside)
        sizes.append({str(size): counts[size] for size in sorted(counts)})
        beliefs: dict[str, list[int]] = {}
        for group in inside:
            beliefs.setdefault(bin_label(group.success_rate, group.num_observed), []).append(group.num_rollouts)
        by_belief.append({label: [len(n), _round(float(np.mean(n)))] for label, n in sorted(beliefs.items())})
    whole = gradient_ratios(part(0, steps))
    return {
        "modes": sorted({group.mode for group in data.groups.values() if group.train}),
        "updates": steps,
        "rollouts": by_step[-1],
        "samples": _round(whole.samples),
        "prompts": _round(whole.prompts),
        "mixed_groups": sum(map(has_gradient, part(0, steps))),
        "groups": len(part(0, steps)),
        HELDOUT: _curve(data, HELDOUT, spent),
        POOL: _curve(data, POOL, spent),
        "stretches": stretches,
        "sizes": sizes,
        "by_belief": by_belief,
    }


def _curve(data: RunData, name: str, spent: dict[int, int]) -> list[list[float]]:
    """(rollouts spent, accuracy) of every surviving evaluation of a set."""
    accuracy = {e.policy_version: e.accuracy for e in data.surviving_evaluations if e.name == name}
    return [[spent[version], round(accuracy[version], 4)] for version in sorted(accuracy)]


def _round(value: float | None) -> float:
    return round(value, 4) if value is not None else float("nan")


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", metavar="RUN")
    parser.add_argument("--dir", type=Path, default=Path("runs"), help="folder that holds the runs")
    parser.add_argument(
        "--out", type=Path, required=True, help="JSON file; runs that it has already are not read again"
    )
    options = parser.parse_args()
    console = make_console()
    histories: dict[str, Any] = json.loads(options.out.read_text()) if options.out.exists() else {}
    for run in options.runs:
        if run in histories:
            continue
        with open_run(Location(options.dir), run) as (broker, name, _):
            histories[run] = history_of(read_run(broker, name))
        last = histories[run][HELDOUT][-1]
        console.print(f"{run}: samples {histories[run]['samples']} prompts {histories[run]['prompts']} held-out {last}")
        lines = ",\n".join(f"{json.dumps(key)}: {json.dumps(histories[key])}" for key in sorted(histories))
        options.out.write_text("{\n" + lines + "\n}\n")


if __name__ == "__main__":
    main()
