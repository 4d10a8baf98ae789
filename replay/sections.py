"""Writes the tables and tiles of the report as HTML."""

import html
import math
from collections.abc import Sequence

import numpy as np

from replay.accuracy import Accuracy
from replay.alarms import Signs, alarms_of, newest_figure
from replay.answers import answers_of, warning_of
from replay.compare import Standing, times_of
from replay.load import RunData
from replay.markup import safe, table
from replay.series import mean_reward
from replay.summary import Summary, accuracy_text, figures, show
from replay.tables import rollouts_by_version
from stream.messages import OUTCOMES


def tiles(summary: Summary) -> str:
    """The key figures in the page's head."""
    law = summary.law
    lost = ("groups lost", f"{law.num_lost:,}") if law.finished else ("groups open", f"{len(law.open):,}")
    cells = [
        _accuracy_tile("held-out accuracy", summary.heldout),
        _accuracy_tile("pool accuracy", summary.pool),
        _tile("training rollouts", f"{summary.num_rollouts:,}", f"{summary.num_tokens:,} tokens"),
        _tile("updates", f"{summary.num_updates:,}", _crashes(summary)),
        _tile("effective samples", *_ratio(summary.ratios.samples, "of rollouts have a gradient")),
        _tile("effective prompts", *_ratio(summary.ratios.prompts, "of groups have a gradient")),
        _tile(*lost, f"of {law.num_admitted:,} admitted", css="" if law.holds else "bad"),
        _tile("wall time", _duration(summary.wall_s), f"{summary.rollouts_per_s:,.1f} rollouts/s"),
    ]
    return "".join(cells)


def _tile(name: str, value: str, note: str = "", css: str = "") -> str:
    return f'<div class="tile {css}"><span>{name}</span><b>{value}</b><i>{note}</i></div>'


def _accuracy_tile(name: str, accuracy: Accuracy) -> str:
    newest = accuracy.after if accuracy.after is not None else accuracy.before
    if newest is None:
        return _tile(name, "-", "not evaluated yet")
    note = f"before {accuracy.before:.1%}" if accuracy.before is not None else ""
    note += f", {accuracy.gain * 100:+.1f} points" if accuracy.gain is not None else ""
    return _tile(name, f"{newest:.1%}", note)


def _ratio(value: float | None, note: str) -> tuple[str, str]:
    return ("-", note) if value is None else (f"{value:.1%}", note)


def _crashes(summary: Summary) -> str:
    if not summary.num_rolled_back and not summary.num_resumes:
        return "none rolled back"
    return f"{summary.num_rolled_back:,} rolled back, {summary.num_resumes:,} resumed"


def _duration(seconds: float) -> str:
    if seconds < 600:
        return f"{seconds:,.0f} s"
    return f"{seconds / 60:,.0f} min" if seconds < 36_000 else f"{seconds / 3600:,.1f} h"


def figures_table(summary: Summary) -> str:
    """All key figures."""
    rows = [(html.escape(name), f'<span class="{_alarm(text)}">{safe(text)}</span>') for name, text in figures(summary)]
    return table(("figure", summary.run), rows)


def _alarm(text: str) -> str:
    return "bad" if text.startswith("BROKEN") else ""


def bands_table(summary: Summary) -> str:
    """Accuracy by band of base success rate."""
    rows = [
        (
            band.label,
            str(band.num_levels),
            str(band.num_heldout),
            *(safe(accuracy_text(accuracy)) for accuracy in (band.heldout, band.pool)),
        )
        for band in summary.bands
    ]
    rows.append(
        ("<b>all</b>", "", "", *(f"<b>{accuracy_text(accuracy)}</b>" for accuracy in (summary.heldout, summary.pool)))
    )
    return table(
        ("base success rate", "levels", "held-out prompts", "held-out accuracy", "pool accuracy"), rows, "numbers"
    )


