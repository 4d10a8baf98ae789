"""Makes the Grafana dashboard and the Prometheus alert rules of infra/grafana from one table each.

    python -m infra.dashboard infra/grafana      writes rucksack.json and alerts.yaml

What enters is the names of figures (docs/metrics.md) and the limits of `replay.alarms`; so dashboard, alerts, screen and page
call the same things by the same names, and raise alarms at the same limits.
"""

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from replay.alarms import LAG_LEAST, LAG_OVER_S, SILENT_S, UNGRADED_SHARE, ZERO_UPDATES
from stream.logprob_gap import LOGPROB_GAP_NATS
from stream.messages import UNGRADED
from stream.metrics import HEARTBEAT, metric_name

RATE = "[1m]"
WIDTH, HEIGHT = 12, 8
"""Of a panel, in the 24 columns of Grafana's grid."""


@dataclass(frozen=True, slots=True)
class Panel:
    """One plot: its title, its unit for Grafana, and (query, legend) of each line."""

    title: str
    unit: str
    lines: tuple[tuple[str, str], ...]


def _named(*keys: str) -> tuple[tuple[str, str], ...]:
    """One line for each figure, under its own name."""
    return tuple((metric_name(key), key.partition("/")[2]) for key in keys)


def _by_worker(key: str) -> tuple[tuple[str, str], ...]:
    return ((metric_name(key), "{{worker}}"),)


def _rate(key: str) -> str:
    return f"sum(rate({metric_name(key)}{RATE}))"


