import re
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prompts.codes import PROCEDURES, SYMBOLS, answer_of, codes, generate_prompts, is_heldout
from stream.errors import UserError

EXAMPLES = {  # of 47 and 38, worked out by hand
    "sum": "580",
    "difference": "90",
    "reverse": "8374",
    "maximum": "47",
    "sort": "3478",
    "increment": "5849",
    "nines": "5261",
    "swap": "3847",
}
BY_CODE = {code.name: code for code in codes()}
operands = st.integers(0, 99)


def test_each_procedure_gives_the_answer_worked_out_by_hand():
    assert {name: answer_of(number, 47, 38) for number, (name, _) in enumerate(PROCEDURES)} == EXAMPLES
    assert len(SYMBOLS) == len(PROCEDURES)


@given(operands, operands)
def test_procedures_keep_their_meaning_on_all_operands(a, b):
    answers = {name: answer_of(number, a, b) for number, (name, _) in enumerate(PROCEDURES)}
    digits = f"{a:02d}{b:02d}"
    assert int(answers["sum"][::-1]) == a + b
    assert int(answers["difference"][::-1]) == abs(a - b)
    assert int(answers["maximum"]) == max(a, b)
    assert answers["reverse"][::-1] == digits
    assert Counter(answers["sort"]) == Counter(digits)
    assert sorted(answers["sort"]) == list(answers["sort"])
    assert int(answers["nines"]) == 9999 - int(digits)
    assert [(int(new) - int(old)) % 10 for new, old in zip(answers["increment"], digits, strict=True)] == [1] * 4
    assert answers["swap"] == digits[2:] + digits[:2]
    assert [len(answers[name]) for name, _ in PROCEDURES] == [3, 2, 4, 2, 4, 4, 4, 4]


def test_codes_differ_from_what_they_are_taken_for_and_cover_every_procedure():
    assert len(BY_CODE) == 64
    assert all(code.procedure != code.other for code in codes())
    assert set(Counter(code.procedure for code in codes()).values()) == {8}
    assert [code.probability for code in codes()] == sorted((code.probability for code in codes()), reverse=True)
    assert Counter(code.probability >= 0.1 for code in codes()) == {True: 36, False: 28}


@settings(max_examples=25)
@given(st.integers(0, 2**32), st.integers(1, 300))
def test_pool_and_heldout_are_disjoint_in_operands_and_right_in_every_answer(seed, num_prompts):
    pairs = {}
    for split in ("pool", "heldout"):
        rows = list(generate_prompts(num_prompts, seed, split))
        assert len({row["text"] for row in rows}) == len({row["prompt_id"] for row in rows}) == num_prompts
        pairs[split] = {check(row) for row in rows}
        assert all(is_heldout(*pair) == (split == "heldout") for pair in pairs[split])
    assert not pairs["pool"] & pairs["heldout"]


def check(row: dict[str, str]) -> tuple[int, int]:
    """The operands of a prompt, read from its text; its answer is compared with the procedure its code stands for."""
    name, *digits = re.fullmatch(r"(c\d\d) (\d) (\d) (\d) (\d) =", row["text"]).groups()
    a, b = int("".join(digits[:2])), int("".join(digits[2:]))
    assert row["answer"] == answer_of(BY_CODE[name].procedure, a, b)
    assert (row["task"], row["level"], row["grader"]) == ("codes", name, "string")
    return a, b


def test_the_same_seed_gives_the_same_prompts_and_another_seed_others():
    first = list(generate_prompts(50, 3, "pool"))
    assert first == list(generate_prompts(50, 3, "pool"))
    assert first == list(generate_prompts(80, 3, "pool"))[:50]
    assert first != list(generate_prompts(50, 4, "pool"))


def test_codes_take_turns():
    levels = Counter(row["level"] for row in generate_prompts(640, 0, "pool"))
    assert set(levels.values()) == {10}


def test_about_one_operand_pair_in_five_is_held_out():
    num_heldout = sum(is_heldout(a, b) for a in range(100) for b in range(100))
    assert 1900 < num_heldout < 2100


def test_another_split_and_more_prompts_than_there_are_are_refused():
    with pytest.raises(ValueError, match="split is 'test'; want pool or heldout"):
        next(generate_prompts(1, 0, "test"))
    with pytest.raises(UserError, match=r"asked for 999999 heldout prompts; it has \d+"):
        next(generate_prompts(999_999, 0, "heldout"))
