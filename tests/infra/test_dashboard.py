"""The dashboard and the alerts: made by code, of figures that exist, and with data from a real run in a real Prometheus."""

import json
import re
import shutil
import subprocess
import sys
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from infra.dashboard import ALERTS, PANELS, texts
from infra.placement import Placement
from localkafka.ports import choose_ports
from stream.config import Config
from stream.metrics import HEARTBEAT, metric_name

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "infra" / "grafana"


def test_the_files_are_those_that_the_code_makes():
    assert {name: (FOLDER / name).read_text() for name in texts()} == texts(), "python -m infra.dashboard infra/grafana"


def test_every_query_is_of_figures_in_the_table_of_metrics():
    cells = re.findall(r"^\| `([^`]+)` \|", (ROOT / "docs" / "metrics.md").read_text(), re.MULTILINE)
    known = [
        re.compile(re.sub(r"_(staleness_)?x_?$", r".*", metric_name(re.sub(r"<\w+>", "x", cell))) + "$")
        for cell in cells
    ]
    queries = [expr for panel in PANELS for expr, _ in panel.lines] + [alert.expr for alert in ALERTS]
    names = {name for query in queries for name in re.findall(r"rucksack_\w+", query)} - {HEARTBEAT}
    assert len(names) > 25
    assert [name for name in sorted(names) if not any(pattern.match(name) for pattern in known)] == []


def test_the_example_scrapes_the_ports_that_up_gives():
    config = Config(up={"metrics_port": 9400})
    ports = {spec.environment["RUCKSACK_METRICS_PORT"] for spec in Placement(config, Path("r.toml"), []).initial()}
    (scrape,) = yaml.safe_load((FOLDER / "prometheus.yaml").read_text())["scrape_configs"]
    assert {target.split(":")[1] for target in scrape["static_configs"][0]["targets"]} == ports


QUIET = {"rucksack_learner_logprob_gap_mean{worker='learner-0'}": "0.001x60"}
FIRING = {
    "ungraded": {"rucksack_verifier_verdicts{worker='verifier-0'}": "100x60",
                 "rucksack_verifier_outcome_timeout{worker='verifier-0'}": "6x60"},
    "zeros": {"rucksack_learner_reward_mean{worker='learner-0'}": "0x60",
              "rucksack_learner_step{worker='learner-0'}": "0+1x60"},
    "logprob_gap": {"rucksack_learner_logprob_gap_mean{worker='learner-0'}": "0.2x60"},
    "silent": {f"{HEARTBEAT}{{worker='verifier-0'}}": "0x60"},
    "down": {"up{job='rucksack', instance='localhost:9404'}": "0x60"},
    "lag": {"rucksack_consumer_lag{worker='producer-0'}": "0+100x60", "rucksack_consumer_lag{worker='producer-1'}": "0x60"},
}  # fmt: skip
CALM = {
    "ungraded": {"rucksack_verifier_verdicts{worker='verifier-0'}": "100x60",
                 "rucksack_verifier_outcome_timeout{worker='verifier-0'}": "4x60",
                 "rucksack_verifier_alarms{worker='verifier-0'}": "0x60"},
    "zeros": {"rucksack_learner_reward_mean{worker='learner-0'}": "0x30 0.1x30",
              "rucksack_learner_step{worker='learner-0'}": "0+1x60"},
    "logprob_gap": QUIET,
    "silent": {f"{HEARTBEAT}{{worker='verifier-0'}}": "0+10x60"},
    "down": {"up{job='rucksack', instance='localhost:9404'}": "1x60"},
    "lag": {"rucksack_consumer_lag{worker='producer-0'}": "500x60", "rucksack_consumer_lag{worker='verifier-0'}": "0+1x60",
            "rucksack_consumer_lag{worker='learner-0'}": "0+100x60"},
}  # fmt: skip


