"""Deaths of a producer, life after life: who is suspect, who is given up, and who is free again."""

from pathlib import Path

from producers.suspects import YOUNG_S, Suspects


def life(path: Path, *begins: str, ends: tuple[str, ...] = (), engine: bool = True, aged: bool = False) -> Suspects:
    """A producer samples these prompts at once, some end, and it dies."""
    suspects = Suspects(path)
    for prompt_id in begins:
        suspects.begin(prompt_id, 100.0)
    suspects.save()
    for prompt_id in ends:
        suspects.end(prompt_id)
    if aged:
        suspects.note(100.0 + YOUNG_S)
    if engine:
        suspects.die()
    return suspects


def test_what_was_there_at_three_deaths_in_a_row_is_given_up_and_stays_so(tmp_path: Path) -> None:
    path = tmp_path / "p" / "producer-0.json"
    life(path, "bad", "a", "b")
    life(path, "bad", "a", "b", ends=("b",))
    third = Suspects(path)
    third.begin("a", 0.0)
    assert third.must_wait("bad")  # a is suspect as well
    assert not third.must_wait("b")
    third.end("a")
    assert not third.must_wait("bad")
    third.begin("bad", 0.0)
    third.begin("c", 0.0)
    third.die()
    fourth = Suspects(path)
    assert [fourth.is_given_up(prompt_id) for prompt_id in ("bad", "a", "b", "c")] == [True, False, False, False]
    fourth.close()
    assert Suspects(path).is_given_up("bad")


def test_the_death_of_the_process_counts_only_in_a_young_life(tmp_path: Path) -> None:
    for _ in range(5):
        life(tmp_path / "old.json", "long", engine=False, aged=True)
        life(tmp_path / "young.json", "bad", engine=False)
    assert not Suspects(tmp_path / "old.json").is_given_up("long")
    assert Suspects(tmp_path / "young.json").is_given_up("bad")


def test_a_life_that_ends_well_is_no_death(tmp_path: Path) -> None:
    for _ in range(4):
        life(tmp_path / "x.json", "a", engine=False).close()
    assert not Suspects(tmp_path / "x.json").is_given_up("a")


def test_a_file_that_cannot_be_read_is_as_none(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    path.write_text('{"deaths": 3')
    assert not Suspects(path).is_given_up("a")
