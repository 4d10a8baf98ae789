"""Draws what benchmarks.arms found: held-out accuracy over rollouts, a line an arm, shaded from the lowest to the highest seed.

    python -m benchmarks.arms_figure docs/figures/arms_kafka.json docs/figures/arms_memory.json --out docs/figures/arms.svg

Needs matplotlib.
"""

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

COLOURS = {
    "uniform 8": "#6b7280",
    "uniform 4": "#0e7490",
    "uniform 2": "#059669",
    "paper": "#d97706",
    "bayes": "#7c3aed",
    "sequential": "#b83280",
    "sequential 3": "#f472b6",
    "turns": "#dc2626",
    "learnability": "#2563eb",
}


def curves_of(runs: Sequence[Mapping[str, Any]]) -> dict[str, np.ndarray]:
    """Accuracy by arm, of the seeds that got to the same points. [seeds, points, 2]"""
    arms: dict[str, list[Any]] = {}
    for run in runs:
        arms.setdefault(run["arm"], []).append(run["curve"])
    return {arm: np.array(curves) for arm, curves in arms.items()}


def draw(files: Sequence[Path], out: Path) -> None:
    """One panel a file."""
    import matplotlib.pyplot as plt

    figure, panels = plt.subplots(1, len(files), figsize=(5.2 * len(files), 3.8), sharey=True, squeeze=False)
    for file, panel in zip(files, panels[0], strict=True):
        data = json.loads(file.read_text())
        curves = curves_of(data["runs"])
        for arm in (name for name in COLOURS if name in curves):
            rollouts = curves[arm][:, :, 0].mean(axis=0)
            accuracy = curves[arm][:, :, 1]
            panel.plot(rollouts, accuracy.mean(axis=0), color=COLOURS[arm], label=f"{arm} ({len(accuracy)} seeds)")
            panel.fill_between(rollouts, accuracy.min(axis=0), accuracy.max(axis=0), color=COLOURS[arm], alpha=0.08)
        settings = data["settings"]
        panel.set_title(f"through {settings['through']}, staleness {settings['staleness']}")
        panel.set_xlabel("training rollouts")
        panel.grid(alpha=0.3)
        panel.legend(fontsize=8)
    panels[0][0].set_ylabel("held-out accuracy (exact)")
    figure.tight_layout()
    figure.savefig(out, metadata={"Date": None})


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "files", nargs="+", type=Path, metavar="FILE.json", help="what benchmarks.arms wrote with --out"
    )
    parser.add_argument("--out", type=Path, required=True, metavar="FILE.svg")
    options = parser.parse_args()
    draw(options.files, options.out)


if __name__ == "__main__":
    main()
