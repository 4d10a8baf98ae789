"""A whole run as a user starts it: real broker, vLLM, verifier and learner. Every role and the broker are killed with
SIGKILL, one hangs (SIGSTOP), garbage is written to every topic, the run is interrupted by Ctrl-C and resumed; then the log
must account for every group."""

import gc
import itertools
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import pytest

ROOT = Path(__file__).parent.parent
NUM_UPDATES, PROMPTS_PER_UPDATE = 120, 16
NUM_ROLLOUTS = NUM_UPDATES * PROMPTS_PER_UPDATE * 8
RECIPE = f"""
[run]
name = "e2e"
model = "demo/base"
num_updates = {NUM_UPDATES}
prompts_per_update = {PROMPTS_PER_UPDATE}
rollouts_per_prompt = 8
max_staleness = 1
dir = "{{dir}}"

[prompts]
source = "codes"
num_prompts = 128
num_heldout = 64

[sampling]
max_tokens = 8

[allocator]
mode = "{{mode}}"
lease_s = 20

[producer]
dtype = "float32"
max_model_len = 32
kv_cache_gib = 0.125
max_num_seqs = 128

[learner]
checkpoint_every = 3
keep_policies = 1000

[evaluator]
every = 100
pool = false
base_samples = 0

[up]
backoff_s = 0.2
hang_s = 15
"""
GARBAGE = b"\x93\x01garbage"


@dataclass
class Observed:
    """What was seen while the run was driven."""

    killed: list[str] = field(default_factory=list)
    back: list[str] = field(default_factory=list)
    interrupted_code: int | None = None
    left_after_interrupt: list[str] = field(default_factory=list)
    final_code: int | None = None
    left_at_end: list[str] = field(default_factory=list)
    scaled: str = ""
    output: str = ""


class Driver:
    """`rucksack up` as a process, and a reader of its topics: what is waited for is a record of the log."""

    def __init__(self, folder: Path) -> None:
        self.runs = folder / "runs"
        self.recipe = folder / "e2e.toml"
        self.recipe.write_text(RECIPE.format(dir=self.runs, mode=folder.name.rstrip("0123456789")))
        self.output = folder / "output.txt"
        self.pids: dict[str, int] = {}
        self.step = 0
        self._broker: Any = None
        self._reader: Any = None

    def up(self) -> None:
        with self.output.open("ab") as output:
            command = [sys.executable, "-m", "infra.cli", "up", str(self.recipe)]
            self.process = subprocess.Popen(command, cwd=ROOT, stdout=output, stderr=output, start_new_session=True)

    def connect(self) -> None:
        from stream.config import load
        from stream.launch import connect
        from stream.topics import HEARTBEATS, TOPICS, UPDATES

        config = load(self.recipe, ["--broker.timeout_s", "90"])
        address = self.runs / "e2e" / "broker.address"
        self.until(address.is_file, poll=False)
        self._broker = connect(config)
        self._broker.create_topics("e2e", TOPICS, config.broker.partitions)
        self._reader = self._broker.reader([UPDATES.of("e2e"), HEARTBEATS.of("e2e")])

    def disconnect(self) -> None:
        self._reader.close()
        self._broker.close()
        self._reader = self._broker = None
        gc.collect()  # the sockets that the killed broker left, now that the warnings' filters hold

    def until(self, condition: Callable[[], Any], timeout_s: float = 240.0, *, poll: bool = True) -> None:
        """Follow the log until it holds."""
        deadline = time.monotonic() + timeout_s
        while not condition():
            assert time.monotonic() < deadline, f"waited {timeout_s:.0f} s\n{self.output.read_text()}"
            assert self.process.poll() is None, f"ended with {self.process.returncode}\n{self.output.read_text()}"
            if poll:
                self._follow()
            else:
                time.sleep(0.05)  # a file of another process sends no event

    def _follow(self) -> None:
        from stream.codec import decode
        from stream.errors import BadRecord
        from stream.messages import Heartbeat
        from stream.topics import topic_of

        for record in self._reader.poll(0.2):
            try:
                message = decode(record.value, topic_of(record.topic).message_type)
            except BadRecord:
                continue
            if isinstance(message, Heartbeat):
                self.pids[message.worker] = message.pid
            else:
                self.step = message.step

    def write_garbage(self) -> None:
        from stream.topics import TOPICS

        writer = self._broker.writer(name="e2e.vandal")
        for topic in TOPICS:
            writer.send(topic.of("e2e"), b"vandal", GARBAGE, partition=0)
        writer.close()

    def kill(self, worker: str) -> int:
        os.kill(self.pids[worker], signal.SIGKILL)
        return self.pids[worker]

    def kill_broker(self) -> None:
        (file,) = (self.runs / "e2e" / "kafka").rglob("broker.pid")
        os.kill(int(file.read_text()), signal.SIGKILL)

    def left(self) -> list[str]:
        """Processes that still have to do with this run."""
        found = []
        for process in psutil.process_iter(["pid", "cmdline"]):
            command = " ".join(process.info["cmdline"] or ())
            if str(self.runs.parent) in command and process.pid != os.getpid() and "pytest" not in command:
                found.append(command)
        return found