def firing(folder: Path, kind: str, series: dict[str, str]) -> bool:
    """Whether Prometheus's own tester finds the alert raised after 9 minutes of a series with a value every 10 s."""
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("no promtool here (Debian's package prometheus)")
    (folder / "alerts.yaml").write_text(texts()["alerts.yaml"])
    expectation = {"expr": f"count(ALERTS{{alertname='rucksack_{kind}', alertstate='firing'}})", "eval_time": "9m"}
    expectation["exp_samples"] = [{"labels": "{}", "value": 1}]
    case = {"interval": "10s", "input_series": [{"series": name, "values": values} for name, values in series.items()]}
    case["promql_expr_test"] = [expectation]
    (folder / "test.json").write_text(
        json.dumps({"rule_files": ["alerts.yaml"], "evaluation_interval": "10s", "tests": [case]})
    )
    done = subprocess.run(
        [promtool, "test", "rules", folder / "test.json"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0 or "exp:" in done.stderr + done.stdout, done.stderr + done.stdout
    return done.returncode == 0


@pytest.mark.parametrize("kind", [alert.kind for alert in ALERTS])
def test_an_alert_fires_when_it_should_and_only_then(tmp_path, kind):
    assert firing(tmp_path, kind, FIRING[kind])
    assert not firing(tmp_path, kind, CALM[kind])


# -- a real run -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def prometheus(tmp_path: Path) -> Iterator[tuple[int, int]]:
    """A Prometheus with the example's configuration, and the first port of the workers that it scrapes."""
    program = shutil.which("prometheus")
    if program is None:
        pytest.skip("no prometheus here (Debian's package prometheus)")
    first = choose_ports([1], None, None)[1].broker
    own = choose_ports([1], None, None)[1].controller
    (tmp_path / "alerts.yaml").write_text(texts()["alerts.yaml"])
    example = re.sub(
        r"localhost:94(\d\d)",
        lambda port: f"localhost:{first + int(port[1])}",
        (FOLDER / "prometheus.yaml").read_text(),
    )
    (tmp_path / "prometheus.yaml").write_text(example.replace("interval: 5s", "interval: 1s"))
    command = [program, f"--config.file={tmp_path}/prometheus.yaml", f"--storage.tsdb.path={tmp_path}/data",
               f"--web.listen-address=127.0.0.1:{own}"]  # fmt: skip
    with (tmp_path / "log").open("wb") as log, subprocess.Popen(command, stdout=log, stderr=log) as process:
        yield own, first
        process.terminate()


def query(port: int, expr: str) -> list[Any]:
    url = f"http://127.0.0.1:{port}/api/v1/query?{urllib.parse.urlencode({'query': expr})}"
    try:
        with urllib.request.urlopen(url, timeout=30) as answer:
            found: list[Any] = json.load(answer)["data"]["result"]
            return found
    except OSError:  # it is starting
        return []


@pytest.mark.slow
@pytest.mark.kafka
def test_every_panel_has_data_during_a_run_and_a_healthy_run_raises_no_alarm(prometheus, tmp_path):
    port, first = prometheus
    arguments = ["--run.dir", str(tmp_path / "runs"), "--run.num_updates", "400", "--prompts.num_heldout", "32",
                 "--prompts.num_prompts", "256", "--run.rollouts_per_update", "128", "--evaluator.base_samples", "1",
                 "--evaluator.every", "400", "--up.metrics_port", str(first)]  # fmt: skip
    missing = {expr for panel in PANELS for expr, _ in panel.lines}
    with (tmp_path / "up.log").open("wb") as log:
        command = [sys.executable, "-m", "infra.cli", "up", "configs/demo.toml", *arguments]
        run = subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=log)
    try:
        deadline = time.monotonic() + 400
        while missing and time.monotonic() < deadline and run.poll() is None:
            missing = {expr for expr in missing if not query(port, expr)}
            time.sleep(1.0)  # a scrape a second
        assert missing == set(), (tmp_path / "up.log").read_text()
        assert query(port, "ALERTS{alertstate='firing', alertname!='rucksack_down'}") == []
    finally:
        run.terminate()
        run.wait(60)