PANELS = (
    Panel("Accuracy", "percentunit", ((f"{{__name__=~'{metric_name('evaluator/accuracy/')}.+'}}", "{{__name__}}"),)),
    Panel("Reward", "none", _named("learner/reward/mean")),
    Panel(
        "Effective-gradient ratios",
        "percentunit",
        _named("learner/effective_gradient_ratio/samples", "learner/effective_gradient_ratio/prompts"),
    ),
    Panel("Beliefs: calibration error, log loss", "none", _named("learner/belief/calibration_error", "learner/belief/log_loss")),
    Panel("Throughput, rollouts and verdicts a second", "none",
          ((_rate("producer/rollouts"), "rollouts"), (_rate("verifier/verdicts"), "verdicts"))),
    Panel("Tokens a second", "none", ((_rate("producer/tokens"), "tokens"),)),
    Panel("Updates", "none", _named("learner/step", "learner/version")),
    Panel("Consumer lag, records not yet taken", "none", _by_worker("consumer/lag")),
    Panel("Idle share", "percentunit",
          (*_by_worker("producer/idle_share"), *_by_worker("verifier/idle_share"), *_by_worker("learner/idle_share"))),
    Panel("Under way", "none",
          (*_named("allocator/open_rollouts", "learner/ready_groups"), (f"sum({metric_name('producer/in_flight')})", "in flight"),
           (f"sum({metric_name('verifier/pending')})", "being graded"))),
    Panel("Staleness, versions", "none", _named("learner/staleness/mean", "learner/staleness/max")),
    Panel("Importance ratio, effective sample size", "none", _named("learner/importance_ratio/max", "learner/ess")),
    Panel("Gradient norm", "none", _named("learner/grad_norm")),
    Panel("Seconds: update, swap of weights", "s", (*_named("learner/update_s"), *_by_worker("producer/swap_s"))),
    Panel("Verdicts by outcome", "none", ((f"{{__name__=~'{metric_name('verifier/outcome/')}.+'}}", "{{__name__}} {{worker}}"),)),
    Panel("Seconds since the newest heartbeat", "s", ((f"time() - {HEARTBEAT}", "{{worker}}"),)),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Alert:
    """One rule: the kind of `replay.alarms`, when it holds, for how long, and the words."""

    kind: str
    expr: str
    for_s: float
    text: str
    remedy: str


def _ungraded() -> str:
    verdicts = f"sum({metric_name('verifier/verdicts')})"
    shares = [f"sum({metric_name(f'verifier/outcome/{name}')}) > {UNGRADED_SHARE} * {verdicts}" for name in UNGRADED
              if name != "abandoned"]  # fmt: skip
    return " or ".join([*shares, f"max({metric_name('verifier/alarms')}) > 0"])


def _zeros() -> str:
    """No reward above 0 while the learner made its last updates."""
    step = metric_name("learner/step")
    return f"max_over_time({metric_name('learner/reward/mean')}[5m]) == 0 and on(worker) increase({step}[5m]) >= {ZERO_UPDATES}"


def _lag() -> str:
    """Lower bound of the newest minute above the upper bound of the minute before it: work comes in rounds."""
    half, step_s = f"{LAG_OVER_S / 2:.0f}s", 5
    of_groups = metric_name("consumer/lag") + "{worker=~'(producer|verifier)-.*'}"
    lag = f"sum by (role) (label_replace({of_groups}, 'role', '$1', 'worker', '([a-z]+)-.*'))"
    late = f"min_over_time(({lag})[{half}:{step_s}s])"
    early = f"max_over_time(({lag})[{half}:{step_s}s] offset {LAG_OVER_S / 2 + step_s:.0f}s)"
    return f"({late} > {early}) and ({late} >= {LAG_LEAST})"


ALERTS = (
    Alert("ungraded", _ungraded(), 0, "answers get no grade (timeout, error or unparsable)",
          "Read some of them, and the verifiers' logs."),
    Alert("zeros", _zeros(), 0, f"every reward of the last {ZERO_UPDATES} updates is 0",
          "Read some answers: the grader, the reference answers, or the prompts are at fault."),
    Alert("logprob_gap", f"{metric_name('learner/logprob_gap/mean')} > {LOGPROB_GAP_NATS}", 0,
          "engine and learner differ at equal weights by {{ $value }} nats a token", "Compare dtype, kernels and model files."),
    Alert("silent", f"time() - {HEARTBEAT} > {SILENT_S:g}", 0,
          "{{ $labels.worker }} has sent no heartbeat for {{ $value }} s", "Look at its log; start it again."),
    Alert("down", 'up{job="rucksack"} == 0', SILENT_S, "{{ $labels.instance }} does not answer",
          "A worker is gone: start it again with the same command."),
    Alert("lag", _lag(), 0, "{{ $labels.role }}s fall behind: {{ $value }} records wait", "Start more of them, up to the partitions."),
)  # fmt: skip


def dashboard() -> dict[str, Any]:
    """The dashboard as Grafana imports it; its one variable is the data source."""
    source = {"type": "prometheus", "uid": "${source}"}
    panels = [
        {
            "id": number + 1,
            "type": "timeseries",
            "title": panel.title,
            "datasource": source,
            "gridPos": {"x": number % 2 * WIDTH, "y": number // 2 * HEIGHT, "w": WIDTH, "h": HEIGHT},
            "fieldConfig": {"defaults": {"unit": panel.unit}, "overrides": []},
            "targets": [
                {"refId": chr(65 + index), "datasource": source, "expr": expr, "legendFormat": legend}
                for index, (expr, legend) in enumerate(panel.lines)
            ],
        }
        for number, panel in enumerate(PANELS)
    ]
    variable = {"name": "source", "type": "datasource", "query": "prometheus", "label": "Prometheus"}
    return {
        "uid": "rucksack",
        "title": "Rucksack",
        "schemaVersion": 39,
        "refresh": "10s",
        "time": {"from": "now-1h", "to": "now"},
        "templating": {"list": [variable]},
        "panels": panels,
    }


def rules() -> dict[str, Any]:
    """The alert rules as Prometheus reads them."""
    return {
        "groups": [
            {
                "name": "rucksack",
                "rules": [
                    {
                        "alert": f"rucksack_{alert.kind}",
                        "expr": alert.expr,
                        "for": f"{alert.for_s:.0f}s",
                        "labels": {"severity": "warning"},
                        "annotations": {"summary": alert.text, "description": alert.remedy},
                    }
                    for alert in ALERTS
                ],
            }
        ]
    }


def texts() -> dict[str, str]:
    """File name to what is in it. A JSON text is YAML as well."""
    return {"rucksack.json": _json(dashboard()), "alerts.yaml": _json(rules())}


def _json(value: object) -> str:
    return json.dumps(value, indent=2) + "\n"


if __name__ == "__main__":
    for file_name, text in texts().items():
        (Path(sys.argv[1]) / file_name).write_text(text)