def rucksack(*arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "infra.cli", *arguments], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module", params=["paper", "learnability"])
def folder(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Path:
    """Once with groups, once with single rollouts measured against beliefs; the name of the folder is the mode's."""
    return tmp_path_factory.mktemp(request.param)


@pytest.fixture(scope="module")
def observed(folder: Path) -> Iterator[Observed]:
    driver, seen = Driver(folder), Observed()
    driver.up()
    try:
        driver.connect()
        driver.until(lambda: driver.step >= 1)
        driver.write_garbage()
        seen.scaled = rucksack("scale", "verifiers=2", "--dir", str(driver.runs))
        for worker in ("producer-0", "verifier-0", "learner-0", "allocator-0"):
            step = driver.step
            driver.until(lambda step=step, worker=worker: driver.step > step and worker in driver.pids)
            pid = driver.kill(worker)
            seen.killed.append(worker)
            driver.until(lambda worker=worker, pid=pid: driver.pids[worker] != pid)
            seen.back.append(worker)
        hung = driver.pids["verifier-0"]
        os.kill(hung, signal.SIGSTOP)
        driver.until(lambda: driver.pids["verifier-0"] != hung)
        driver.kill_broker()
        driver.until(lambda: "broker node 1 died" in driver.output.read_text())
        step = driver.step  # all that was on the log by then is read
        driver.until(lambda: driver.step > step + 1)
        driver.process.send_signal(signal.SIGINT)
        seen.interrupted_code = driver.process.wait(120)
        seen.left_after_interrupt = driver.left()
        driver.disconnect()
        driver.up()
        seen.final_code = driver.process.wait(600)
        seen.left_at_end = driver.left()
        seen.output = driver.output.read_text()
        yield seen
    finally:
        if driver.process.poll() is None:
            driver.process.kill()
            driver.process.wait()


@pytest.fixture(scope="module")
def data(observed: Observed, folder: Path) -> Any:
    from replay.load import read_run
    from replay.source import Location, open_run

    assert observed.final_code == 0, observed.output
    with open_run(Location(folder / "runs"), "e2e") as (broker, name, _path):
        return read_run(broker, name)


pytestmark = [pytest.mark.kafka, pytest.mark.slow, pytest.mark.timeout(1800)]


def test_every_killed_role_comes_back_and_the_run_ends_by_itself(observed: Observed) -> None:
    assert observed.back == observed.killed == ["producer-0", "verifier-0", "learner-0", "allocator-0"]
    assert observed.final_code == 0, observed.output
    for worker in observed.killed:
        assert f"{worker} died (killed by SIGKILL); restarted" in observed.output
    assert "verifier-0 has sent no heartbeat for" in observed.output
    assert "broker node 1 died; restarted in" in observed.output
    assert observed.scaled == "verifiers: 1 -> 2\n"


def test_ctrl_c_ends_the_run_cleanly_and_leaves_no_process(observed: Observed) -> None:
    assert observed.interrupted_code == 128 + signal.SIGINT
    assert observed.left_after_interrupt == []
    assert observed.left_at_end == []


def test_every_admitted_group_ends_exactly_once_in_the_lineage_that_survives(data: Any) -> None:
    ends = Counter(end.group_id for update in data.lineage.surviving for end in update.groups)
    assert set(ends) == data.admitted
    assert set(ends.values()) == {1}
    assert sum(end.num_rollouts for update in data.lineage.surviving for end in update.groups) == NUM_ROLLOUTS
    assert data.lineage.finished


def test_an_update_is_of_whole_groups_or_of_the_rollouts_that_come_first(data: Any) -> None:
    steps = [update.groups for update in data.lineage.surviving if update.groups]
    if {group.mode for group in data.groups.values() if group.train} == {"paper"}:
        assert {len(groups) for groups in steps} == {PROMPTS_PER_UPDATE}
        return
    assert {end.ending for groups in steps for end in groups} == {"trained"}
    sizes = [end.num_rollouts for groups in steps for end in groups]
    ended = list(itertools.accumulate(sum(end.num_rollouts for end in groups) for groups in steps))
    for update, total in enumerate(ended, 1):  # the last group of an update may reach into the next
        assert 0 <= total - update * NUM_ROLLOUTS // NUM_UPDATES < max(sizes)


def test_versions_are_never_used_twice_and_the_killed_learner_rolled_back(data: Any) -> None:
    assert data.lineage.num_resumes >= 2  # the kill, and the restart after Ctrl-C
    assert data.lineage.num_duplicates == 0
    assert [update.step for update in data.lineage.surviving if update.groups] == list(range(1, NUM_UPDATES + 1))


def test_every_rollout_counts_once_and_every_round_meets_its_budget(data: Any) -> None:
    by_group = Counter(data.training["group"].tolist())
    groups = [group for group in data.groups.values() if group.train]
    assert {g.index: by_group[g.index] for g in groups} == {g.index: g.num_rollouts for g in groups}
    assert len(data.training) == NUM_ROLLOUTS


def test_garbage_goes_to_deadletters_from_every_topic_that_a_role_reads(data: Any) -> None:
    buried = {letter.topic.rpartition(".")[2] for letter in data.dead_letters if letter.value == GARBAGE}
    assert buried == {
        "jobs", "trajectories", "verdicts", "weights", "policies", "updates", "evaluations", "heartbeats"
    }  # fmt: skip


def test_no_token_is_labelled_with_a_version_that_did_not_sample_it(data: Any, folder: Path) -> None:
    """Log-probabilities computed again, from weights rebuilt from the log: of every second version that sampled something."""
    from weights_audit import audit

    from replay.source import Location, open_run
    from stream.snapshot import messages
    from stream.topics import TRAJECTORIES

    with open_run(Location(folder / "runs"), "e2e") as (broker, name, _path):
        by_version: dict[int, list[Any]] = {}
        for trajectory in messages(broker, name, TRAJECTORIES):
            if trajectory.job.purpose == "train" and len(trajectory.spans) == 1:
                by_version.setdefault(trajectory.min_policy_version, []).append(trajectory)
        sample = [trajectory for version in sorted(by_version)[::2] for trajectory in by_version[version][-1:]]
        result = audit(broker, name, ROOT / "demo" / "base", sample)
    assert result.num_skipped == 0
    assert len(result.versions) == len(sample) > NUM_UPDATES / 4
    assert result.largest_gap < 1e-3
    assert result.largest_gap_elsewhere > 1e-2  # so a wrong label would have been seen


def test_report_and_model_are_there_and_the_model_loads(observed: Observed, folder: Path) -> None:
    from safetensors.numpy import load_file
    from transformers import AutoModelForCausalLM, AutoTokenizer

    run = folder / "runs" / "e2e"
    page = (run / "report.html").read_text()
    assert 'src="http' not in page
    assert "every admitted group ended exactly once" in page
    last = json.loads((run / "model" / "rucksack.json").read_text())["version"]
    rucksack(
        "replay",
        "policy",
        "e2e",
        "--dir",
        str(folder / "runs"),
        "--version",
        str(last),
        "--out",
        str(folder / "rebuilt"),
    )
    saved, published = (load_file(path / "model.safetensors") for path in (run / "model", folder / "rebuilt"))
    assert saved.keys() == published.keys()
    assert all((saved[name] == published[name]).all() for name in saved)
    model = AutoModelForCausalLM.from_pretrained(run / "model")
    tokenizer = AutoTokenizer.from_pretrained(run / "model")
    prompt = tokenizer("c00 4 7 3 8 =", return_tensors="pt")["input_ids"]
    answer = model.generate(input_ids=prompt, max_new_tokens=8, do_sample=False)
    assert tokenizer.decode(answer[0, prompt.shape[1] :], skip_special_tokens=True).isdigit()


def test_a_run_that_is_done_is_not_trained_again(observed: Observed, folder: Path) -> None:
    said = rucksack("up", str(folder / "e2e.toml"))
    assert "run e2e is done already: nothing is started" in said
    assert "every admitted group ended exactly once" in said
