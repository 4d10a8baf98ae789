"""Trains the demo's model on rollouts that are forced to be old, with each off-policy correction.

Every update trains on rollouts that the weights of `staleness` updates before have sampled, all of them, through the
learner's own trainer and the objectives of learner/presets.py, with one weighting and one advantage for all. Accuracy
is the exact probability of the right answer, over the held-out prompts. Sampling is a small loop of its own.

    python -m benchmarks.corrections --out docs/figures/corrections.json --plot docs/figures/corrections.svg

Each finished run is a line of `--log`, and is not made again: what was interrupted goes on, and `--only-tables` shows what
is there.
"""

import argparse
import json
import platform
import statistics
import time
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.table import Table

from learner.groups import Group
from learner.model import load_model
from learner.presets import PRESETS
from learner.trainer import Trainer
from prompts.codes import generate_prompts
from prompts.tokens import load_tokenizer
from stream.config import LearnerTable, Objective
from stream.console import make_console
from stream.messages import Job, Prompt, Sampling, Span, Timing, Trajectory, Verdict
from stream.weights import digest_of

CORRECTIONS: dict[str, Objective] = {
    "none": PRESETS["reinforce"],
    "ppo clip": PRESETS["grpo"],
    "tis": PRESETS["tis"],
    "icepop": PRESETS["icepop"].replaced(ratio="behavior", trust_region="icepop", correction="none"),
    "cispo": PRESETS["cispo"],
    "gspo": PRESETS["gspo"],
    "gspo .2": PRESETS["gspo"].replaced(clip_low=0.2, clip_high=0.2),
}
"""The presets' trust regions, all on the ratio to the weights that sampled (behavior)."""


class Task:
    """Prompts of the demo as tokens, and what is right."""

    def __init__(self, model: str, num_pool: int, num_heldout: int) -> None:
        tokenizer = load_tokenizer(model)
        self.end = int(tokenizer.eos_token_id)
        self.pool = self._load(tokenizer, num_pool, "pool")
        self.heldout = self._load(tokenizer, num_heldout, "heldout")

    def _load(self, tokenizer: Any, number: int, split: str) -> list[tuple[Prompt, np.ndarray, np.ndarray]]:
        found = []
        for fields in generate_prompts(number, 0, split):
            answer = [*tokenizer(" ".join(fields["answer"]))["input_ids"], self.end]
            prompt_ids = np.array(tokenizer(fields["text"])["input_ids"], dtype=np.int32)
            found.append((Prompt(**fields), prompt_ids, np.array(answer, dtype=np.int32)))
        return found


