import pytest
from factories import make_job, make_prompt, make_verdict

from evaluator.scoreboard import Scoreboard


def make_board(samples: int = 2, version: int = 3) -> Scoreboard:
    prompts = [make_prompt("a", level="easy"), make_prompt("b", level="hard")]
    return Scoreboard(
        name="heldout",
        policy_version=version,
        step=version,
        prompts=prompts,
        samples=samples,
        temperature=0.0,
        final=False,
    )


def verdict(prompt_id: str, rollout: int, reward: float, version: int = 3, **fields: object) -> object:
    job = make_job(f"eval/{prompt_id}", 2, prompt=make_prompt(prompt_id))
    return make_verdict(rollout_index=rollout, reward=reward, job=job, version=version, **fields)


def test_accuracy_is_over_all_rollouts_asked_for_graded_or_not() -> None:
    board = make_board()
    for args in (("a", 0, 1.0), ("a", 1, 1.0), ("b", 0, 0.0)):
        assert board.record(verdict(*args))
    assert not board.complete
    board.record(verdict("b", 1, 0.0, outcome="timeout"))
    assert board.complete
    result = board.result(1.0)
    assert result.accuracy == 0.5
    assert [(s.prompt_id, s.level, s.num_graded, s.reward_sum) for s in result.scores] == [
        ("a", "easy", 2, 2.0),
        ("b", "hard", 1, 0.0),
    ]


def test_rollouts_of_older_weights_do_not_count_and_newer_ones_are_told() -> None:
    board = make_board()
    assert not board.record(verdict("a", 0, 1.0, version=2))
    assert board.record(verdict("a", 0, 1.0, version=4))
    result = board.result(0.0)
    assert (result.policy_version, result.min_policy_version, result.max_policy_version) == (3, 4, 4)


def test_first_verdict_of_a_rollout_counts() -> None:
    board = make_board()
    board.record(verdict("a", 0, 0.0))
    board.record(verdict("a", 0, 1.0))
    assert board.result(0.0).accuracy == pytest.approx(0.0)
