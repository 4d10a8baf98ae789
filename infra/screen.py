"""Shows a run in the terminal: one live screen, or, where output is no terminal, a line now and then."""

import time
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Protocol, Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.markup import escape
from rich.padding import Padding
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from infra.board import Board
from infra.supervisor import WorkerRow

BARS = "▁▂▃▄▅▆▇█"
LINE_EVERY_S = 15.0
TWO_COLUMNS = 108
"""Terminals at least this wide, in characters, show the figures in two columns."""
STATE_STYLES = {"running": "green", "starting": "yellow", "waiting": "red", "stopping": "yellow", "done": "dim"}


class Screen(Protocol):
    """Shows how a run goes."""

    def __enter__(self) -> Self:
        """Begin."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Leave the terminal as it was before."""

    def show(self, board: Board, workers: Sequence[WorkerRow]) -> None:
        """Show the newest state; called several times a second."""

    def say(self, text: str) -> None:
        """Tell of an event."""


class LiveScreen:
    """One screen, redrawn in place."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._live = Live(console=console, refresh_per_second=4, transient=False)
        self._events: list[str] = []
        self._started = time.monotonic()

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.stop()

    def show(self, board: Board, workers: Sequence[WorkerRow]) -> None:
        """Redraw."""
        elapsed_s = time.monotonic() - self._started
        self._live.update(render(board, workers, elapsed_s, self._console.width))

    def say(self, text: str) -> None:
        """Above the screen, where it stays."""
        self._console.print(f"[dim]{time.strftime('%H:%M:%S')}[/] {escape(text)}", highlight=False)


class LineScreen:
    """A line every 15 seconds and for every event: for log files and pipes."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._last = 0.0
        self._last_line = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return

    def show(self, board: Board, workers: Sequence[WorkerRow]) -> None:
        """Print a line if it is time and something has changed."""
        now = time.monotonic()
        line = one_line(board, workers)
        if now - self._last < LINE_EVERY_S or line == self._last_line:
            return
        self._last, self._last_line = now, line
        self.say(line)

    def say(self, text: str) -> None:
        """Print a line."""
        self._console.print(f"{time.strftime('%H:%M:%S')} {text}", markup=False, highlight=False, soft_wrap=True)


def screen_for(console: Console) -> Screen:
    """The screen that suits the terminal."""
    return LiveScreen(console) if console.is_terminal else LineScreen(console)


def one_line(board: Board, workers: Sequence[WorkerRow]) -> str:
    """The state in one line."""
    if board.update is None:
        states = ", ".join(f"{row.name} {row.state}" for row in workers)
        base = f"base policy: held-out accuracy {board.heldout[0][1]:.3f}; " if board.heldout else ""
        return f"{base}no update yet: {states}"
    parts = [
        f"update {board.step}/{board.num_updates}",
        f"held-out {_accuracy(board.heldout)}",
        f"reward {_number(board.figure('learner/reward/mean'))}",
        f"gradient ratio {_number(board.figure('learner/effective_gradient_ratio/samples'))} of samples, "
        f"{_number(board.figure('learner/effective_gradient_ratio/prompts'))} of prompts",
        f"{board.rate('producer/rollouts'):,.0f} rollouts/s",
        f"staleness {_number(board.figure('learner/staleness/mean'), 1)}",
        f"{time_text(board.time_left_s())} left",
    ]
    return " | ".join(parts + _alarms(board))


def render(board: Board, workers: Sequence[WorkerRow], elapsed_s: float, width: int = TWO_COLUMNS) -> RenderableType:
    """The whole screen, for a terminal of this width."""
    parts: list[RenderableType] = [
        _header(board, elapsed_s),
        Padding(_figures(board, width), (1, 0)),
        _workers(board, workers),
    ]
    parts[1:1] = [Text(text, style="bold white on red") for text in _alarms(board)]
    return Group(*parts)


def _header(board: Board, elapsed_s: float) -> RenderableType:
    grid = Table.grid(padding=(0, 2))
    grid.add_row(
        Text(f"run {board.run}", style="bold"),
        Text(f"update {board.step}/{board.num_updates}"),
        ProgressBar(total=board.num_updates, completed=board.step, width=32),
        Text(f"{time_text(elapsed_s)} elapsed, {time_text(board.time_left_s())} left", style="dim"),
    )
    return grid