@torch.no_grad()
def sample(
    model: Any, prompts: torch.Tensor, num_tokens: int, end: int, generator: torch.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Completions at temperature 1 and their logprobs. [B, L] -> [B, num_tokens] twice; after `end` they are junk."""
    cache, inputs = None, prompts
    tokens, logprobs = [], []
    for _ in range(num_tokens):
        out = model(input_ids=inputs, past_key_values=cache, use_cache=True, logits_to_keep=1)
        cache, distribution = out.past_key_values, torch.log_softmax(out.logits[:, -1].float(), dim=-1)
        inputs = torch.multinomial(distribution.exp(), 1, generator=generator)
        tokens.append(inputs[:, 0])
        logprobs.append(distribution.gather(-1, inputs)[:, 0])
        if all((torch.stack(tokens) == end).any(0)):
            break
    return torch.stack(tokens, 1).numpy().astype(np.int32), torch.stack(logprobs, 1).numpy()


def rollouts_of(
    model: Any, version: int, asked: Sequence[tuple[Prompt, np.ndarray, np.ndarray]], size: int, end: int,
    generator: torch.Generator,
) -> list[Group]:  # fmt: skip
    """One graded group of `size` rollouts of every prompt."""
    prompts = torch.as_tensor(np.repeat([ids for _, ids, _ in asked], size, axis=0).astype(np.int64))
    tokens, logprobs = sample(model, prompts, 8, end, generator)
    groups = []
    for number, (prompt, ids, answer) in enumerate(asked):
        job = Job(
            group_id=f"{number}", start=0, stop=size, num_rollouts=size, prompt=prompt, prompt_token_ids=ids,
            sampling=Sampling(max_tokens=8),
        )  # fmt: skip
        verdicts = {}
        for rollout in range(size):
            row = number * size + rollout
            stop = int(np.argmax(tokens[row] == end)) + 1 if (tokens[row] == end).any() else tokens.shape[1]
            completion = tokens[row, :stop]
            trajectory = Trajectory(
                job=job, rollout_index=rollout, trajectory_id=f"{row}", token_ids=completion,
                behavior_logprobs=logprobs[row, :stop], spans=(Span(policy_version=version, start=0, stop=stop),),
                text="", finish_reason="stop", timing=Timing(queued_s=0.0, generated_s=0.0), producer="here",
            )  # fmt: skip
            right = np.array_equal(completion, answer)
            verdicts[rollout] = Verdict(
                trajectory=trajectory, outcome="correct" if right else "wrong", reward=float(right)
            )
        groups.append(Group(f"{number}", size, verdicts))
    return groups


@torch.no_grad()
def accuracy(model: Any, asked: Sequence[tuple[Prompt, np.ndarray, np.ndarray]]) -> float:
    """Mean probability that a completion at temperature 1 is the right answer."""
    longest = max(len(answer) for _, _, answer in asked)
    rows = np.zeros((len(asked), len(asked[0][1]) + longest), dtype=np.int64)
    mask = np.zeros((len(asked), longest), dtype=bool)
    for i, (_, ids, answer) in enumerate(asked):
        rows[i, : len(ids) + len(answer)] = [*ids, *answer]
        mask[i, : len(answer)] = True
    tokens = torch.as_tensor(rows)
    start = len(asked[0][1])
    logprobs = torch.log_softmax(model(input_ids=tokens[:, :-1]).logits[:, start - 1 :].float(), dim=-1)
    chosen = logprobs.gather(-1, tokens[:, start:, None])[..., 0]
    return float((chosen * torch.as_tensor(mask)).sum(-1).exp().mean())


def run(options: argparse.Namespace, task: Task, correction: str, staleness: int, seed: int) -> dict[str, Any]:
    """Train once; returns accuracies on the way and what the ratios looked like."""
    torch.manual_seed(seed)
    generator, rng = torch.Generator().manual_seed(seed), np.random.default_rng(seed)
    objective = CORRECTIONS[correction]
    table = LearnerTable(lr=options.lr)
    trainer = Trainer(load_model(options.model, torch.device("cpu")), table)
    trainer.objective = replace(objective, advantage="std", weighting="prompt_mean")
    sampler = load_model(options.model, torch.device("cpu"))
    kept = [{name: value.clone() for name, value in sampler.state_dict().items()}]
    curve, figures = [], []
    started = time.monotonic()
    for step in range(options.updates):
        sampler.load_state_dict(kept[max(0, len(kept) - 1 - staleness)])
        chosen = [task.pool[i] for i in rng.choice(len(task.pool), options.prompts, replace=False)]
        groups = rollouts_of(sampler, max(0, step - staleness), chosen, options.rollouts, task.end, generator)
        mixed = [g for g in groups if len({v.reward for v in g.graded}) > 1]
        figures.append(trainer.update(mixed, version=step, step=step))
        kept.append({name: value.clone() for name, value in trainer.model.state_dict().items()})
        del kept[: -staleness - 1]
        if (step + 1) % options.every == 0:
            curve.append(accuracy(trainer.model, task.heldout))
    used = [f for f in figures if f["learner/num_tokens"]]

    def late(key: str) -> float:
        return statistics.fmean(f[f"learner/{key}"] for f in used[len(used) // 2 :])

    return {
        "correction": correction, "staleness": staleness, "seed": seed, "accuracy": curve,
        "seconds": time.monotonic() - started,
        "ess": late("ess"), "mismatch_k3": late("mismatch_k3"), "truncated": late("truncated_fraction"),
        "rejected": late("rejected_fraction"), "grad_norm": late("grad_norm"),
    }  # fmt: skip


def plan(options: argparse.Namespace) -> list[tuple[str, int, int]]:
    """What is run. Without staleness all ratios are 1 and all corrections the same: it is run once a seed."""
    runs = []
    for seed in range(options.seeds):  # outermost: what is cut short has whole seeds
        for staleness in options.staleness:
            runs += [(name, staleness, seed) for name in (options.corrections if staleness else ["tis"])]
    return runs


def logged(file: Path, settings: dict[str, Any]) -> list[dict[str, Any]]:
    """Runs that were finished under the same settings."""
    lines = file.read_text().splitlines() if file.exists() else []
    return [run for run, under in map(json.loads, lines) if under == settings]


def table_of(results: Sequence[dict[str, Any]], options: argparse.Namespace) -> Table:
    """Accuracy at the end, mean of the seeds, lowest and highest in brackets; behind it the mean over the whole run."""
    num_seeds = len({r["seed"] for r in results})
    rollouts = options.updates * options.prompts * options.rollouts
    table = Table(title=f"held-out accuracy after {rollouts:,} rollouts, and on the way there; {num_seeds} seeds")
    table.add_column("correction")
    for staleness in options.staleness:
        table.add_column(f"staleness {staleness}", justify="right")
    for name in options.corrections:
        cells = []
        for staleness in options.staleness:
            found = select(results, name, staleness)
            last = [r["accuracy"][-1] for r in found]
            way = statistics.fmean(statistics.fmean(r["accuracy"]) for r in found) if found else 0.0
            cells.append(f"{statistics.fmean(last):.3f} ({min(last):.3f}-{max(last):.3f}) {way:.3f}" if found else "-")
        table.add_row(name, *cells)
    return table


def select(results: Iterable[dict[str, Any]], name: str, staleness: int) -> list[dict[str, Any]]:
    """The runs of a correction at a staleness; at 0 they are shared."""
    return [
        r
        for r in results
        if r["staleness"] == staleness and r["correction"] in (name, "tis" if not staleness else name)
    ]


def plot(results: Sequence[dict[str, Any]], options: argparse.Namespace, base: float, file: Path) -> None:
    """Learning curves, one panel a staleness."""
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "rucksack"
    from matplotlib import pyplot

    stale = [s for s in options.staleness if s]
    figure, panels = pyplot.subplots(1, len(stale), figsize=(4 * len(stale), 3.6), sharey=True, squeeze=False)
    rollouts = [
        0,
        *(np.arange(1, options.updates // options.every + 1) * options.every * options.prompts * options.rollouts),
    ]
    for panel, staleness in zip(panels[0], stale, strict=True):
        curves = [[base, *r["accuracy"]] for r in select(results, "tis", 0)]
        panel.plot(rollouts, np.mean(curves, axis=0), color="black", linestyle=":", label="on-policy")
        for number, name in enumerate(options.corrections):
            curves = [[base, *r["accuracy"]] for r in select(results, name, staleness)]
            if curves:
                panel.plot(rollouts, np.mean(curves, axis=0), label=name, color=f"C{number}")
                panel.fill_between(
                    rollouts, np.min(curves, axis=0), np.max(curves, axis=0), alpha=0.12, color=f"C{number}"
                )
        panel.set_title(f"staleness {staleness}")
        panel.set_xlabel("rollouts")
    panels[0][0].set_ylabel("held-out accuracy")
    panels[0][-1].legend(fontsize=8)
    figure.tight_layout()
    figure.savefig(file, metadata={"Date": None})


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="demo/base", help="folder of the demo's base model")
    parser.add_argument("--updates", type=int, default=64)
    parser.add_argument("--prompts", type=int, default=16, help="prompts of an update")
    parser.add_argument("--rollouts", type=int, default=8, help="rollouts of a prompt")
    parser.add_argument("--lr", type=float, default=5e-4)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--staleness", type=int, nargs="+", default=[0, 2, 8, 32])
    parser.add_argument("--corrections", nargs="+", default=list(CORRECTIONS), choices=CORRECTIONS, metavar="NAME")
    parser.add_argument("--every", type=int, default=8, help="updates between two measurements of the accuracy")
    parser.add_argument("--log", type=Path, default=Path("corrections.jsonl"), help="a line for each finished run")
    parser.add_argument("--only-tables", action="store_true", help="train nothing: show what is in the log")
    parser.add_argument("--out", type=Path, help="write the results as JSON")
    parser.add_argument("--plot", type=Path, help="draw the learning curves (SVG; needs matplotlib)")
    options = parser.parse_args()
    torch.set_num_threads(1)
    console = make_console()
    task = Task(options.model, num_pool=640, num_heldout=256)
    base = accuracy(load_model(options.model, torch.device("cpu")), task.heldout)
    settings = {name: getattr(options, name) for name in ("model", "updates", "prompts", "rollouts", "lr", "every")}
    settings |= {"model_digest": digest_of(options.model)[:16]} | {
        "machine": platform.processor() or platform.machine(),
        "python": platform.python_version(),
        "torch": torch.__version__,
    }
    console.print(f"base {base:.4f}; {settings}")
    results = [run for run in logged(options.log, settings) if run["seed"] < options.seeds]
    done = {(r["correction"], r["staleness"], r["seed"]) for r in results}
    todo = [] if options.only_tables else [one for one in plan(options) if one not in done]
    for number, (name, staleness, seed) in enumerate(todo, 1):
        results.append(last := run(options, task, name, staleness, seed))
        with options.log.open("a") as log:
            log.write(json.dumps([last, settings]) + "\n")
        console.print(
            f"{number}/{len(todo)} {name} staleness={staleness} seed={seed} accuracy={last['accuracy'][-1]:.4f} "
            f"ess={last['ess']:.3f} truncated={last['truncated']:.3f} rejected={last['rejected']:.3f} {last['seconds']:.0f} s"
        )
    if options.out:
        options.out.write_text(json.dumps({"settings": settings, "base": base, "runs": results}, indent=1))
    console.print(table_of(results, options))
    if options.plot:
        plot(results, options, base, options.plot)


if __name__ == "__main__":
    main()
