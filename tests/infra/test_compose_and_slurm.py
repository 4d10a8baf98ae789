"""compose.yaml and the scripts for Slurm: valid, for every role, and with the environment that `rucksack up` gives."""

import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from infra.placement import Placement
from stream.config import load

ROOT = Path(__file__).parents[2]
RECIPE = ROOT / "configs" / "demo.toml"
WORKERS = ("learner", "allocator", "evaluator", "producer", "verifier")


def environment_of(role: str) -> set[str]:
    return set(Placement(load(RECIPE, ["--up.metrics_port", "9400"]), RECIPE, []).spec(role, 0).environment)


@pytest.fixture(scope="module")
def services() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((ROOT / "compose.yaml").read_text())["services"]
    return found


def test_compose_has_a_broker_and_every_role(services):
    assert services.keys() == {"broker", *WORKERS}
    for role in WORKERS:
        command = services[role]["command"]
        assert command[0] == role and services[role]["volumes"] == ["runs:/runs"]
        arguments = [word.replace("${RECIPE:-configs/demo.toml}", str(RECIPE)) for word in command[1:]]
        config = load(arguments[0], arguments[1:])
        assert config.broker.bootstrap_servers == "broker:9092" and str(config.run.dir) == "/runs"
        assert services[role]["depends_on"] == {"broker": {"condition": "service_healthy"}}


def test_compose_gives_the_environment_that_up_gives(services):
    for role in WORKERS:
        assert set(services[role]["environment"]) | {"RUCKSACK_WORKER"} == environment_of(role) | {"KAFKA_PASSWORD"}
        # A name in common would be a member of the consumer group twice.
        assert ("RUCKSACK_WORKER" in services[role]["environment"]) == (role not in ("producer", "verifier"))


def test_compose_itself_takes_the_file(tmp_path):
    compose = shutil.which("docker-compose")
    if compose is None:
        pytest.skip("no docker-compose here")
    done = subprocess.run(
        [compose, "-f", ROOT / "compose.yaml", "config", "-q"], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


# -- Slurm --------------------------------------------------------------------------------------------------------------


def bash(script: Path | str, *arguments: str, path: Path, **variables: str) -> "subprocess.CompletedProcess[str]":
    environment = os.environ | {"PATH": f"{path}:{os.environ['PATH']}"} | variables
    return subprocess.run(
        ["bash", script, *arguments], capture_output=True, text=True, env=environment, cwd=ROOT, timeout=120, check=False
    )  # fmt: skip


def program(folder: Path, name: str, text: str) -> Path:
    file = folder / name
    file.write_text(f"#!/bin/bash\n{text}\n")
    file.chmod(0o755)
    return file


@pytest.fixture
def slurm(tmp_path: Path) -> Path:
    """Programs of Slurm that note how they are called."""
    program(tmp_path, "sbatch", f'echo "sbatch $*" >> {tmp_path}/calls; wc -l < {tmp_path}/calls')
    program(tmp_path, "squeue", "true")
    program(tmp_path, "scontrol", f'echo "scontrol $*" >> {tmp_path}/calls; kill -TERM $PPID')
    program(tmp_path, "rucksack", f'exec {os.sys.executable} -m infra.cli "$@"')
    return tmp_path


def test_submit_sends_every_role_and_what_ends_the_run(slurm):
    done = bash(
        ROOT / "infra/slurm/submit.sh", str(RECIPE), "--run.dir", str(slurm), path=slurm, PRODUCERS="3",
        SBATCH_ALL="--partition=long", SBATCH_PRODUCER="--gres=gpu:1 --mem=8G", PYTHONPATH=str(ROOT),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("run demo submitted: learner 2, broker 1, report and summary by 7;")
    calls = (slurm / "calls").read_text().splitlines()
    names = [re.search(r"--job-name=rucksack-demo-(\w+)", call)[1] for call in calls]
    assert names == ["broker", "learner", "allocator", "evaluator", "producer", "verifier", "finish"]
    producer = calls[names.index("producer")]
    assert "--partition=long --gres=gpu:1 --mem=8G" in producer and "--array=0-2" in producer
    assert producer.endswith(f"role.sbatch producer {RECIPE} --run.dir {slurm}")
    assert "--dependency=afterany:2:3:4" in calls[-1]


def test_submit_refuses_a_run_that_is_in_the_queue(slurm):
    program(slurm, "squeue", "echo 1")
    done = bash(ROOT / "infra/slurm/submit.sh", str(RECIPE), "--run.dir", str(slurm), path=slurm, PYTHONPATH=str(ROOT))
    assert done.returncode == 2 and "run demo is in the queue already" in done.stderr
    assert not (slurm / "calls").exists()


ROLE = ROOT / "infra/slurm/role.sbatch"


@pytest.mark.parametrize("code", [0, 2, 4])
def test_a_worker_that_is_done_or_mistaken_ends_its_job(slurm, code):
    program(slurm, "rucksack", f'echo "$RUCKSACK_WORKER $*"; exit {code}')
    done = bash(ROLE, "producer", "r.toml", path=slurm, SLURM_ARRAY_TASK_ID="3")
    assert (done.returncode, done.stdout) == (code, "producer-3 producer r.toml\n")


def test_a_worker_that_dies_is_started_again_until_it_dies_too_often(slurm):
    program(slurm, "sleep", "true")
    program(slurm, "rucksack", "exit 137")
    done = bash(ROLE, "learner", "r.toml", path=slurm, MAX_DEATHS="2")
    assert (done.returncode, done.stdout) == (137, "learner-0 ended with 137: started again\n" * 2)


def test_a_worker_without_a_broker_is_started_again_as_often_as_it_takes(slurm):
    program(slurm, "sleep", "true")
    program(slurm, "rucksack", f"echo x >> {slurm}/starts; [ $(wc -l < {slurm}/starts) -gt 4 ] || exit 3")
    done = bash(ROLE, "learner", "r.toml", path=slurm, MAX_DEATHS="0")
    assert (done.returncode, done.stdout) == (0, "learner-0 ended with 3: started again\n" * 4)


@pytest.mark.parametrize(("signal", "requeued"), [("TERM", False), ("USR1", True)])
def test_preemption_stops_the_worker_and_the_time_limit_queues_it_again(slurm, signal, requeued):
    program(slurm, "sleep", "true")
    worker = f"trap 'echo stopped; exit 143' TERM; kill -{signal} $PPID; while :; do read -t 1 < <(:); done"
    program(slurm, "rucksack", worker)
    done = bash(ROLE, "learner", "r.toml", path=slurm, SLURM_JOB_ID="77")
    assert "stopped" in done.stdout
    if requeued:
        assert (slurm / "calls").read_text() == "scontrol requeue 77\n"
    else:
        assert done.returncode == 143 and not (slurm / "calls").exists()


def test_jobs_have_the_environment_that_up_gives():
    text = ROLE.read_text()
    for name in environment_of("learner") - {"RUCKSACK_METRICS_PORT"}:  # ports would meet on one node
        assert name in text
