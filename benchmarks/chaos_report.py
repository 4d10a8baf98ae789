"""Makes figures of the blows that were dealt: how soon what was struck was back, what was lost meanwhile. Pure.

Time is lost where updates come slower than before the first blow; an update that is made again after a rollback is not
counted again. Time and rollouts lost are shared among the blows that were under way, and a little after: exact in sum,
an estimate for each.
"""

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise

from rich.table import Table

from benchmarks.chaos_plan import Span, attribute
from benchmarks.chaos_strikes import Struck
from benchmarks.chaos_world import Step

AFTER_S = 5.0
"""For so long after its target is back a blow may still cost something."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """All blows of a kind at a role, or at the broker's nodes."""

    kind: str
    role: str
    num_blows: int
    back_median_s: float
    """From the blow, or from the end of what lasts, until its target answers again."""
    back_max_s: float
    lost_s: float
    """Time of the run lost per blow."""
    wasted: float
    """Rollouts per blow."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Costs:
    """What blows have cost."""

    rows: tuple[Row, ...]
    calm_updates_per_s: float
    """Before the first blow."""
    lost_s: float
    """In all, against that rate."""
    lost_to_none_s: float
    """Of which no blow was under way."""
    each: tuple[dict[str, object], ...]
    """By blow, in their order."""


def costs(dealt: Sequence[Struck], steps: Sequence[Step], calm_s: float, wasted: Iterable[Span]) -> Costs:
    """Share what was lost among the blows.

    Args:
        dealt: blows, all of them back.
        steps: updates as they were seen.
        calm_s: length of the time before the first blow in which the undisturbed rate is taken.
        wasted: rollouts sampled twice, each with the time when it came.

    """
    first_s = dealt[0].struck_s if dealt else float("inf")
    rate = calm_rate(steps, first_s - calm_s, first_s)
    under_way = [(struck.struck_s, (struck.back_s or struck.struck_s) + AFTER_S) for struck in dealt]
    end_s = max((end for _, end in under_way), default=0.0)
    lost, of_none = attribute(slow_spans(steps, rate, first_s, end_s), under_way)
    unused = (Span(before.at_s, after.at_s, after.num_unused) for before, after in pairwise(steps) if after.num_unused)
    spoiled, _ = attribute([*wasted, *unused], under_way)
    return Costs(
        rows=tuple(_rows(dealt, lost, spoiled)),
        calm_updates_per_s=round(rate, 3),
        lost_s=round(sum(lost) + of_none, 1),
        lost_to_none_s=round(of_none, 1),
        each=tuple(
            {
                "kind": struck.blow.kind,
                "target": struck.blow.target,
                "at_s": round(struck.struck_s - first_s, 2),
                "lasted_s": round((struck.healed_s or struck.struck_s) - struck.struck_s, 2),
                "back_s": round(back_s(struck), 2),
                "lost_s": round(lost[i], 2),
                "wasted": round(spoiled[i], 1),
            }
            for i, struck in enumerate(dealt)
        ),
    )


def calm_rate(steps: Sequence[Step], start_s: float, end_s: float) -> float:
    """Updates a second between two times."""
    calm = [step for step in steps if start_s <= step.at_s <= end_s]
    if len(calm) < 2:
        return 0.0
    return (calm[-1].step - calm[0].step) / (calm[-1].at_s - calm[0].at_s)


def slow_spans(steps: Sequence[Step], rate: float, start_s: float, end_s: float) -> list[Span]:
    """By stretch between two new updates, the time that it took beyond what the rate allows (negative where it took less)."""
    if not rate:
        return []
    highest, spans = 0, []
    before_s = None
    for step in steps:
        if step.step <= highest:  # made again after a rollback
            continue
        if before_s is not None and step.at_s > start_s and before_s < end_s:
            excess = step.at_s - before_s - (step.step - highest) / rate
            spans.append(Span(before_s, step.at_s, excess))
        highest, before_s = step.step, step.at_s
    return spans


def back_s(struck: Struck) -> float:
    """From the end of what lasted (of a kill: at once; of a hang: from when it began) until the target answers again."""
    began = struck.struck_s if struck.blow.kind in ("kill", "hang") else struck.healed_s or struck.struck_s
    return (struck.back_s or began) - began


def _rows(dealt: Sequence[Struck], lost: Sequence[float], wasted: Sequence[float]) -> Iterable[Row]:
    kinds: dict[tuple[str, str], list[int]] = {}
    for i, struck in enumerate(dealt):
        kinds.setdefault((struck.blow.kind, role_of(struck)), []).append(i)
    for (kind, role), members in sorted(kinds.items()):
        times = [back_s(dealt[i]) for i in members]
        yield Row(
            kind=kind,
            role=role,
            num_blows=len(members),
            back_median_s=round(statistics.median(times), 1),
            back_max_s=round(max(times), 1),
            lost_s=round(statistics.fmean(lost[i] for i in members), 1),
            wasted=round(statistics.fmean(wasted[i] for i in members), 1),
        )


def role_of(struck: Struck) -> str:
    """The role that was struck, or `node`."""
    return struck.blow.target.partition("-")[0]


def table_of(found: Costs) -> Table:
    """For people."""
    table = Table(title="Blows", title_justify="left")
    heads = ("kind", "at", "blows", "back, median s", "back, max s", "lost, s per blow", "rollouts wasted per blow")
    for head in heads:
        table.add_column(head, justify="left" if head in ("kind", "at") else "right")
    for row in found.rows:
        table.add_row(*map(str, asdict(row).values()))
    return table
