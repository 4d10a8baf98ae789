"""Real processes: small Python programs in the place of roles."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from infra.placement import WorkerSpec
from infra.supervisor import Supervisor
from localkafka.process import wait_until
from stream.config import UpTable

QUICK = UpTable(max_restarts=3, restart_window_s=60, backoff_s=0.01)
FOREVER = "import signal; print('ready', flush=True); signal.pause()"


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture
def supervisor(said):
    made = Supervisor(QUICK, said.append)
    yield made
    made.stop(timeout_s=0)


@pytest.fixture
def spec(tmp_path: Path):
    def make(program: str, role: str = "learner", index: int = 0) -> WorkerSpec:
        log = tmp_path / f"{role}-{index}.log"
        return WorkerSpec(role, index, (sys.executable, "-c", program), {"RUCKSACK_WORKER": f"{role}-{index}"}, log)

    return make


def stepped_until(supervisor: Supervisor, condition, endless=()) -> bool:
    def step() -> bool:
        supervisor.step(endless=endless)
        return condition()

    return wait_until(step, 30)


def test_a_worker_that_ends_well_is_done_and_not_started_again(supervisor, spec, said):
    supervisor.add(spec("print('hello')"))
    worker = supervisor.workers["learner-0"]
    assert stepped_until(supervisor, lambda: worker.done)
    assert worker.restarts.total == 0
    assert worker.spec.log.read_text() == "hello\n"
    assert said == []


def test_a_killed_worker_comes_back(supervisor, spec, said):
    supervisor.add(spec(FOREVER))
    worker = supervisor.workers["learner-0"]
    before = worker.process.pid
    os.kill(before, signal.SIGKILL)
    assert stepped_until(supervisor, lambda: worker.process is not None and worker.process.pid != before)
    assert worker.restarts.total == 1
    assert said[0].startswith("learner-0 died (killed by SIGKILL); restarted in 0.0 s")


def test_a_worker_that_is_stopped_before_its_first_heartbeat_is_replaced(spec, said, monkeypatch):
    monkeypatch.setattr("infra.supervisor.STOPPED_S", 0.1)
    supervisor = Supervisor(UpTable(backoff_s=0.01, hang_s=0.1), said.append)
    supervisor.add(spec(FOREVER))
    worker = supervisor.workers["learner-0"]
    before = worker.process.pid
    os.kill(before, signal.SIGSTOP)
    assert stepped_until(supervisor, lambda: worker.process is not None and worker.process.pid != before)
    assert said[0] == "learner-0 is stopped (SIGSTOP) for 0 s: killed"
    supervisor.stop(timeout_s=0)


def test_an_endless_worker_is_restarted_although_it_ended_well(supervisor, spec):
    supervisor.add(spec("pass", role="verifier"))
    worker = supervisor.workers["verifier-0"]
    assert stepped_until(supervisor, lambda: worker.restarts.total == 2, endless=("verifier",))


def test_a_worker_that_keeps_dying_ends_the_run_with_its_own_words(supervisor, spec):
    supervisor.add(spec("import sys; print('rucksack learner: out of luck', file=sys.stderr); sys.exit(1)"))
    assert stepped_until(supervisor, lambda: supervisor.failure is not None)
    assert supervisor.workers["learner-0"].restarts.total == 3
    assert "died 4 times within 60 s" in supervisor.failure
    assert supervisor.failure.endswith("says: out of luck")


@pytest.mark.parametrize("code", [2, 4])
def test_a_users_mistake_is_not_tried_again(supervisor, spec, code):
    supervisor.add(spec(f"import sys; print('rucksack learner: no such model', file=sys.stderr); sys.exit({code})"))
    assert stepped_until(supervisor, lambda: supervisor.failure is not None)
    assert supervisor.failure == "learner-0 gave up: no such model"
    assert supervisor.workers["learner-0"].restarts.total == 0


def test_a_worker_that_was_stopped_from_outside_is_not_taken_for_done(supervisor, spec):
    supervisor.add(spec("import sys; sys.exit(143)"))
    worker = supervisor.workers["learner-0"]
    assert stepped_until(supervisor, lambda: worker.restarts.total == 1)
    assert not worker.done


def test_a_removed_worker_is_stopped_and_forgotten(supervisor, spec):
    supervisor.add(spec(FOREVER, "producer", 0))
    supervisor.add(spec(FOREVER, "producer", 1))
    supervisor.remove("producer-1")
    assert [worker.spec.name for worker in supervisor.of_role("producer")] == ["producer-0"]
    assert stepped_until(supervisor, lambda: "producer-1" not in supervisor.workers, endless=("producer",))


def test_stop_kills_what_does_not_listen_and_what_it_started(supervisor, spec, said, tmp_path):
    program = (
        "import signal, subprocess, sys\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        f"child = subprocess.Popen([sys.executable, '-c', {FOREVER!r}])\n"
        f"open({str(tmp_path / 'child')!r} + '.tmp', 'w').write(str(child.pid))\n"
        f"import os; os.rename({str(tmp_path / 'child')!r} + '.tmp', {str(tmp_path / 'child')!r})\n"
        "signal.pause()\n"
    )
    supervisor.add(spec(program))
    assert wait_until((tmp_path / "child").exists, 20)
    child = int((tmp_path / "child").read_text())
    pid = supervisor.workers["learner-0"].process.pid
    supervisor.stop(timeout_s=0.2)
    assert said == ["learner-0 did not stop within 0 s: killed"]
    assert not psutil.pid_exists(pid)
    assert wait_until(lambda: not psutil.pid_exists(child) or psutil.Process(child).status() == "zombie", 20)


def test_workers_die_with_a_supervisor_that_is_killed(tmp_path):
    program = (
        "import sys, signal\n"
        "from pathlib import Path\n"
        "from infra.placement import WorkerSpec\n"
        "from infra.supervisor import Supervisor\n"
        "from stream.config import UpTable\n"
        "supervisor = Supervisor(UpTable(), print)\n"
        f"supervisor.add(WorkerSpec('learner', 0, (sys.executable, '-c', {FOREVER!r}), {{}}, Path({str(tmp_path)!r}) / 'log'))\n"
        "print(supervisor.workers['learner-0'].process.pid, flush=True)\n"
        "signal.pause()\n"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as parent:
        worker = psutil.Process(int(parent.stdout.readline()))
        assert wait_until(lambda: (tmp_path / "log").read_text() == "ready\n", 20)
        parent.kill()
    assert wait_until(lambda: not worker.is_running() or worker.status() == "zombie", 20)
