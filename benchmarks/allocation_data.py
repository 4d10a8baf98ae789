"""The allocation's history of real runs, from their topics to a small JSON file that the figures are drawn from.

    python benchmarks/allocation_data.py --dir runs --out docs/figures/allocation_runs.json uniform-0 paper-0 bayes-0 ...

Written for each run: accuracy by rollouts spent, both gradient ratios by stretch of the run and as a whole, what the
groups held, and how many groups got how many rollouts.
"""

import argparse
import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from replay.accuracy import HELDOUT, POOL
from replay.load import RunData, read_run
from replay.ratios import group_table, ratios_of
from replay.series import bin_label, update_of_groups
from replay.source import Place, open_run
from replay.tables import rollouts_by_version

STRETCHES = 20
"""Equal parts of a run's updates that ratios are given for."""
QUARTERS = 4
"""Equal parts of a run's updates that the distribution of rollouts is given for."""


def history_of(data: RunData) -> dict[str, Any]:
    """What the figures show of a run."""
    steps = len(data.lineage.steps)
    table = group_table(data.training, len(data.groups))
    update = update_of_groups(data)
    spent = rollouts_by_version(data.lineage.surviving)
    groups = {group.index: group for group in data.groups.values() if group.train}
    by_step = [spent[step.version] for step in data.lineage.steps]

    def part(first: int, last: int) -> np.ndarray:
        return np.flatnonzero((update >= first) & (update < last))

    stretches: dict[str, list[float]] = {key: [] for key in ("rollouts", "samples", "prompts", "solved", "failed")}
    for k in range(STRETCHES):
        ended = part(k * steps // STRETCHES, (k + 1) * steps // STRETCHES)
        ratios = ratios_of(table, ended)
        same = ~table.mixed[ended] & (table.num_graded[ended] > 0)
        rewarded = table.reward_sum[ended] > 0
        stretches["rollouts"].append(by_step[(k + 1) * steps // STRETCHES - 1])
        stretches["samples"].append(_round(ratios.samples))
        stretches["prompts"].append(_round(ratios.prompts))
        stretches["solved"].append(_round(float((same & rewarded).mean())))
        stretches["failed"].append(_round(float((same & ~rewarded).mean())))
    sizes, by_belief = [], []
    for k in range(QUARTERS):
        inside = [groups[i] for i in part(k * steps // QUARTERS, (k + 1) * steps // QUARTERS) if i in groups]
        counts = Counter(group.num_rollouts for group in inside)
        sizes.append({str(size): counts[size] for size in sorted(counts)})
        beliefs: dict[str, list[int]] = {}
        for group in inside:
            beliefs.setdefault(bin_label(group.success_rate, group.num_observed), []).append(group.num_rollouts)
        by_belief.append({label: [len(n), _round(float(np.mean(n)))] for label, n in sorted(beliefs.items())})
    whole = ratios_of(table, np.flatnonzero(update >= 0))
    return {
        "modes": sorted({group.mode for group in groups.values()}),
        "updates": steps,
        "rollouts": by_step[-1],
        "samples": _round(whole.samples),
        "prompts": _round(whole.prompts),
        "mixed_groups": int(table.mixed[update >= 0].sum()),
        "groups": int((update >= 0).sum()),
        HELDOUT: _curve(data, HELDOUT, spent),
        POOL: _curve(data, POOL, spent),
        "stretches": stretches,
        "sizes": sizes,
        "by_belief": by_belief,
    }


def _curve(data: RunData, name: str, spent: dict[int, int]) -> list[list[float]]:
    """(rollouts spent, accuracy) of every surviving evaluation of a set."""
    found = {e.policy_version: e.accuracy for e in data.surviving_evaluations if e.name == name}
    return [[spent[version], round(found[version], 4)] for version in sorted(found)]


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
    console = Console()
    found: dict[str, Any] = json.loads(options.out.read_text()) if options.out.exists() else {}
    for run in options.runs:
        if run in found:
            continue
        with open_run(Place(options.dir), run) as (broker, name, _):
            found[run] = history_of(read_run(broker, name))
        last = found[run][HELDOUT][-1]
        console.print(f"{run}: samples {found[run]['samples']} prompts {found[run]['prompts']} held-out {last}")
        lines = ",\n".join(f"{json.dumps(key)}: {json.dumps(found[key])}" for key in sorted(found))
        options.out.write_text("{\n" + lines + "\n}\n")


if __name__ == "__main__":
    main()
