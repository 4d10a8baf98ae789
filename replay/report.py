"""Writes the report: one HTML page that needs no network, from runs that are already read.

The page is `page.html` with its blanks filled; plotly.js is in it once. Data go in as JSON in which no `<` is left,
so that nothing a model wrote can close the script that it is in.
"""

import html
import json
import re
import time
from collections.abc import Callable, Mapping, Sequence
from importlib.resources import files
from pathlib import Path

from plotly.offline import get_plotlyjs

from replay import believing, figures, optimisation, sections
from replay.answers import tables_of
from replay.compare import compare
from replay.examples_page import examples
from replay.figures import View, view_of
from replay.load import RunData
from replay.summary import summarize
from replay.traces import Figure

Plot = Callable[[Sequence[View]], Figure]
LEARNING: tuple[Plot, ...] = (figures.accuracy, figures.reward, figures.ratios)
BELIEVING: tuple[Plot, ...] = (believing.calibration, believing.loss)
RUNNING: tuple[Plot, ...] = (
    figures.throughput,
    figures.timings,
    figures.outcomes,
    optimisation.idle,
    figures.staleness,
    figures.version_gap,
)
OPTIMISING: tuple[Plot, ...] = (
    optimisation.importance_ratio,
    optimisation.sample_size,
    optimisation.gradient,
    optimisation.mismatch,
    optimisation.loss,
)


def write_report(runs: Sequence[RunData], out: Path) -> Path:
    """Write the page of the first run, with the others beside it in the plots; returns its path."""
    out.parent.mkdir(parents=True, exist_ok=True)
    page = render(runs)
    unfinished = out.with_name(out.name + ".part")
    unfinished.write_text(page, encoding="utf-8")
    unfinished.replace(out)
    return out


def render(runs: Sequence[RunData]) -> str:
    """The page of the first run, with the others beside it in the plots."""
    views = [view_of(data, number) for number, data in enumerate(runs)]
    main, summary = runs[0], summarize(runs[0])
    title = "Rucksack: " + " / ".join(data.run for data in runs)
    blanks = {
        "title": html.escape(title),
        "name": html.escape(main.run),
        "state": "finished" if summary.finished else "under way",
        "made": time.strftime("%Y-%m-%d %H:%M:%S"),
        "tiles": sections.tiles(summary),
        "alarms": "".join(sections.warnings(data) for data in runs),
        "compare": _compare(runs),
        "bands": sections.bands_table(summary),
        "examples": examples(main),
        "figures": sections.figures_table(summary),
        "answers": tables_of(summary.answers),
        "evaluations": sections.evaluations_table(main),
        "rolled_back": sections.updates_table(main),
        "topics": sections.topics_table(main),
        "letters": sections.letters_table(main),
        "plotlyjs": get_plotlyjs(),
        "plotsjs": files("replay").joinpath("plots.js").read_text(encoding="utf-8"),
    }
    return _fill(blanks | _plots(views))


def _compare(runs: Sequence[RunData]) -> str:
    if len(runs) == 1:
        return ""
    standings = compare(runs)
    note = f"All at {standings[0].rollouts:,} rollouts, the most that every run has spent."
    table = sections.compare_table(standings)
    return f'<h2>Runs side by side</h2><div class="panel"><p class="note">{note}</p>{table}</div>'


def _plots(views: Sequence[View]) -> dict[str, str]:
    blanks: dict[str, str] = {}
    drawn: list[Figure] = []
    budgets: tuple[Plot, ...] = (figures.budget, believing.signal)
    shown = budgets[1:] if all(map(figures.by_single_rollouts, views)) else budgets
    for name, plots in (
        ("learning", LEARNING + shown[:1]),
        ("believing", shown[1:] + BELIEVING),
        ("running", RUNNING),
        ("optimising", OPTIMISING),
    ):
        cards = []
        for plot in plots:
            figure = plot(views)
            cards.append(_card(figure, len(drawn)))
            drawn += [figure] if figure.data else []
        blanks[name] = "".join(cards)
    return blanks | {"plots": as_json([{"data": figure.data, "layout": figure.layout} for figure in drawn])}


def _card(figure: Figure, number: int) -> str:
    body = f'<div class="plot" id="plot{number}"></div>' if figure.data else '<p class="empty">no data yet</p>'
    head = f"<h3>{html.escape(figure.title)}</h3>"
    return f'<div class="card">{head}<p class="note">{html.escape(figure.note)}</p>{body}</div>'


def as_json(value: object) -> str:
    """JSON that is safe inside a script element."""
    return json.dumps(value, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c")


def _fill(blanks: Mapping[str, str]) -> str:
    """The template with its blanks filled, in one pass: what is filled in is not looked at again."""
    template = files("replay").joinpath("page.html").read_text(encoding="utf-8")
    return re.sub(r"\{\{(\w+)\}\}", lambda match: blanks[match[1]], template)
