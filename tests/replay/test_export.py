"""Parquet files hold every record, say which count, and read back what was sent."""

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from replay.cli import EXAMPLE_QUERY
from replay.columns import arrow_type, columns_of
from replay.export import export_run
from replay.load import read_run
from replay.summary import summarize
from stream.codec import decode
from stream.messages import Trajectory, Verdict
from stream.topics import TOPICS, TRAJECTORIES, WEIGHTS


def test_export_writes_a_file_for_every_topic(broker, make_run, tmp_path):
    expected = make_run(broker)
    exported = {of.topic: of for of in export_run(broker, "made", tmp_path)}
    exportable = [topic for topic in TOPICS if topic is not WEIGHTS]
    assert set(exported) == {topic.name for topic in exportable}
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(f"{topic.name}.parquet" for topic in exportable)
    assert exported["verdicts"].num_rows == expected.num_rollouts + expected.num_duplicates
    assert exported["verdicts"].num_counting == expected.num_rollouts
    assert exported["verdicts"].num_unreadable == 1
    assert (exported["updates"].num_rows, exported["updates"].num_counting) == (9, 7)


def test_exported_trajectories_hold_what_was_sent(broker, make_run, tmp_path):
    make_run(broker)
    export_run(broker, "made", tmp_path)
    rows = pq.read_table(tmp_path / "trajectories.parquet").to_pylist()
    for row in rows[:40]:
        record = broker.logs["made.trajectories"][row["record_partition"]][row["record_offset"]]
        sent = decode(record.value, TRAJECTORIES.message_type)
        assert row["token_ids"] == sent.token_ids.tolist()
        assert np.array_equal(np.float32(row["behavior_logprobs"]), sent.behavior_logprobs)
        assert row["spans"][1]["policy_version"] == sent.spans[1].policy_version
        assert (row["text"], row["prompt_text"]) == (sent.text, sent.job.prompt.text)
        assert row["budgeting_success_rate"] == sent.job.budgeting.success_rate


def test_exported_updates_keep_groups_and_metrics(broker, make_run, tmp_path):
    make_run(broker)
    export_run(broker, "made", tmp_path)
    rows = pq.read_table(tmp_path / "updates.parquet").to_pylist()
    assert {row["groups"][0]["ending"] for row in rows if row["groups"]} <= {"trained", "zero_variance", "abandoned"}
    assert dict(rows[0]["metrics"])["learner/grad_norm"] == 0.5


def test_duckdb_query_counts_like_the_summary(broker, make_run, tmp_path):
    make_run(broker)
    export_run(broker, "made", tmp_path)
    rows = duckdb.sql(EXAMPLE_QUERY.format(folder=tmp_path)).fetchall()
    assert [level for level, _, _ in rows] == ["hard", "middle", "easy"]
    data = read_run(broker, "made")
    assert sum(count for _, count, _ in rows) == int(data.training["graded"].sum())
    assert summarize(data).num_rollouts - 4 == sum(count for _, count, _ in rows)


def test_export_of_a_run_without_records_writes_empty_files(broker, tmp_path):
    broker.create_topics("empty", TOPICS, 1)
    assert {of.num_rows for of in export_run(broker, "empty", tmp_path)} == {0}
    assert pq.read_table(tmp_path / "verdicts.parquet").num_rows == 0


def test_what_is_missing_is_null(broker, make_run, tmp_path):
    make_run(broker)
    export_run(broker, "made", tmp_path)
    (commit,) = pq.read_table(tmp_path / "beliefs.parquet").to_pylist()
    assert (commit["slot"], commit["base"], commit["debt"]) == (0, None, None)
    (belief,) = commit["beliefs"]
    assert (belief["num_correct"], belief["open_group"]) == (9.0, None)


@pytest.mark.parametrize("topic", TOPICS, ids=lambda topic: topic.name)
def test_columns_have_names_of_their_own_and_types(topic):
    columns = columns_of(topic.message_type)
    assert len({column.name for column in columns}) == len(columns)


def test_inner_names_give_way_to_outer_ones():
    names = {column.name: column.path for column in columns_of(Verdict)}
    assert names["created_s"] == ("created_s",)
    assert names["trajectory_created_s"] == ("trajectory", "created_s")
    assert names["job_created_s"] == ("trajectory", "job", "created_s")
    assert names["prompt_grader"] == ("trajectory", "job", "prompt", "grader")


def test_arrays_become_lists_of_their_number_type():
    kinds = {column.name: column.type for column in columns_of(Trajectory)}
    assert kinds["token_ids"] == pa.list_(pa.int32()) and kinds["behavior_logprobs"] == pa.list_(pa.float32())
    with pytest.raises(TypeError, match="no arrow type"):
        arrow_type(complex)
