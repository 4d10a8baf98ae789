"""Sums a run up in one table: what was learned, what it cost, and whether every group is accounted for."""

from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from replay.accuracy import HELDOUT, POOL, Accuracy, Band, accuracy_of, bands_of
from replay.answers import Answers, answers_of, figures_of
from replay.forecasts import forecasts_of
from replay.load import RunData
from replay.tables import LawCheck, check_law
from stream.forecasts import calibration_error, log_loss
from stream.ratios import GradientRatios, gradient_ratios


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """A run's key figures."""

    run: str
    finished: bool
    modes: tuple[str, ...]
    """Allocation modes seen in its jobs."""
    heldout: Accuracy
    pool: Accuracy
    bands: tuple[Band, ...]
    num_updates: int
    """In the surviving lineage."""
    num_rolled_back: int
    """Updates that a crash made void."""
    num_resumes: int
    num_rollouts: int
    """Training rollouts, each counted once."""
    num_evaluation_rollouts: int
    num_tokens: int
    """Sampled in training rollouts."""
    ratios: GradientRatios
    """Both effective-gradient ratios over the groups that ended."""
    beliefs: tuple[float, float] | None
    """Log loss and calibration error of the success rates believed, as forecasts; None if no job holds one."""
    answers: Answers
    """Of the training rollouts."""
    law: LawCheck
    num_duplicates: int
    """Verdicts of a rollout that had one."""
    num_dead_letters: int
    num_unreadable: int
    wall_s: float
    """From the first job to the last record of the run."""
    rollouts_per_s: float
    """All rollouts, evaluation included, over the wall time."""
    report: Path | None = None
    model: Path | None = None


def summarize(data: RunData, folder: Path | None = None) -> Summary:
    """Work out the key figures.

    Args:
        folder: of the run; report and model are named if they are there.

    """
    surviving = data.lineage.surviving
    ended = [end for update in surviving for end in update.groups]
    wall_s = wall_time_s(data)
    num_training = len(data.training)
    return Summary(
        run=data.run,
        finished=data.lineage.finished,
        modes=tuple(sorted({group.mode for group in data.groups.values() if group.mode})),
        heldout=accuracy_of(data.surviving_evaluations, HELDOUT),
        pool=accuracy_of(data.surviving_evaluations, POOL),
        bands=tuple(bands_of(data.surviving_evaluations)),
        num_updates=len(data.lineage.steps),
        num_rolled_back=len(data.lineage.rolled_back),
        num_resumes=data.lineage.num_resumes,
        num_rollouts=num_training,
        num_evaluation_rollouts=len(data.rollouts) - num_training,
        num_tokens=int(data.training["num_tokens"].sum()),
        ratios=gradient_ratios(ended),
        beliefs=_scores_of(data),
        answers=answers_of(data),
        law=check_law(data.admitted, ended, finished=data.lineage.finished),
        num_duplicates=sum(count.num_duplicates for count in data.counts.values()),
        num_dead_letters=len(data.dead_letters),
        num_unreadable=sum(count.num_unreadable for count in data.counts.values()),
        wall_s=wall_s,
        rollouts_per_s=len(data.rollouts) / wall_s if wall_s else 0.0,
        report=_if_there(folder, "report.html"),
        model=_if_there(folder, "model"),
    )


def wall_time_s(data: RunData) -> float:
    """Seconds from the first job to the last record."""
    times = [*data.rollouts["job_created_s"], *data.rollouts["created_s"]]
    times += [update.created_s for update in data.lineage.surviving]
    times += [evaluation.created_s for evaluation in data.evaluations]
    known = [time for time in times if 0 < time < float("inf")]
    return float(max(known) - min(known)) if known else 0.0


def _if_there(folder: Path | None, name: str) -> Path | None:
    path = folder / name if folder else None
    return path if path and path.exists() else None


def print_summary(summary: Summary, console: Console) -> None:
    """Print the accuracies by band and the key figures."""
    console.print(_accuracy_table(summary))
    console.print(_figures_table(summary))


