"""The figures of a made-up run come out as they were put in, whatever a crash or a second delivery left in the log."""

from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from replay.load import read_run
from replay.summary import figures, print_summary, summarize
from stream.console import make_console
from stream.memory import MemoryBroker
from stream.messages import Evaluation, Update
from stream.run_topics import RunTopics
from stream.topics import EVALUATIONS, TOPICS, UPDATES


def test_summary_counts_each_rollout_once(broker, make_run):
    expected = make_run(broker)
    summary = summarize(read_run(broker, "made"))
    assert summary.num_rollouts == expected.num_rollouts == 6 * 6 * 8
    assert summary.num_tokens == expected.num_tokens
    assert summary.num_duplicates == expected.num_duplicates == 36
    assert summary.num_unreadable == summary.num_dead_letters == 1


def test_summary_ratios_are_those_of_first_records(broker, make_run):
    expected = make_run(broker)
    ratios = summarize(read_run(broker, "made")).ratios
    assert ratios.samples == pytest.approx(expected.samples[0] / expected.samples[1])
    assert ratios.prompts == pytest.approx(expected.mixed[0] / expected.mixed[1])


def test_concentrated_budget_raises_sample_ratio_and_not_prompt_ratio(broker, make_run):
    make_run(broker, run="paper", mode="paper", num_updates=20, gain=0.0)
    ratios = summarize(read_run(broker, "paper")).ratios
    assert ratios.samples is not None and ratios.prompts is not None
    assert ratios.samples > ratios.prompts + 0.1


def test_rolled_back_updates_do_not_count(broker, make_run):
    expected = make_run(broker)
    summary = summarize(read_run(broker, "made"))
    assert (summary.num_updates, summary.num_rolled_back, summary.num_resumes) == (6, 2, 1)
    assert summary.law.endings == expected.endings
    assert summary.law.holds and summary.law.num_lost == 0


def test_summary_without_crash_is_the_same(broker, make_run):
    make_run(broker, run="a")
    make_run(broker, run="b", crash_at=0)
    with_crash, without = (summarize(read_run(broker, run)) for run in "ab")
    assert with_crash.ratios == without.ratios
    assert with_crash.law.endings == without.law.endings


def test_bands_follow_the_levels_of_the_base_evaluation(broker, make_run):
    make_run(broker)
    summary = summarize(read_run(broker, "made"))
    assert [band.label for band in summary.bands] == ["0.0 to 0.1", "0.3 to 0.6", "0.9 to 1.0"]
    assert [band.num_heldout for band in summary.bands] == [10, 10, 10]
    hard = summary.bands[0]
    assert (hard.heldout.before, hard.heldout.after) == pytest.approx((0.05, 0.05 + 0.48 * 0.95))
    assert hard.pool.gain == pytest.approx(0.48 * 0.95)
    assert (summary.heldout.before, summary.heldout.after) == pytest.approx((0.5, 0.74))


def test_a_run_that_was_stopped_before_its_base_policy_was_evaluated_still_has_a_before():
    broker = MemoryBroker()
    broker.create_topics("r", TOPICS, 1)
    topics = RunTopics(broker, "r", "learner-0")
    for step, version in ((0, 1), (1, 2)):  # version 1 has the weights of version 0
        topics.send(
            UPDATES, "update", Update(step=step, version=version, parent_version=version - 1, groups=(), metrics={})
        )
        evaluation = Evaluation(
            name="heldout", policy_version=version, min_policy_version=version, max_policy_version=version,
            accuracy=version / 4, temperature=0.0, scores=(),
        )  # fmt: skip
        topics.send(EVALUATIONS, "heldout", evaluation)
    heldout = summarize(read_run(broker, "r")).heldout
    assert (heldout.before, heldout.after) == (0.25, 0.5)


def test_summary_of_a_run_under_way_has_open_groups_and_loses_none(broker, make_run):
    make_run(broker, final=False)
    summary = summarize(read_run(broker, "made"))
    assert not summary.finished and summary.law.num_lost == 0


def test_summary_of_a_run_that_has_not_begun_is_empty(broker):
    summary = summarize(read_run(broker, "nothing"))
    assert (summary.num_rollouts, summary.wall_s, summary.ratios.samples) == (0, 0.0, None)
    print_summary(summary, Console(quiet=True))


def test_printed_summary_names_what_people_ask_for(broker, make_run, tmp_path):
    make_run(broker)
    (tmp_path / "model").mkdir()
    console = Console(width=140, record=True, file=StringIO())
    print_summary(summarize(read_run(broker, "made"), tmp_path), console)
    text = console.export_text()
    for word in ("0.3 to 0.6", "groups lost", "every admitted group ended exactly once", "2 rolled back", "model"):
        assert word in text


def test_tables_are_whole_in_a_pipe(broker, make_run, capsys):
    make_run(broker)
    summary = summarize(read_run(broker, "made"), Path("a-folder-with-a-long-name" * 8))
    print_summary(summary, make_console())
    lines = capsys.readouterr().out.splitlines()
    for name, text in figures(summary):
        assert any(name in line and text in line for line in lines), name
    assert not any("…" in line for line in lines)