def _figures(board: Board, width: int) -> RenderableType:
    columns = 2 if width >= TWO_COLUMNS else 1
    table = Table.grid(padding=(0, 3))
    for _ in range(columns):
        table.add_column(style="dim", no_wrap=True)
        table.add_column(no_wrap=True)
    staleness = " / ".join(
        _number(board.figure(f"learner/staleness/{statistic}"), 1) for statistic in ("min", "mean", "max")
    )
    lag = ", ".join(f"{topic} {count:,}" for topic, count in board.lag.items()) or "-"
    share = board.ungraded()
    rows = [
        ("held-out accuracy", f"{_accuracy(board.heldout)}  {spark([value for _, value in board.heldout])}"),
        ("pool accuracy", _accuracy(board.pool)),
        ("reward", f"{_number(board.figure('learner/reward/mean'))}  {spark(board.rewards[-24:])}"),
        ("staleness, versions (min/mean/max)", staleness),
        ("effective-gradient ratio, samples", _number(board.figure("learner/effective_gradient_ratio/samples"))),
        ("rollouts/s", f"{board.rate('producer/rollouts'):,.0f}"),
        ("effective-gradient ratio, prompts", _number(board.figure("learner/effective_gradient_ratio/prompts"))),
        ("tokens/s", f"{board.rate('producer/tokens'):,.0f}"),
        ("belief: skill, calibration error", _beliefs(board)),
        ("lag, records", lag),
        ("answers without a grade", f"{share.num_ungraded:,} of {share.num_verdicts:,}"),
    ]
    for start in range(0, len(rows), columns):
        table.add_row(*(text for row in rows[start : start + columns] for text in row))
    return table


def _beliefs(board: Board) -> str:
    """How well the success rates believed forecast the rewards."""
    names = ("learner/belief/skill", "learner/belief/calibration_error")
    return ", ".join(_number(board.figure(name)) for name in names)


def _workers(board: Board, workers: Sequence[WorkerRow]) -> RenderableType:
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    for name in ("worker", "state", "pid", "up", "restarts", "idle", "doing"):
        table.add_column(name, justify="right" if name in ("pid", "up", "restarts", "idle") else "left")
    for row in workers:
        heartbeat = board.heartbeats.get(row.name)
        if heartbeat is not None and heartbeat.pid != row.pid:
            heartbeat = None  # of the process before it
        state = (
            "starting" if row.state == "running" and (heartbeat is None or heartbeat.state == "starting") else row.state
        )
        metrics = heartbeat.metrics if heartbeat is not None else {}
        idle = next((value for key, value in metrics.items() if key.endswith("/idle_share")), None)
        table.add_row(
            row.name,
            Text(state, style=STATE_STYLES.get(state, "red")),
            str(row.pid or "-"),
            time_text(row.uptime_s) if row.pid else "-",
            Text(str(row.restarts), style="red" if row.restarts else ""),
            "-" if idle is None else f"{idle:.0%}",
            doing(row.name, metrics),
        )
    return table


DOING = {
    "allocator": {
        "round": "round {:,.0f}",
        "groups": "{:,.0f} groups admitted",
        "open_rollouts": "{:,.0f} rollouts open",
    },
    "producer": {
        "in_flight": "{:,.0f} in flight",
        "rollouts": "{:,.0f} rollouts",
        "policy_version": "policy version {:.0f}",
    },
    "verifier": {"verdicts": "{:,.0f} verdicts", "pending": "{:,.0f} pending"},
    "learner": {
        "version": "policy version {:.0f}",
        "ready_groups": "{:,.0f} groups ready",
        "open_groups": "{:,.0f} groups open",
    },
    "evaluator": {"evaluations": "{:,.0f} evaluations done", "waiting": "{:,.0f} waiting"},
}
"""Role to the metrics that tell what it is doing, each with its text."""


def doing(worker: str, metrics: Mapping[str, float]) -> str:
    """A worker's key figures, in words."""
    role = worker.rpartition("-")[0]
    texts = DOING.get(role, {})
    return ", ".join(text.format(metrics[f"{role}/{key}"]) for key, text in texts.items() if f"{role}/{key}" in metrics)


def spark(values: Sequence[float]) -> str:
    """A line of small bars, each value in [0, 1]."""
    return "".join(BARS[min(len(BARS) - 1, max(0, int(value * len(BARS))))] for value in values)


def time_text(seconds: float | None) -> str:
    """Seconds for people."""
    if seconds is None:
        return "-"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"


def _number(value: float | None, digits: int = 3) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def _accuracy(series: Sequence[tuple[int, float]]) -> str:
    if not series:
        return "-"
    (_, first), (_, last) = series[0], series[-1]
    return f"{first:.3f}" if len(series) == 1 else f"{first:.3f} -> {last:.3f} ({last - first:+.3f})"


def _alarms(board: Board) -> list[str]:
    return [f"ALARM: {alarm.text}" for alarm in board.alarms()]
