"""Compares recipes on the demo's task: baselines of the advantage, and ways to spend rollouts, at equal rollouts.

An arm is a recipe: configs/demo.toml with some keys replaced. Each is trained with several seeds, of which the pool and the
held-out prompts follow, so arms are compared seed by seed. Two ways to train: `memory` (the product's allocator, its group
assembly and trainer in one process; sampling is a loop of its own; staleness is exactly --staleness) and `kafka`
(`rucksack up`: all roles, a real broker, real vLLM). Accuracy is exact either way: the mean probability of the right answer,
from the weights.

    python -m benchmarks.arms --through memory --log arms.jsonl --out docs/figures/arms.json
    python -m benchmarks.arms --through kafka --arms "uniform 8" "uniform 4" learnability --seeds 8

Each finished run is a line of `--log`, and is not made again; `--only-tables` shows what is there.
"""

import argparse
import math
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.table import Table

from allocator.admission import admission_of
from allocator.role import Allocator
from benchmarks.allocation_figures import rollouts_to_reach
from benchmarks.demo_task import MAX_TOKENS, Item, graded, sample, success_rates
from benchmarks.results import append_run, finished_runs, machine, write_rows
from learner.groups import Assembler, Group, group_end
from learner.model import load_model
from learner.role import make_trainer
from prompts.sources import load_prompts
from prompts.tokens import load_tokenizer
from stream.config import Config, load
from stream.console import make_console
from stream.memory import MemoryBroker
from stream.messages import Job, Prompt, Update
from stream.run_topics import RunTopics
from stream.topics import JOBS, TOPICS, UPDATES, VERDICTS
from stream.weights import digest_of
from stream.worker import hand_over

RECIPE = "configs/demo.toml"
CPU = torch.device("cpu")


