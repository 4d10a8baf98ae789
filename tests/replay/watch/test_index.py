"""The index holds what the report reads from the topics, and goes on where it was."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from factories import make_job, make_prompt, make_trajectory, make_verdict

from replay import figures
from replay.load import read_run
from replay.watch.follow import SHOWN
from replay.watch.index import Index, Mark
from replay.watch.rows import pack, unpack
from replay.watch.views import IndexView, steps_of
from stream.broker import Record
from stream.codec import encode
from stream.errors import UserError
from stream.messages import Budgeting, Heartbeat, Span
from stream.run_topics import RunTopics
from stream.topics import HEARTBEATS, JOBS, UPDATES, VERDICTS


def same(found, expected):
    """Compare two dataclasses of numpy columns."""
    for field in dataclasses.fields(expected):
        one, other = getattr(found, field.name), getattr(expected, field.name)
        if isinstance(other, dict):
            assert one.keys() == other.keys()
            assert all(np.allclose(one[key], other[key], equal_nan=True) for key in other), field.name
        else:
            assert np.allclose(one, other, equal_nan=True, atol=1e-4), field.name


@pytest.mark.parametrize("mode", ["uniform", "paper", "learnability"])
def test_the_plots_are_those_of_the_report(broker, make_run, fill, mode):
    make_run(broker, mode=mode)
    found, expected = IndexView(fill(), 0), figures.view_of(read_run(broker, "made"), 0)
    assert found.accuracy == expected.accuracy
    # The page draws the learner's own histogram of ages instead.
    nothing = np.full_like(expected.updates.gap_shares, np.nan)
    same(found.updates, dataclasses.replace(expected.updates, gap_shares=nothing))
    same(found.times, expected.times)
    same(found.forecasts, expected.forecasts)
    assert str(found.budgets) == str(expected.budgets)


def test_only_the_first_record_of_a_rollout_counts_also_when_all_is_read_again(broker, make_run, fill):
    expected = make_run(broker)
    index = fill()
    before = index.rows("SELECT count(*), sum(num_tokens), sum(graded * reward) FROM rollouts WHERE train")
    assert before[0][:2] == (expected.num_rollouts, expected.num_tokens)
    reader = broker.reader([topic.of("made") for topic in SHOWN])
    while records := reader.poll(0.0):
        index.take(records)
    assert index.rows("SELECT count(*), sum(num_tokens), sum(graded * reward) FROM rollouts WHERE train") == before
    assert index.rows("SELECT sum(num_rollouts), sum(num_groups) FROM prompts") == [(288, 36)]


def test_it_reads_on_where_it_was(broker, make_run, fill):
    make_run(broker, final=False)
    first = fill()
    changes = first.rows("SELECT count(*) FROM rollouts")
    first.close()
    topics = RunTopics(broker, "made", "w")
    topics.send_of_group(VERDICTS, "new", make_verdict("new"))
    again = Index(first.file, "made")
    reader = broker.reader([VERDICTS.of("made")])
    reader.seek({place: offset for place, offset in again.offsets().items() if place[0] == VERDICTS.of("made")})
    (record,) = reader.poll(0.0)
    again.take([record])
    assert again.rows("SELECT count(*) FROM rollouts") == [(changes[0][0] + 1,)]
    again.close()


def test_updates_that_a_crash_made_void_do_not_count(broker, make_run, fill):
    make_run(broker)
    steps = steps_of(fill())
    assert ([step.step for step in steps.steps], steps.num_rolled_back) == ([1, 2, 3, 4, 5, 6], 2)
    assert steps.finished and steps.complete


def test_a_batch_is_kept_whole_or_not_at_all(broker, make_run, fill):
    make_run(broker)
    index = fill()
    before = index.rows("SELECT count(*) FROM rollouts"), index.offsets()
    good = Record(VERDICTS.of("made"), 0, 999, b"", encode(make_verdict("new")), 0)

    def interrupted():
        yield good
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        index.take(interrupted())
    assert (index.rows("SELECT count(*) FROM rollouts"), index.offsets()) == before


def test_a_number_too_large_for_the_index_is_left_out_and_the_rest_kept(broker, make_run, fill):
    make_run(broker)
    index = fill()
    topic = HEARTBEATS.of("made")
    huge = Heartbeat(worker="w-0", pid=1 << 63, host="h", state="running", created_s=5.0)
    fine = Heartbeat(worker="w-1", pid=1, host="h", state="running", created_s=5.0)
    index.take([Record(topic, 0, 50 + i, b"", encode(m), 0) for i, m in enumerate((huge, fine))])
    assert index.rows("SELECT worker FROM heartbeats WHERE worker LIKE 'w-%'") == [("w-1",)]
    assert index.offsets()[topic, 0] == 52


def test_of_a_stretch_the_newest_heartbeat_is_kept(fill, broker, make_run):
    make_run(broker)
    index = fill()
    beats = [Heartbeat(worker="w-0", pid=1, host="h", state=s, created_s=t) for s, t in (("a", 1), ("b", 9), ("c", 10))]
    index.take([Record(HEARTBEATS.of("made"), 0, 50 + i, b"", encode(beat), 0) for i, beat in enumerate(beats)])
    assert index.rows("SELECT state FROM heartbeats WHERE worker = 'w-0' ORDER BY stretch") == [("b",), ("c",)]


def test_another_schema_begins_anew(tmp_path: Path, broker, make_run, fill):
    make_run(broker)
    index = fill()
    assert index.newest_update() == Mark.of(broker.logs[UPDATES.of("made")][0][-1])
    other = Index(index.file, "other")
    assert other.offsets() == {} and other.newest_update() is None
    other.close()


def test_a_file_that_is_no_index_is_named(tmp_path: Path):
    file = tmp_path / "x.sqlite"
    file.write_text("this is no database, and long enough to look like one" * 50)
    with pytest.raises(UserError, match=r"x\.sqlite cannot be used"):
        Index(file, "x")


def test_a_completion_comes_back():
    spans = (Span(policy_version=3, start=0, stop=1), Span(policy_version=4, start=1, stop=3))
    logprobs = np.array([-0.25, -1e-6, -3.0], np.float32)
    text = "a\x00\u202e\U0001f600"
    found = unpack(
        pack(make_trajectory(token_ids=[7, 8, 2_000_000_000], spans=spans, behavior_logprobs=logprobs, text=text))
    )
    assert (found.text, found.token_ids.tolist()) == (text, [7, 8, 2_000_000_000])
    assert found.spans == [(3, 0, 1), (4, 1, 3)]
    assert np.allclose(found.logprobs, logprobs, atol=1e-3)


def test_what_is_believed_of_a_prompt_is_the_newest_whatever_the_order_of_partitions(fill, broker, make_run):
    make_run(broker)
    index = fill()
    for number, (at, rate) in enumerate(((5e9, 0.75), (4e9, 0.25))):
        why = Budgeting(mode="uniform", success_rate=rate, num_observed=8, value=0, price=0)
        job = make_job(f"fresh.{number}", prompt=make_prompt("fresh"), budgeting=why, created_s=at)
        index.take([Record(JOBS.of("made"), 0, 90 + number, b"", encode(job), 0)])
    assert index.rows("SELECT believed, num_groups FROM prompts WHERE prompt_id = 'fresh'") == [(0.75, 2)]