def _accuracy_table(summary: Summary) -> Table:
    title = f"Run {summary.run}: accuracy by base success rate" + ("" if summary.finished else " (so far)")
    table = Table(title=title, title_justify="left")
    table.add_column("base rate", no_wrap=True)
    for name in ("prompts", "held-out", "pool"):
        table.add_column(name, justify="right", no_wrap=True)
    for band in summary.bands:
        cells = (accuracy_text(band.heldout), accuracy_text(band.pool))
        table.add_row(band.label, str(band.num_heldout), *cells)
    table.add_section()
    table.add_row("all", "", accuracy_text(summary.heldout), accuracy_text(summary.pool), style="bold")
    return table


def accuracy_text(accuracy: Accuracy) -> str:
    """Before, after and the gain, e.g. `0.345 -> 0.740 (+0.395)`."""
    if accuracy.before is None and accuracy.after is None:
        return "-"
    gain = "" if accuracy.gain is None else f" ({accuracy.gain:+.3f})"
    return f"{show(accuracy.before)} -> {show(accuracy.after)}{gain}"


def show(value: float | None, digits: int = 3) -> str:
    """A number for people, `-` for none."""
    return "-" if value is None else f"{value:.{digits}f}"


def figures(summary: Summary) -> list[tuple[str, str]]:
    """The key figures as (name, text), for the terminal and the page."""
    law = summary.law
    endings = ", ".join(f"{count:,} {ending}" for ending, count in sorted(law.endings.items())) or "none"
    pairs = [
        ("allocation", ", ".join(summary.modes) or "-"),
        ("updates", f"{summary.num_updates:,}" + _rolled_back(summary)),
        ("rollouts", f"{summary.num_rollouts:,} (and {summary.num_evaluation_rollouts:,} for evaluation)"),
        ("tokens", f"{summary.num_tokens:,}"),
        ("effective-gradient ratio, samples", show(summary.ratios.samples)),
        ("effective-gradient ratio, prompts", show(summary.ratios.prompts)),
        *_figures_of_beliefs(summary),
        ("groups admitted", f"{law.num_admitted:,}"),
        ("groups ended", f"{law.num_ended:,} ({endings})"),
        ("groups lost", f"{law.num_lost:,}") if summary.finished else ("groups open", f"{len(law.open):,}"),
        ("law check", law_text(law)),
        ("duplicates dropped", f"{summary.num_duplicates:,}"),
        ("dead letters", f"{summary.num_dead_letters:,}"),
        ("wall time", f"{summary.wall_s:,.0f} s ({summary.rollouts_per_s:,.1f} rollouts/s)"),
        *figures_of(summary.answers),
    ]
    if summary.num_unreadable:
        pairs.append(("unreadable records", f"{summary.num_unreadable:,}"))
    paths = (("report", summary.report), ("model", summary.model))
    return pairs + [(name, str(path)) for name, path in paths if path]


def _scores_of(data: RunData) -> tuple[float, float] | None:
    found = forecasts_of(data)
    both = found.believed, found.rewards
    return (log_loss(*both), calibration_error(*both)) if found.rewards.size else None


def _figures_of_beliefs(summary: Summary) -> list[tuple[str, str]]:
    if summary.beliefs is None:
        return []
    loss, error = summary.beliefs
    return [("beliefs as forecasts", f"log loss {loss:.3f} nats, calibration error {error:.3f}")]


def law_text(law: LawCheck) -> str:
    """Whether every admitted group ended exactly once, in words."""
    if law.holds:
        return "every admitted group ended exactly once" if law.finished else "no group ended twice; the run goes on"
    broken = (("lost", law.num_lost), ("ended twice or more", len(law.repeated)), ("never admitted", len(law.unknown)))
    return "BROKEN: " + ", ".join(f"{count:,} {fault}" for fault, count in broken if count)


def _rolled_back(summary: Summary) -> str:
    return f" (and {summary.num_rolled_back:,} rolled back by a crash)" if summary.num_rolled_back else ""


def _figures_table(summary: Summary) -> Table:
    table = Table(show_header=False, title=f"Run {summary.run}: figures", title_justify="left")
    table.add_column()
    table.add_column(overflow="fold")
    for name, text in figures(summary):
        table.add_row(name, escape(text), style="bold red" if "BROKEN" in text or name == "WARNING" else "")
    return table
