"""Every layout in which people have their problems is found by itself; what cannot be meant is one clear line."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prompts_layouts import LAYOUTS, PROBLEMS, chats, dapo, gsm8k, gsm8k_jsonl, jsonl, math, parquet, user, verl

from prompts.answers import find_marked, needed_mark
from prompts.sources import Loaded, read_prompts
from stream.config import Config
from stream.errors import UserError
from stream.messages import Turn


def read(source: str | Path, **prompts: Any) -> Loaded:
    table = {"source": str(source), "num_prompts": 20, "num_heldout": 4} | prompts
    return read_prompts(Config(run={"prompts_per_update": 2, "max_staleness": 1}, prompts=table))


TAKEN = {
    "gsm8k": "text from question, answer from answer, behind its ####, grader math",
    "gsm8k_jsonl": "text from question, answer from answer, behind its ####, grader math",
    "math": "text from problem, answer from solution, in its last \\boxed{}, grader math",
    "math_500": "text from problem, answer from answer, grader math",
    "dapo": "text from prompt (chat messages), answer from reward_model.ground_truth, grader math",
    "dapo_processed": "text from prompt, answer from reward_model.ground_truth, grader math",
    "verl": "text from prompt (chat messages), answer from reward_model.ground_truth, grader math",
    "skywork": "text from prompt (chat messages), answer from reward_model.ground_truth, grader math",
    "openr1": "text from problem, answer from answer, grader math",
    "numina": "text from problem, answer from solution, in its last \\boxed{}, grader math",
    "numina_15": "text from problem, answer from answer, grader math",
    "big_math": "text from problem, answer from answer, grader math",
    "orz": "text from 0.value, answer from 1.ground_truth.value, grader math",
    "orz_hub": "text from 0.value, answer from 1.ground_truth.value, grader math",
    "deepscaler": "text from problem, answer from answer, grader math",
    "saved": "text from query, answer from expected_answer, grader math",
    "aime": "text from Problem, answer from Answer, grader math",
    "chats": "text from messages (chat messages), answer from answer, grader math",
}


@pytest.mark.parametrize("name", LAYOUTS)
def test_a_layout_is_found_without_being_told_and_the_line_says_what_was_taken(tmp_path: Path, name: str) -> None:
    source = LAYOUTS[name](tmp_path, PROBLEMS)
    loaded = read(source)
    prompts = [*loaded.pool, *loaded.heldout]
    assert sorted((prompt.text, prompt.answer) for prompt in prompts) == sorted(PROBLEMS)
    assert (len(loaded.pool), len(loaded.heldout)) == (20, 4)
    assert loaded.lines[0] == f"{source}: 24 prompts: {TAKEN[name]}"


def test_tasks_and_levels_come_with_the_layouts(tmp_path: Path) -> None:
    prompt = read(math(tmp_path, PROBLEMS)).pool[0]
    assert (prompt.task, prompt.level) == ("Algebra", "Level 2")  # the folder algebra comes first
    assert read(dapo(tmp_path, PROBLEMS)).pool[0].task == "math_dapo"


def test_system_turns_and_examples_are_kept_and_a_last_answer_is_not_asked(tmp_path: Path) -> None:
    prompt = read(chats(tmp_path, PROBLEMS)).pool[1]
    assert [(turn.role, turn.content) for turn in prompt.messages] == [
        ("system", "Be brief."),
        ("user", "What is 1 plus 1?"),
        ("assistant", "2"),
        ("user", "What is 1 plus 1?"),
    ]
    rows = [{"messages": [*user(text), {"role": "assistant", "content": "2"}], "answer": 1} for text, _ in PROBLEMS]
    prompt = read(jsonl(tmp_path / "transcripts.jsonl", rows)).pool[0]
    assert prompt.messages == (Turn(role="user", content=PROBLEMS[0][0]),)


def test_a_dataset_that_comes_a_hundred_times_is_counted(tmp_path: Path) -> None:
    loaded = read(dapo(tmp_path, PROBLEMS), num_prompts=40)
    assert any("48 rows that came again are taken once" in line for line in loaded.lines)


@pytest.mark.parametrize(("name", "count"), [("numina", 1), ("numina_15", 2)])
def test_proofs_are_left_out_and_counted(tmp_path: Path, name: str, count: int) -> None:
    loaded = read(LAYOUTS[name](tmp_path, PROBLEMS))
    assert any(f"{count} rows are left out: " in line for line in loaded.lines)


def test_the_test_split_of_a_folder_is_held_out_where_it_is_named(tmp_path: Path) -> None:
    folder = gsm8k(tmp_path, PROBLEMS)
    loaded = read(folder, heldout_source=f"{folder}@test")
    assert [prompt.text for prompt in loaded.heldout] == ["What is 0 plus 1? 0"]
    with pytest.raises(
        UserError, match=r"has no split 'dev'; it has test, train: set prompts\.split, or write .*@test"
    ):
        read(f"{folder}@dev")


# -- keys -------------------------------------------------------------------------------------------------------------


def test_two_keys_that_may_be_meant_are_refused_and_a_key_that_is_set_wins(tmp_path: Path) -> None:
    rows = [{"question": f"q{n}", "problem": f"p{n}", "answer": n, "target": n + 1} for n in range(24)]
    file = jsonl(tmp_path / "two.jsonl", rows)
    with pytest.raises(
        UserError, match=r"two\.jsonl:1 may have its text at question or at problem; set prompts\.text_key"
    ):
        read(file)
    with pytest.raises(UserError, match=r"may have its answer at answer or at target; set prompts\.answer_key"):
        read(file, text_key="problem")
    prompt = read(file, text_key="problem", answer_key="target").pool[0]
    assert (prompt.text, prompt.answer) == ("p0", "1")


def test_keys_that_say_the_same_are_not_two(tmp_path: Path) -> None:
    rows = [{"question": f"q{n}", "problem": f"q{n}", "answer": n} for n in range(24)]
    assert read(jsonl(tmp_path / "same.jsonl", rows)).pool[0].text == "q0"


def test_a_key_that_is_set_reads_its_answer_as_a_key_that_is_found(tmp_path: Path) -> None:
    assert read(gsm8k_jsonl(tmp_path, PROBLEMS), answer_key="answer").pool[2].answer == "3"
    assert read(gsm8k_jsonl(tmp_path, PROBLEMS), grader="regex").pool[2].answer.startswith("We add.")


# -- ids and overlap --------------------------------------------------------------------------------------------------


def ids(source: Path | str, **prompts: Any) -> dict[str, str]:
    loaded = read(source, **prompts)
    return {prompt.text: prompt.prompt_id for prompt in (*loaded.pool, *loaded.heldout)}


def test_ids_follow_from_content_wherever_the_file_is_and_whatever_is_appended(tmp_path: Path) -> None:
    rows = [{"question": text, "answer": answer} for text, answer in PROBLEMS]
    before = ids(jsonl(tmp_path / "a.jsonl", rows), num_prompts=400)
    assert len(set(before.values())) == 24
    after = ids(jsonl(tmp_path / "moved.jsonl", [*rows, *rows, {"question": "new", "answer": 1}]), num_prompts=400)
    assert before.items() <= after.items()


def test_two_files_without_ids_do_not_collide_and_own_ids_of_both_are_told_apart(tmp_path: Path) -> None:
    rows = [{"question": text, "answer": answer} for text, answer in PROBLEMS]
    train, test = (
        jsonl(tmp_path / "train.jsonl", rows),
        jsonl(tmp_path / "test.jsonl", [{"question": "x", "answer": 1}]),
    )
    assert len(set(ids(train, heldout_source=str(test)).values())) == 21
    numbered = jsonl(tmp_path / "n.jsonl", [{"id": n, **row} for n, row in enumerate(rows)])
    other = jsonl(tmp_path / "o.jsonl", [{"id": 3, "question": "x", "answer": 1}])
    assert read(numbered, heldout_source=str(other)).heldout[0].prompt_id == "heldout-3"


def test_prompts_that_are_held_out_as_well_are_named_and_not_trained_on(tmp_path: Path) -> None:
    train = gsm8k_jsonl(tmp_path, PROBLEMS)
    test = jsonl(tmp_path / "t.jsonl", [{"question": "what is  2 PLUS 1?", "answer": 3}])
    loaded = read(train, heldout_source=str(test))
    assert len(loaded.pool) == 19
    assert loaded.lines[-1] == (
        "warning: 1 of the 20 prompts to train on are held out as well, such as 'What is 2 plus 1?'; "
        "they are left out of training"
    )


def test_one_text_with_two_answers_is_a_warning(tmp_path: Path) -> None:
    rows = [{"question": text, "answer": answer} for text, answer in [*PROBLEMS, (PROBLEMS[0][0], "7")]]
    lines = read(jsonl(tmp_path / "a.jsonl", rows), num_prompts=40).lines
    assert any("warning: 1 of them with another answer; the first counts" in line for line in lines)


# -- graders ----------------------------------------------------------------------------------------------------------


def test_graders_are_chosen_by_task(tmp_path: Path) -> None:
    source = verl(tmp_path, PROBLEMS)
    assert read(source, graders={"openai/gsm8k": "integer"}).pool[0].grader == "integer"
    with pytest.raises(UserError, match="the pool has 0 prompts"):
        read(source, graders={"openai/gsm8k": ""})


@pytest.mark.parametrize(("source", "style"), [("codeforces", "rule"), ("my_task", "model")])
def test_what_no_grader_grades_is_refused_with_the_key_to_set(tmp_path: Path, source: str, style: str) -> None:
    row = {"data_source": source, "prompt": user("q"), "reward_model": {"ground_truth": "1", "style": style}}
    with pytest.raises(UserError, match=rf'no built-in grader grades; .*prompts\.graders = {{ "{source}" = "" }}'):
        read(jsonl(tmp_path / "code.jsonl", [row]))


# -- mistakes ---------------------------------------------------------------------------------------------------------

GOOD = [{"question": text, "answer": f"So\n#### {answer}"} for text, answer in PROBLEMS]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"question": "q", "answer": "no mark"}, r":25 has no #### in its answer at 'answer', .* ends in 'no mark'; mark"),
        ({"question": "q", "answer": "  "}, r":25 has no answer: 'answer' is '  '; it has question, answer: give it one"),
        ({"question": "q", "final": 1}, r":25 has no answer: no key 'answer'; it has question, final"),
        ({"answer": "#### 1"}, r":25 has no text: no key 'question'"),
        ({"question": 3.5, "answer": {"a": 1}}, r":25 has answer {'a': 1} at 'answer'; want a text or a number"),
        ({"question": [{"role": "user"}], "answer": "#### 1"}, r":25: the chat at 'question' has message 1 with content"),
        ({"question": [{"content": "a"}], "answer": "#### 1"}, "message 1 with role None; want system, user or assistant"),
        ({"question": [{"role": "system", "content": "a"}], "answer": "#### 1"}, "no turn of the user to answer"),
        ({"question": ["a"], "answer": "#### 1"}, r":25 has text \['a'\] at 'question'; want a text or a list of messages"),
    ],
)  # fmt: skip
def test_a_bad_row_is_one_line_with_file_row_key_and_value(tmp_path: Path, row: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        read(jsonl(tmp_path / "bad.jsonl", [*GOOD, row]), num_prompts=40)


def test_files_that_are_not_what_they_are_called_are_named(tmp_path: Path) -> None:
    (tmp_path / "a.parquet").write_text("{}")
    with pytest.raises(UserError, match=r"a\.parquet cannot be read as Parquet"):
        read(tmp_path / "a.parquet")
    (tmp_path / "b.json").write_text('["text", 1]')
    with pytest.raises(UserError, match=r"b\.json:1 is 'text'; want a JSON object"):
        read(tmp_path / "b.json")
    (tmp_path / "c").mkdir()
    with pytest.raises(UserError, match=r"the folder .*c has no file that ends in \.parquet, \.jsonl, \.json"):
        read(tmp_path / "c")
    parquet(tmp_path / "d.parquet", [{"x": 1, "y": 2}])
    with pytest.raises(
        UserError, match=r"d\.parquet:1 has no text at any usual key; it has x, y: set prompts\.text_key"
    ):
        read(tmp_path / "d.parquet")


def test_json_lines_may_be_called_json(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text("\n".join(json.dumps(row) for row in GOOD))
    assert read(tmp_path / "a.json").pool[0].answer == "1"


def test_a_dataset_of_the_hub_is_asked_for_by_name_config_and_split(monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    asked: list[tuple[Any, ...]] = []

    def load_dataset(name: str, subset: str | None, *, split: str) -> list[dict[str, str]]:
        asked.append((name, subset, split))
        return [{"question": f"{split} {n}", "answer": f"#### {n}"} for n in range(24)]

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    loaded = read("hf:openai/gsm8k:main", heldout_source="hf:openai/gsm8k:main@test")
    assert asked == [("openai/gsm8k", "main", "train"), ("openai/gsm8k", "main", "test")]
    assert loaded.heldout[0].text == "test 0"


# -- marks ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("So\n#### 1,080", "1,080"),
        ("#### Step 1\nSo \\boxed{\\frac{1}{2}}", "\\frac{1}{2}"),
        ("\\boxed{1} then \\fbox{\\left\\{1, 2\\right\\}}", "\\left\\{1, 2\\right\\}"),
        ("$\\boxed 5$", "5"),
        ("\\boxed{1} and \\boxed{2", "1"),
        ("nothing", None),
        ("\\boxed{}", None),
    ],
)  # fmt: skip
def test_the_answer_is_behind_the_last_mark(text: str, answer: str | None) -> None:
    found = find_marked(text)
    assert (found.answer if found else None) == answer


@given(st.text(), st.text(alphabet="ab{}\\$ ", max_size=30))
def test_finding_a_mark_never_fails_and_a_balanced_box_is_found(before: str, inside: str) -> None:
    find_marked(before + inside)
    find_marked(f"\\boxed{{{inside}")
    plain = "".join(letter for letter in inside if letter in "ab").strip()
    if plain:
        assert find_marked(f"{before} \\boxed{{{plain}}}") == (plain, "\\boxed{}")


def test_half_of_the_answers_must_be_marked_before_a_mark_is_needed() -> None:
    assert needed_mark(["#### 1", "2", "3"], is_worked=False) == ""
    assert needed_mark(["#### 1", "#### 2", "3"], is_worked=False) == "####"
    assert needed_mark(["\\boxed{1}", "by induction", "so"], is_worked=True) == "\\boxed{}"
