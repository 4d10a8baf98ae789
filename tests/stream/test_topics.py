from stream.topics import HOUR_MS, JOBS, TOPICS, TRAJECTORIES, VERDICTS, kept_for


def test_answers_and_jobs_are_kept_for_as_long_as_asked_and_all_else_as_ever() -> None:
    changed = {after: before for before, after in zip(TOPICS, kept_for(2, TOPICS), strict=True) if before != after}
    assert set(changed.values()) == {JOBS, TRAJECTORIES, VERDICTS}
    assert {topic.retention_ms for topic in changed} == {2 * HOUR_MS}
    assert {topic.segment_ms for topic in changed} == {HOUR_MS // 4}


def test_nothing_is_deleted_unless_asked() -> None:
    assert kept_for(0, TOPICS) == list(TOPICS)


def test_files_end_soon_enough_that_most_of_what_is_kept_is_young() -> None:
    (topic,) = kept_for(0.001, [VERDICTS])
    assert (topic.retention_ms, topic.segment_ms) == (3600, 1000)
