"""Measures what a prompt with 93 rollouts does to an update, by weighting: its share of the gradient beside prompts with 8.

    python -m benchmarks.weighting --out weighting.json

One hard prompt of the demo gets 93 rollouts (the most that the paper reports), fifteen others get 8; the base model
samples all, and the learner's trainer computes each prompt's part of the update's gradient. Draws in which the large
group or fewer than four others have no gradient are drawn again. Printed: the large prompt's share of the sum of the
prompts' gradient norms, and the cosine between its part and the whole update. With equal pull its share would be 1 / m,
m prompts with a gradient.
"""

import argparse
import json
import statistics
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.table import Table

from benchmarks.demo_task import Task, graded_groups, has_gradient
from benchmarks.results import as_line, machine
from learner.batches import collate, samples_of
from learner.groups import Group
from learner.model import load_model
from learner.presets import PRESETS
from learner.trainer import Trainer
from stream.config import LearnerTable
from stream.console import make_console

WEIGHTINGS = ("token_mean", "sequence_mean", "constant", "prompt_mean", "prompt_mean_unbiased")
ADVANTAGES = ("std", "mean")
LARGE, SMALL, OTHERS = 93, 8, 15


def draw(task: Task, model: Any, rng: np.random.Generator, generator: torch.Generator) -> list[Group]:
    """Groups with a gradient, the large one first."""
    hard = [item for item in task.pool if item[0].level >= "c30"]  # the code's own probability is below .4
    while True:
        large = graded_groups(model, 0, [hard[rng.integers(len(hard))]], [LARGE], task.end, generator)
        others = [task.pool[i] for i in rng.choice(len(task.pool), OTHERS, replace=False)]
        small = graded_groups(model, 0, others, [SMALL] * OTHERS, task.end, generator)
        mixed = [group for group in (*large, *small) if has_gradient(group)]
        if mixed and mixed[0] is large[0] and len(mixed) > 4:
            return [Group(f"{i}", g.num_rollouts, g.verdicts) for i, g in enumerate(mixed)]


def parts(trainer: Trainer, groups: list[Group]) -> list[torch.Tensor]:
    """Each prompt's part of the update's gradient, flat."""
    samples = samples_of(groups, trainer.objective)
    gradients = []
    for group in groups:
        own = [sample for sample in samples if any(sample.verdict is v for v in group.verdicts.values())]
        trainer.backward(collate(own, trainer.device), version=0)
        gradients.append(torch.cat([p.grad.flatten() for p in trainer.model.parameters()]))
        trainer.optimizer.zero_grad()
    return gradients


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="demo/base", help="folder of the demo's base model")
    parser.add_argument("--draws", type=int, default=10)
    parser.add_argument("--out", type=Path, help="write the results as JSON")
    options = parser.parse_args()
    torch.set_num_threads(1)
    task = Task(options.model, num_pool=640, num_heldout=1)
    trainer = Trainer(load_model(options.model, torch.device("cpu")), LearnerTable())
    rng, generator = np.random.default_rng(0), torch.Generator().manual_seed(0)
    measured: dict[tuple[str, str], list[tuple[float, float]]] = {}
    equal = []
    for _ in range(options.draws):
        groups = draw(task, trainer.model, rng, generator)
        equal.append(1 / len(groups))
        for advantage in ADVANTAGES:
            for weighting in WEIGHTINGS:
                trainer.objective = PRESETS["tis"].replaced(advantage=advantage, weighting=weighting)
                gradients = parts(trainer, groups)
                norms = [g.norm().item() for g in gradients]
                cosine = torch.cosine_similarity(gradients[0], torch.stack(gradients).sum(0), dim=0).item()
                measured.setdefault((advantage, weighting), []).append((norms[0] / sum(norms), cosine))
    table = Table(
        "advantage", "weighting", "share", "cosine", title=f"a prompt with {LARGE} rollouts beside ones with {SMALL}"
    )
    rows = []
    for (advantage, weighting), values in measured.items():
        share, cosine = (statistics.fmean(column) for column in zip(*values, strict=True))
        rows.append({"advantage": advantage, "weighting": weighting, "share": share, "cosine": cosine})
        table.add_row(advantage, weighting, f"{share:.2f}", f"{cosine:.2f}")
    console = make_console()
    settings = {**machine("torch"), "draws": options.draws, "equal share": round(statistics.fmean(equal), 2)}
    console.print(as_line(settings))
    console.print(table)
    if options.out:
        options.out.write_text(json.dumps({"settings": settings, "rows": rows}, indent=1))


if __name__ == "__main__":
    main()
