import threading
from collections.abc import Callable

from factories import make_job, make_prompt, make_trajectory

from stream.config import Config, RunTable, VerifierTable
from stream.memory import MemoryBroker
from stream.messages import Verdict
from stream.run_topics import RunTopics
from stream.topics import TOPICS, TRAJECTORIES, VERDICTS, partition_of
from stream.worker import run_loop
from verifier.pool import Pool
from verifier.role import Verifier


def make_topics() -> RunTopics:
    broker = MemoryBroker()
    broker.create_topics("r", TOPICS, 4)
    return RunTopics(broker, "r", "verifier-0")


def put(topics: RunTopics, group_id: str, text: str, rollout: int = 0, **prompt: str) -> None:
    job = make_job(group_id, prompt=make_prompt(group_id, **prompt))
    topics.send_of_group(TRAJECTORIES, group_id, make_trajectory(job, rollout, text=text))


def run_until(topics: RunTopics, enough: Callable[[Verifier], bool], **table: float) -> Verifier:
    config = Config(run=RunTable(name="r"), verifier=VerifierTable(**table))
    role = Verifier(config, topics, Pool(1, timeout_s=20))
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
