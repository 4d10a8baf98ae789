import io
import json
from pathlib import Path

import pytest
from factories import make_job, make_prompt, make_trajectory
from rich.console import Console

from replay.cli import main
from replay.rescore import NO_VERDICT, print_rescored, rescore
from stream.codec import decode
from stream.errors import UserError
from stream.kafka import KafkaBroker
from stream.memory import MemoryBroker
from stream.messages import Verdict
from stream.run_topics import RunTopics
from stream.topics import TOPICS, TRAJECTORIES, VERDICTS


def make_run() -> MemoryBroker:
    """Four rollouts graded as strings, one of them twice, and one that was never graded."""
    broker = MemoryBroker()
    broker.create_topics("r", TOPICS, 2)
    topics = RunTopics(broker, "r", "test")
    texts = {"p0.0000": "2", "p1.0000": r"\boxed{2}", "p2.0000": "3", "p3.0000": "\x1b[31m[bold]3"}
    for number, (group_id, text) in enumerate(texts.items()):
        job = make_job(group_id, 1, prompt=make_prompt(f"p{number}", answer="2", grader="string"))
        trajectory = make_trajectory(job, text=text)
        topics.send_of_group(TRAJECTORIES, group_id, trajectory)
        if number == 3:
            continue
        outcome = "correct" if text == "2" else "wrong"
        verdict = Verdict(trajectory=trajectory, outcome=outcome, reward=float(text == "2"), reason="was")
        topics.send_of_group(VERDICTS, group_id, verdict)
    topics.send_of_group(TRAJECTORIES, "p0.0000", make_trajectory(make_job("p0.0000", 1), text="a later record"))
    topics.writer.send("r.trajectories", b"k", b"garbage", partition=0)
    return broker


def test_rescoring_tells_what_changed_and_writes_verdicts_beside_the_old_ones() -> None:
    broker = make_run()
    num_old = sum(map(len, broker.logs["r.verdicts"]))
    result = rescore(broker, "r", "integer")
    assert result.counts == {
        ("correct", "correct"): 1,
        ("wrong", "correct"): 1,
        ("wrong", "wrong"): 1,
        (NO_VERDICT, "wrong"): 1,
    }
    assert (result.num_changed, result.num_unreadable, result.topic) == (2, 1, "r.rescored-integer-1")
    (example,) = result.examples["wrong", "correct"]
    assert (example.prompt_id, example.answer, example.old_reason, example.new_reason) == (
        "p1",
        r"\boxed{2}",
        "was",
        "same integer",
    )
    records = [record for log in broker.logs["r.rescored-integer-1"] for record in log]
    new = {v.trajectory.job.group_id: v for v in (decode(record.value, Verdict) for record in records)}
    assert {group: (v.outcome, v.reward, v.grader) for group, v in new.items()} == {
        "p0.0000": ("correct", 1.0, "integer"),
        "p1.0000": ("correct", 1.0, "integer"),
        "p2.0000": ("wrong", 0.0, "integer"),
        "p3.0000": ("wrong", 0.0, "integer"),
    }
    assert [(new[group].found_by, new[group].answer) for group in ("p0.0000", "p1.0000")] == [
        ("whole", "2"),
        ("box", "2"),
    ]
    assert sum(map(len, broker.logs["r.verdicts"])) == num_old
    assert rescore(broker, "r", "integer").topic == "r.rescored-integer-2"


def test_the_report_shows_table_and_examples_without_obeying_completions() -> None:
    output = io.StringIO()
    print_rescored(rescore(make_run(), "r", "integer"), Console(file=output, width=200))
    text = output.getvalue()
    assert "2 of 4 outcomes changed; new verdicts of grader integer are in topic r.rescored-integer-1" in text
    assert "wrong -> correct: 1" in text
    assert "[31m[bold]3" in text and "\x1b[31m" not in text
    assert text.index("wrong -> correct") < text.index("correct -> correct")


def test_mistakes_are_told() -> None:
    with pytest.raises(UserError, match="there is no grader 'nope'"):
        rescore(make_run(), "r", "nope")
    with pytest.raises(UserError, match="run 'other' has no topic of trajectories"):
        rescore(make_run(), "other", "math")


def test_the_command_on_a_real_broker(kafka: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    broker = KafkaBroker(kafka)
    broker.create_topics("again", TOPICS, 2)
    topics = RunTopics(broker, "again", "test")
    for number in range(20):
        job = make_job(f"p{number}.0000", 1, prompt=make_prompt(f"p{number}", answer="2", grader="string"))
        trajectory = make_trajectory(job, text=r"\boxed{2}" if number % 2 else "2")
        topics.send_of_group(TRAJECTORIES, job.group_id, trajectory)
        outcome = "wrong" if number % 2 else "correct"
        topics.send_of_group(
            VERDICTS, job.group_id, Verdict(trajectory=trajectory, outcome=outcome, reward=float(number % 2 == 0))
        )
    topics.writer.flush()
    out = tmp_path / "changed.json"
    options = ["--grader", "integer", "--bootstrap-servers", kafka, "--dir", str(tmp_path), "--out", str(out)]
    assert main(["rescore", "again", *options]) == 0
    assert "10 of 20 outcomes changed" in capsys.readouterr().out
    written = json.loads(out.read_text())
    assert [(cell["old"], cell["new"], cell["count"]) for cell in written["cells"]] == [
        ("correct", "correct", 10),
        ("wrong", "correct", 10),
    ]
    assert sum(broker.end_offsets("again.rescored-integer-1").values()) == 20
    with pytest.raises(UserError, match=f"--out {tmp_path} cannot be written"):
        main(["rescore", "again", *options[:-1], str(tmp_path)])
    assert not broker.partitions("again.rescored-integer-2")  # it is told before anything is graded
    topics.writer.close()
    broker.close()