def evaluations_table(data: RunData) -> str:
    """Every evaluation, oldest first."""
    spent = rollouts_by_version(data.lineage.surviving)
    rows = []
    for e in data.evaluations:
        versions = f"{e.min_policy_version} to {e.max_policy_version}"
        swapped = (
            f' <span class="dim">(sampled by {versions})</span>' if e.min_policy_version != e.max_policy_version else ""
        )
        at = f"{spent[e.policy_version]:,}" if e.policy_version in spent else '<span class="dim">rolled back</span>'
        rollouts = sum(score.num_rollouts for score in e.scores)
        final = "final" if e.final else ""
        accuracy = f"<b>{e.accuracy:.1%}</b>"
        numbers = (f"{len(e.scores):,}", f"{rollouts:,}", f"{e.temperature:g}", accuracy, final)
        rows.append((safe(e.name), f"{e.policy_version}{swapped}", at, *numbers))
    header = ("set", "policy version", "training rollouts", "prompts", "rollouts", "temperature", "accuracy", "")
    return table(header, rows, "numbers")


def compare_table(standings: Sequence[Standing]) -> str:
    """Runs at the same number of rollouts, compared with the first one."""
    first = standings[0].ratios
    rows = []
    for standing in standings:
        ratios = [_against(standing.ratios.samples, first.samples), _against(standing.ratios.prompts, first.prompts)]
        accuracy = [show(standing.heldout_before), f"<b>{show(standing.heldout)}</b>", show(standing.pool)]
        rows.append(
            (
                safe(standing.run),
                safe(", ".join(standing.modes)),
                f"{standing.rollouts:,}",
                str(standing.num_updates),
                *ratios,
                *accuracy,
            )
        )
    header = ("run", "allocation", "rollouts", "updates", "effective samples", "effective prompts")
    return table((*header, "held-out before", "held-out", "pool"), rows, "numbers")


def _against(value: float | None, reference: float | None) -> str:
    times = times_of(value, reference)
    return show(value) + (f' <span class="dim">({times:.2f}x)</span>' if times is not None and times != 1 else "")


def updates_table(data: RunData) -> str:
    """Updates that a crash made void."""
    rows = [
        (str(u.step), str(u.version), str(u.parent_version), f"{len(u.groups):,}") for u in data.lineage.rolled_back
    ]
    return table(("step", "version", "made from", "groups that ended again"), rows, "numbers", empty="none")


def topics_table(data: RunData) -> str:
    """What the topics held."""
    rows = [
        (safe(name), f"{count.num_records:,}", f"{count.num_duplicates:,}", f"{count.num_unreadable:,}")
        for name, count in data.counts.items()
    ]
    return table(("topic", "records", "duplicates dropped", "unreadable"), rows, "numbers")


def letters_table(data: RunData) -> str:
    """Records that a role could not use."""
    rows = [
        (safe(letter.role), safe(f"{letter.topic}[{letter.partition}]@{letter.offset}"), safe(letter.error, 300))
        for letter in data.dead_letters
    ]
    return table(("role", "record", "error"), rows, empty="none")


def warnings(data: RunData) -> str:
    """Loud lines for what a reader must not overlook."""
    loud = [f"<b>{safe(alarm.text)}</b>: {safe(alarm.remedy)}" for alarm in alarms_of(signs_of(data))]
    if warning := warning_of(answers_of(data)):
        loud.append(f"<b>Answers in prose</b>: {html.escape(warning)}")
    if not data.lineage.complete:
        loud.append("<b>The log has lost its beginning</b>: the oldest update was not made from the base policy")
    return "".join(f'<div class="alarm">{text}</div>' for text in loud)


def signs_of(data: RunData) -> Signs:
    """What the topics tell of a run's health, whether it goes on or not."""
    counts = np.bincount(data.training["outcome"], minlength=len(OUTCOMES))
    steps = data.lineage.steps
    metrics = [update.metrics for update in steps]
    return Signs(
        outcomes={name: int(count) for name, count in zip(OUTCOMES, counts, strict=True)},
        rewards=[reward for reward in map(mean_reward, steps) if not math.isnan(reward)],
        logprob_gap=newest_figure(metrics, "learner/logprob_gap/mean"),
        logprob_distance=newest_figure(metrics, "learner/logprob_distance"),
    )
