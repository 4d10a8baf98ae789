import re

import pytest

from prompts.gym import generate_gym_prompts, is_heldout
from stream.errors import UserError

ONE_DIGIT = {"min_terms": 2, "max_terms": 2, "min_digits": 1, "max_digits": 1, "allow_negation": False}
TASKS = ["chain_sum", "products"]
OPTIONS = {"chain_sum": ONE_DIGIT, "products": {"min_terms": 2, "max_terms": 2, "min_digits": 1, "max_digits": 1}}


def draw(split: str, num_prompts: int = 30, seed: int = 0) -> list[dict[str, str]]:
    return list(generate_gym_prompts(TASKS, num_prompts, seed, split, OPTIONS))


def test_answers_are_right_and_tasks_take_turns():
    rows = draw("pool")
    assert len(rows) == 30
    for row in rows:
        left, operator, right = re.search(r"(\d+) ([-+*]) (\d+)", row["text"]).groups()
        a, b = int(left), int(right)
        assert row["answer"] == str({"+": a + b, "-": a - b, "*": a * b}[operator])
        assert row["level"] == row["task"]
    assert {row["task"] for row in rows} == set(TASKS)


def test_pool_and_heldout_are_disjoint_also_where_they_exhaust_the_task():
    pool, heldout = draw("pool", 400), draw("heldout", 400)
    assert len(pool) < 400  # there are not so many sums and products of one digit
    texts = [{row["text"] for row in rows} for rows in (pool, heldout)]
    assert not texts[0] & texts[1]
    assert [len(found) for found in texts] == [len(pool), len(heldout)]
    assert all(is_heldout(text) for text in texts[1])
    assert 0.1 < len(heldout) / (len(pool) + len(heldout)) < 0.3


def test_the_same_seed_gives_the_same_prompts_and_another_seed_others():
    assert draw("pool") == draw("pool")
    assert draw("pool", 40)[:30] == draw("pool", 30)
    assert draw("pool") != draw("pool", seed=1)


@pytest.mark.parametrize(
    ("tasks", "options", "message"),
    [
        (["no_such_task"], {}, "cannot make 'no_such_task': .*; want a task that it has, such as chain_sum"),
        (["chain_sum"], {"chain_sum": {"colour": "red"}}, "cannot make 'chain_sum': .*colour"),
        (["chain_sum"], {"chain_sum": {"min_terms": 5, "max_terms": 2}}, "cannot make 'chain_sum'"),
        (["chain_sum"], {"min_terms": 2}, "prompts.options has 'min_terms'; want options by task, of chain_sum"),
    ],
)
def test_mistakes_are_one_clear_line(tasks, options, message):
    with pytest.raises(UserError, match=message):
        list(generate_gym_prompts(tasks, 4, 0, "pool", options))