def groups_of(size: int, mode: str, rollouts: int) -> dict[str, Any]:
    """Keys of a recipe with groups of so many rollouts."""
    shape = {"run.prompts_per_update": rollouts // size, "run.rollouts_per_prompt": size}
    return {"learner.objective": "tis", "allocator.mode": mode, **shape}


def arms_of(rollouts: int) -> dict[str, dict[str, Any]]:
    """Keys that make each arm, with so many rollouts an update."""
    return {
        "uniform 8": groups_of(8, "uniform", rollouts),
        "uniform 4": groups_of(4, "uniform", rollouts),
        "uniform 2": groups_of(2, "uniform", rollouts),
        "paper": groups_of(8, "paper", rollouts),
        "bayes": groups_of(8, "bayes", rollouts),
        "sequential": groups_of(4, "sequential", rollouts),
        "sequential 3": groups_of(3, "sequential", rollouts),
        "turns": {"learner.objective": "belief", "allocator.mode": "uniform"},
        "learnability": {"learner.objective": "belief", "allocator.mode": "learnability"},
    }


T_95 = {2: 12.71, 3: 4.30, 4: 3.18, 5: 2.78, 6: 2.57, 7: 2.45, 8: 2.36, 9: 2.31, 10: 2.26, 12: 2.20, 16: 2.13}
"""Student's t for a two-sided interval of 95 %, by the number of pairs."""


def items_of(prompts: Sequence[Prompt], model: str) -> list[Item]:
    """Prompts as tokens, with the tokens of their right answers."""
    tokenizer = load_tokenizer(model)
    items = []
    for prompt in prompts:
        answer = [*tokenizer(" ".join(prompt.answer))["input_ids"], int(tokenizer.eos_token_id)]
        prompt_ids = np.array(tokenizer(prompt.text)["input_ids"], dtype=np.int32)
        items.append((prompt, prompt_ids, np.array(answer, dtype=np.int32)))
    return items


# -- in one process ---------------------------------------------------------------------------------------------------


class InMemory:
    """A run whose roles take turns: the allocator admits, all that is admitted is sampled, the learner takes the oldest."""

    def __init__(self, config: Config) -> None:
        self._config = config
        pool, heldout = load_prompts(config)
        self.heldout = items_of(heldout, config.run.model)
        items = items_of(pool, config.run.model)
        self._answers = {prompt.prompt_id: answer for prompt, _, answer in items}
        broker = MemoryBroker()
        broker.create_topics(config.run.name, TOPICS, 1)
        self._topics = RunTopics(broker, config.run.name, "arms")
        self._jobs = self._topics.reader(JOBS)
        tokens = {prompt.prompt_id: ids for prompt, ids, _ in items}
        self._allocator = Allocator(config, self._topics, pool, tokens, admission_of(config))
        self.trainer = make_trainer(config)
        self._end = int(load_tokenizer(config.run.model).eos_token_id)
        self._generator = torch.Generator().manual_seed(config.run.seed)
        self._assembler = Assembler()
        self._ended = 0

    def updates(self) -> Iterator[tuple[int, Any]]:
        """Train; after each update the rollouts so far, and the model."""
        run = self._config.run
        for step in range(run.num_updates):
            batch = self._batch(step)
            ends = [group_end(g, step, 10**9, self.trainer.overlong, group_mean=self._config.by_groups) for g in batch]
            trained = [group for group, end in zip(batch, ends, strict=True) if end.ending == "trained"]
            self.trainer.update(trained, version=step, step=step)
            self._ended += sum(end.num_rollouts for end in ends)
            update = Update(step=step + 1, version=step + 1, parent_version=step, groups=tuple(ends))
            self._topics.send(UPDATES, "update", update)
            yield self._ended, self.trainer.model

    def _batch(self, step: int) -> list[Group]:
        run = self._config.run
        while True:
            wanted = run.budget * (step + 1) - self._ended
            if self._config.counts_rollouts:
                batch = self._assembler.take_rollouts(wanted)
            else:
                batch = self._assembler.take(run.prompts_per_update)
            if batch:
                return batch
            jobs = self._admitted()
            if not jobs:
                raise RuntimeError(f"nothing is admitted at update {step}, which has too few rollouts")
            for verdict in graded(self.trainer.model, step, jobs, self._answers, self._end, self._generator):
                self._assembler.add(verdict)
                self._topics.send_of_group(VERDICTS, verdict.trajectory.job.group_id, verdict)

    def _admitted(self) -> list[Job]:
        for record in self._allocator.reader.poll(0, 1_000_000):
            hand_over(self._allocator, self._topics, record, self._allocator.watermark)
        while self._allocator.work():
            pass
        from stream.codec import decode

        return [decode(record.value, Job) for record in self._jobs.poll(0, 1_000_000)]


# -- through Kafka ----------------------------------------------------------------------------------------------------


def through_kafka(arguments: Sequence[str], config: Config) -> Iterator[tuple[int, Any]]:
    """Run `rucksack up`; then the rollouts up to each update whose model was written, and that model."""
    kept = ["--learner.weights", "files", "--learner.keep_policies", "100000"]
    command = [sys.executable, "-m", "infra.cli", "up", RECIPE, *arguments, *kept]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(
            f"{' '.join(command)} ended with {done.returncode}:\n{done.stdout[-2000:]}{done.stderr[-2000:]}"
        )
    for step in range(1, config.run.num_updates + 1):
        folder = config.run.path / "policies" / f"v{step:06d}"
        if folder.is_dir():  # versions that are made while one is written are written as one
            yield step * config.run.budget, folder


# -- a run ------------------------------------------------------------------------------------------------------------


def train(cell: dict[str, Any], options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Train one arm with one seed; exact accuracy on the way."""
    keys = {
        **arms_of(options.rollouts)[cell["arm"]],
        "run.name": "arm", "run.dir": str(folder), "run.seed": cell["seed"], "run.num_updates": options.updates,
        "run.rollouts_per_update": options.rollouts, "run.max_staleness": 2 * options.staleness,
        "learner.lr": cell["lr"], "evaluator.enabled": "false",
    }  # fmt: skip
    arguments = [f"--{key}={value}" for key, value in keys.items()]
    config = load(RECIPE, arguments)
    started = time.monotonic()
    torch.set_num_threads(1)
    if options.through == "memory":
        run = InMemory(config)
        updates, heldout = run.updates(), run.heldout
    else:
        updates, heldout = through_kafka(arguments, config), items_of(load_prompts(config)[1], config.run.model)
    curve: list[list[float]] = []
    rates = np.zeros(0)
    model: Any = None
    for step, (rollouts, model) in enumerate(updates, 1):
        if step % max(1, options.updates // options.points) == 0 or step == options.updates:
            model = load_model(str(model), CPU) if isinstance(model, Path) else model
            rates = success_rates(model, heldout)
            curve.append([rollouts, round(float(rates.mean()), 4)])
    prompts = torch.as_tensor(np.stack([ids for _, ids, _ in heldout]).astype(np.int64))
    end = int(load_tokenizer(config.run.model).eos_token_id)
    tokens, logprobs = sample(model, prompts, MAX_TOKENS, end, torch.Generator().manual_seed(0))
    before_end = np.cumsum(tokens == end, axis=1) - (tokens == end) == 0
    return {
        **cell,
        "curve": curve,
        "accuracy": curve[-1][1],
        "pass_at_8": round(float((1 - (1 - rates) ** 8).mean()), 4),
        "entropy": round(float(-(logprobs * before_end).sum(1).mean()), 4),
        "seconds": round(time.monotonic() - started, 1),
    }


# -- tables -----------------------------------------------------------------------------------------------------------


def interval(differences: Sequence[float]) -> str:
    """Mean and 95 % interval of paired differences, in points."""
    mean = 100 * statistics.fmean(differences)
    if len(differences) < 2:
        return f"{mean:+.1f}"
    t = T_95.get(len(differences), 2.0)
    return f"{mean:+.1f} ± {100 * t * statistics.stdev(differences) / math.sqrt(len(differences)):.1f}"


def table_of(results: Sequence[dict[str, Any]], title: str) -> Table:
    """An arm a row; differences seed by seed, and the share of another arm's rollouts that reaches its final accuracy."""
    table = Table(title=title)
    references = ("uniform 8", "uniform 4")
    columns = ("arm", "lr", "seeds", "held-out", "pass@8", "entropy", *(f"over {name}" for name in references))
    for column in (*columns, *(f"rollouts for {name}'s end" for name in references)):
        table.add_column(column, justify="left" if column == "arm" else "right")
    for arm, lr in dict.fromkeys((r["arm"], r["lr"]) for r in results):
        runs = {r["seed"]: r for r in results if (r["arm"], r["lr"]) == (arm, lr)}
        cells = [arm, f"{lr:g}", str(len(runs))]
        cells += [
            f"{statistics.fmean(r[key] for r in runs.values()):.3f}" for key in ("accuracy", "pass_at_8", "entropy")
        ]
        best = {name: best_of(results, name) for name in references}
        for name in references:
            pairs = [(r, best[name][seed]) for seed, r in runs.items() if seed in best[name]]
            cells.append(
                interval([r["accuracy"] - other["accuracy"] for r, other in pairs]) if pairs and arm != name else ""
            )
        for name in references:
            cells.append("" if arm == name else share_of(runs, best[name]))
        table.add_row(*cells)
    return table


def best_of(results: Sequence[dict[str, Any]], arm: str) -> dict[int, dict[str, Any]]:
    """An arm's runs by seed, at the learning rate with the best mean."""
    by_lr: dict[float, dict[int, dict[str, Any]]] = {}
    for r in results:
        if r["arm"] == arm:
            by_lr.setdefault(r["lr"], {})[r["seed"]] = r
    most = max(map(len, by_lr.values()), default=0)
    whole = [runs for runs in by_lr.values() if len(runs) == most]
    return max(whole, key=lambda runs: statistics.fmean(r["accuracy"] for r in runs.values()), default={})


def share_of(runs: dict[int, dict[str, Any]], others: dict[int, dict[str, Any]]) -> str:
    """Median share of the other arm's rollouts after which its final accuracy is reached; `never` where it is not."""
    shares = []
    for seed in runs.keys() & others.keys():
        reached = rollouts_to_reach([[0, 0.0], *runs[seed]["curve"]], others[seed]["accuracy"])
        shares.append(math.inf if reached is None else reached / others[seed]["curve"][-1][0])
    if not shares:
        return ""
    median = statistics.median(shares)
    return "never" if median == math.inf else f"{median:.2f}"


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--through", choices=("memory", "kafka"), default="memory")
    parser.add_argument("--arms", nargs="+", default=list(arms_of(480)), metavar="ARM")
    parser.add_argument("--lrs", nargs="+", type=float, default=[8e-4], help="learning rates of every arm")
    parser.add_argument("--seeds", type=int, default=8)
    parser.add_argument("--rollouts", type=int, default=480, help="of an update")
    parser.add_argument("--updates", type=int, default=40)
    parser.add_argument(
        "--staleness", type=int, default=0, help="rounds ahead of the update: half of run.max_staleness"
    )
    parser.add_argument("--points", type=int, default=20, help="measurements of the accuracy in a run")
    parser.add_argument("--log", type=Path, default=Path("arms.jsonl"), help="a line for each finished run")
    parser.add_argument("--only-tables", action="store_true", help="train nothing: show what is in the log")
    parser.add_argument("--out", type=Path, help="write the results as JSON")
    options = parser.parse_args()
    unknown = set(options.arms) - set(arms_of(options.rollouts))
    if unknown:
        parser.error(f"no arm {', '.join(sorted(unknown))}; there are {', '.join(arms_of(options.rollouts))}")
    console = make_console()
    settings = {name: getattr(options, name) for name in ("through", "rollouts", "updates", "staleness", "points")}
    settings |= {"model_digest": digest_of(load(RECIPE).run.model)[:16], "machine": machine("torch")}
    console.print(settings)
    results = finished_runs(options.log, settings)
    done = [(r["arm"], r["lr"], r["seed"]) for r in results]
    cells = [(arm, lr, seed) for seed in range(options.seeds) for arm in options.arms for lr in options.lrs]
    todo = [] if options.only_tables else [cell for cell in cells if cell not in done]
    for number, (arm, lr, seed) in enumerate(todo, 1):
        with tempfile.TemporaryDirectory(prefix="arms") as folder:
            results.append(last := train({"arm": arm, "lr": lr, "seed": seed}, options, Path(folder)))
        append_run(options.log, last, settings)
        console.print(
            f"{number}/{len(todo)} {arm} lr {lr:g} seed {seed}: {last['accuracy']:.4f} in {last['seconds']:.0f} s"
        )
    title = f"held-out accuracy after {options.updates * options.rollouts:,} rollouts, through {options.through}"
    console.print(table_of(results, title))
    if options.out:
        write_rows(options.out, settings, "runs", results)


if __name__ == "__main__":
    main()
