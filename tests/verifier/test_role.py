import gc
import threading
import types
from collections import deque
from collections.abc import Callable

import pytest
from factories import make_job, make_prompt, make_trajectory

from stream import worker
from stream.config import Config, RunTable, VerifierTable
from stream.memory import MemoryBroker
from stream.messages import Verdict
from stream.run_topics import RunTopics
from stream.topics import TOPICS, TRAJECTORIES, VERDICTS, partition_of
from stream.watermark import Watermark
from stream.worker import run_loop
from verifier.grade import Grade
from verifier.pool import Pool
from verifier.role import Verifier


def make_topics() -> RunTopics:
    broker = MemoryBroker()
    broker.create_topics("r", TOPICS, 4)
    return RunTopics(broker, "r", "verifier-0")


def put(topics: RunTopics, group_id: str, text: str, rollout: int = 0, **prompt: str) -> None:
    job = make_job(group_id, prompt=make_prompt(group_id, **prompt))
    topics.send_of_group(TRAJECTORIES, group_id, make_trajectory(job, rollout, text=text))


class GradedAtOnce:
    """A pool without processes: every answer has this grade by the next call."""

    num_pending = 0

    def __init__(self, grade: Grade) -> None:
        self._grade = grade
        self._done: list[tuple[str, Grade, float]] = []

    def submit(self, key: str, grader: str, gold: str, answer: str) -> None:
        self._done.append((key, self._grade, 0.001))
        self.num_pending = len(self._done)

    def results(self, timeout_s: float) -> list[tuple[str, Grade, float]]:
        done, self._done, self.num_pending = self._done, [], 0
        return done

    def close(self) -> None:
        pass


def run_until(
    topics: RunTopics, enough: Callable[[Verifier], bool], pool: GradedAtOnce | None = None, **table: float
) -> Verifier:
    config = Config(run=RunTable(name="r"), verifier=VerifierTable(**table))
    role = Verifier(config, topics, pool or Pool(1, timeout_s=20))  # type: ignore[arg-type]
    stop = threading.Event()

    class Watched:
        wants_input = property(lambda _: role.wants_input)
        finished = property(lambda _: enough(role))

        def __getattr__(self, name: str) -> object:
            return getattr(role, name)

    reader = topics.reader(TRAJECTORIES, consumer_group="verifiers")
    run_loop(Watched(), topics, reader, stop, commits=True, poll_s=0.001)  # type: ignore[arg-type]
    return role


def verdicts(topics: RunTopics) -> list[Verdict]:
    return topics.read_all(VERDICTS)


def test_every_trajectory_gets_a_verdict_in_its_groups_partition_and_is_committed() -> None:
    topics = make_topics()
    texts = {"g0": "2", "g1": "3", "g2": "two", "g3": ""}
    for group_id, text in texts.items():
        put(topics, group_id, text)
    run_until(topics, lambda role: role.metrics()["verifier/verdicts"] == 4)
    found = {v.trajectory.job.group_id: v for v in verdicts(topics)}
    assert {group: v.outcome for group, v in found.items()} == {
        "g0": "correct",
        "g1": "wrong",
        "g2": "unparsable",
        "g3": "unparsable",
    }
    assert (found["g0"].reward, found["g0"].grader, found["g0"].graded) == (1.0, "integer", True)
    assert found["g0"].trajectory.text == "2"
    for group_id in texts:
        partition = partition_of(group_id, 4)
        assert group_id.encode() in {record.key for record in topics.broker.logs["r.verdicts"][partition]}
    assert sum(topics.broker.group_offsets("r.verifiers").values()) == 4


def test_a_task_without_real_grades_raises_the_alarm_in_the_heartbeat() -> None:
    topics = make_topics()
    for number in range(210):
        put(topics, f"bad{number}", "2", grader="nonesuch", task="bad")
        put(topics, f"good{number}", "2", task="good")
    role = run_until(topics, lambda role: role.metrics()["verifier/verdicts"] == 420)
    metrics = role.metrics()
    assert metrics["verifier/alarms"] == 1
    assert metrics["verifier/task/bad/ungraded_share"] == 1.0
    assert metrics["verifier/task/good/ungraded_share"] == 0.0
    assert (metrics["verifier/outcome/error"], metrics["verifier/outcome/correct"]) == (210, 210)
    first = next(verdict for verdict in verdicts(topics) if verdict.outcome == "error")
    assert (first.reward, first.graded) == (0.0, False)
    assert first.reason.startswith("there is no grader 'nonesuch'; known: choice, integer, math")


