from pathlib import Path

import pytest

from benchmarks.soak import MIB, growth, topic_sizes, verdicts


def samples(memory) -> list[dict]:
    return [
        {"at_s": 10.0 * number, "memory_mib": {"learner": memory(number)}, "topics_mib": {"updates": 0.1 * number}}
        for number in range(200)
    ]


def test_growth_is_that_of_the_second_half() -> None:
    at_s = [float(second) for second in range(101)]
    assert growth(at_s, [max(second, 50.0) for second in at_s]) == pytest.approx((50.0, 75.0))
    assert growth(at_s, [min(second, 50.0) for second in at_s]) == pytest.approx((0.0, 50.0), abs=1e-9)


def test_what_grows_on_is_told_from_what_has_settled() -> None:
    settled = verdicts(samples(lambda number: 100.0 + min(number, 60)), "memory_mib")["learner"]
    assert (settled["mean"], settled["flat"]) == (160.0, True)
    leak = verdicts(samples(lambda number: 100.0 + 0.5 * number), "memory_mib")["learner"]
    assert (leak["grown"], leak["flat"]) == (pytest.approx(47.5, abs=1.0), False)


def test_a_little_is_flat_however_small_the_mean() -> None:
    assert verdicts(samples(lambda number: 0.01 * number), "memory_mib")["learner"]["flat"]
    assert not verdicts(samples(lambda number: 0.0), "topics_mib")["updates"]["flat"]


def test_a_topic_is_all_its_partitions_and_kafkas_own_are_apart(tmp_path: Path) -> None:
    for name in ("r.verdicts-0", "r.verdicts-1", "__consumer_offsets-0", "other.verdicts-0"):
        folder = tmp_path / "node-1" / "data" / name
        folder.mkdir(parents=True)
        (folder / "00000000000000000000.log").write_bytes(b"x" * MIB)
    sizes = topic_sizes(tmp_path, "r")
    assert (sizes["verdicts"], sizes["__"], sizes["jobs"]) == pytest.approx((2.0, 2.0, 0.0), abs=0.1)