def test_what_a_model_may_write_becomes_a_verdict_that_can_be_sent() -> None:
    topics = make_topics()
    texts = {
        "nul": "\x00",
        "emoji": "\U0001f600" * 1000,
        "long": "9" * 100_000,
        "bidi": "\u202e42",
        "code": "__import__",
    }
    for group_id, text in texts.items():
        put(topics, group_id, text, grader="math", answer="x+1")
    run_until(topics, lambda role: role.metrics()["verifier/verdicts"] == len(texts))
    found = {v.trajectory.job.group_id: v.outcome for v in verdicts(topics)}
    assert set(found) == set(texts)
    assert set(found.values()) <= {"wrong", "unparsable"}


def test_what_the_grader_says_of_an_answer_is_in_its_verdict() -> None:
    topics = make_topics()
    put(topics, "g0", r"So \boxed{6+10}.")
    grade = Grade("wrong", 0.0, "no number", found_by="box", answer="6+10", rule="echo")
    role = run_until(topics, lambda role: role.metrics()["verifier/verdicts"] == 1, GradedAtOnce(grade))
    (verdict,) = verdicts(topics)
    assert (verdict.found_by, verdict.answer, verdict.rule, verdict.reason) == ("box", "6+10", "echo", "no number")
    assert role.metrics()["verifier/rule/echo"] == 1


def test_a_policy_cannot_void_its_samples_by_slow_answers() -> None:
    topics = make_topics()
    for number in range(300):
        put(topics, f"g{number}", "slow", task="sum")
    late = Grade("timeout", 0.0, "no verdict within 2 s")
    enough = lambda role: role.metrics()["verifier/verdicts"] == 300  # noqa: E731
    role = run_until(topics, enough, GradedAtOnce(late), max_timeout_share=0.1)
    outcomes = [(verdict.outcome, verdict.rule, verdict.graded) for verdict in verdicts(topics)]
    assert {kind: outcomes.count(kind) for kind in outcomes} == {
        ("timeout", "", False): 199,
        ("wrong", "timeout", True): 101,
    }
    metrics = role.metrics()
    assert (metrics["verifier/outcome/timeout"], metrics["verifier/rule/timeout"]) == (199, 101)
    assert (metrics["verifier/task/sum/timeout_share"], metrics["verifier/alarms"]) == (1.0, 1)


def num_items(held: object) -> int:
    """Items in all containers that can be reached from here, those of the run's topics aside."""
    seen: set[int] = set()
    waiting, total = [held], 0
    aside = (type, RunTopics, types.ModuleType, types.FunctionType, types.BuiltinFunctionType)
    while waiting:
        item = waiting.pop()
        if id(item) not in seen and not issubclass(type(item), aside):
            seen.add(id(item))
            total += len(item) if issubclass(type(item), dict | list | set | deque) else 0
            waiting += gc.get_referents(item)
    return total


def test_a_hundred_thousand_trajectories_leave_nothing_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    topics = make_topics()
    for number in range(100_000 // 4):
        job = make_job(f"p{number % 500}.{number:04d}", prompt=make_prompt(f"p{number % 500}"))
        for rollout in range(4):
            topics.send_of_group(TRAJECTORIES, job.group_id, make_trajectory(job, rollout))
    samples: dict[int, int] = {}
    watermark = Watermark()
    monkeypatch.setattr(worker, "Watermark", lambda: watermark)

    def enough(role: Verifier) -> bool:
        graded = int(role.metrics()["verifier/verdicts"])
        if graded >= 25_000 * (len(samples) + 1):
            samples[graded] = num_items(role)
        return graded == 100_000

    role = run_until(topics, enough, GradedAtOnce(Grade("correct", 1.0, "same number", "box", "2")))
    assert role.metrics()["verifier/outcome/correct"] == 100_000
    assert len(samples) == 4 and len(set(samples.values())) == 1, samples
    assert watermark.num_pending == 0
    assert sum(topics.broker.group_offsets("r.verifiers").values()) == 100_000
