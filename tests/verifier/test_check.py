import json
from pathlib import Path

import pytest
from prompts_layouts import dapo

from infra.cli import main
from verifier.golds import ambiguity_of, damage_in
from verifier.graders import grade


def write(folder: Path, *rows: object) -> str:
    file = folder / "prompts.jsonl"
    file.write_text("\n".join(row if isinstance(row, str) else json.dumps(row) for row in rows), encoding="utf-8")
    return str(file)


def test_each_bad_prompt_is_reported_once_with_its_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = write(
        tmp_path,
        {"id": "good", "text": "1+1", "answer": "2"},
        {"id": "latex", "text": "half", "answer": "\\frac{1}{"},
        "",
        {"id": "latex", "text": "twice", "answer": "3"},
        {"id": "empty", "text": "e", "answer": " "},
        "no JSON",
        {"id": "word", "text": "0+0", "answer": "two", "grader": "integer"},
        {"id": "typo", "text": "1+0", "answer": "2", "grader": "intege"},
        {"id": "pattern", "text": "2+0", "answer": "(", "grader": "regex"},
        {"id": "fine", "text": "3+0", "answer": "[0-9]+", "grader": "regex"},
    )
    assert main(["prompts", "check", file]) == 2
    output = capsys.readouterr()
    lines = output.out.splitlines()
    assert [int(line.removeprefix(f"{file}:").partition(":")[0]) for line in lines] == [2, 4, 5, 6, 7, 8, 9]
    assert (
        "prompt 'latex', grader math: '\\\\frac{1}{' does not parse; mend it, or give the row another grader"
        in lines[0]
    )
    assert f"its id is that of {file}:2; every prompt needs its own" in lines[1]
    assert lines[2].startswith(f"{file}:5: has no answer: 'answer' is ' '; it has id, text, answer: ")
    assert lines[3].startswith(f"{file}:6: is not JSON")
    assert "'two' is not an integer" in lines[4]
    assert "there is no grader 'intege'; known: choice, integer, math" in lines[5]
    assert "not a regular expression" in lines[6]
    assert output.err.endswith("\n9 prompts, 7 with problems\n")


def test_sound_prompts_pass(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [{"id": f"{n}", "prompt": f"{n}+1", "answer": f"{n + 1}", "grader": "string"} for n in range(50)]
    assert main(["prompts", "check", write(tmp_path, *rows)]) == 0
    output = capsys.readouterr()
    assert output.out == ""
    assert output.err.endswith(
        "50 prompts: text from prompt, answer from answer, grader string\n50 prompts, 0 with problems\n"
    )


@pytest.mark.parametrize("source", ["codes", "gym:leg_counting"])
def test_prompts_that_are_made_are_checked_as_those_of_a_file(source: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["prompts", "check", source]) == 0
    assert "1152 prompts, 0 with problems" in capsys.readouterr().err


def test_a_missing_file_is_a_mistake(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["prompts", "check", "nowhere.jsonl"]) == 2
    assert capsys.readouterr().err.startswith("rucksack prompts: prompts file nowhere.jsonl does not exist")


def test_one_mistake_in_many_lines_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    good = [{"id": f"g{n}", "prompt": f"{n}+2", "answer": n} for n in range(40)]
    file = write(tmp_path, *good, *[{"id": f"q{n}", "prompt": f"{n}+1", "level": 3} for n in range(60)])
    assert main(["prompts", "check", file]) == 2
    output = capsys.readouterr()
    assert output.out == (
        f"{file}:41: has no answer: no key 'answer'; it has id, prompt, level: give it one, or set --answer-key (prompts.answer_key of a recipe) "
        "(and 59 more: 42, 43, 44, 45, 46, ...)\n"
    )
    assert output.err.endswith("100 prompts, 60 with problems\n")


def test_a_prompt_that_comes_again_with_another_answer_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = write(tmp_path, *[{"prompt": "6*7", "answer": answer} for answer in ("42", "42", "43")])
    assert main(["prompts", "check", file]) == 0
    assert capsys.readouterr().out.splitlines() == [
        f"{file}:2: warning: comes again; it is taken once",
        f"{file}:3: warning: comes again with the answer '43'; the first one, '42', counts",
    ]


def test_a_parquet_file_and_a_folder_are_checked_row_by_row(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    problems = [(f"{n}+1", str(n)) for n in range(9)] + [("half", "\\frac{1}{")]
    source = dapo(tmp_path, problems)
    assert main(["prompts", "check", source]) == 2
    lines = capsys.readouterr().out.splitlines()
    assert "parquet:10: prompt '" in lines[0] and "does not parse" in lines[0]
    assert lines[1].startswith(f"{source}:11: warning: comes again; it is taken once (and 19 more: 12,")
    assert main(["prompts", "check", str(tmp_path)]) == 2
    assert "text from prompt (chat messages), answer from reward_model.ground_truth" in capsys.readouterr().err


def test_keys_that_may_both_be_meant_are_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = write(tmp_path, *[{"question": f"q{n}", "problem": f"p{n}", "answer": n} for n in range(9)])
    assert main(["prompts", "check", file]) == 2
    assert capsys.readouterr().err == (
        f"rucksack prompts: {file}:1 may have its text at question or at problem; set --text-key (prompts.text_key of a recipe) to the one that is "
        "meant\n"
    )


def test_keys_and_grader_come_from_a_recipe_or_the_command_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [{"question": f"{n}+1", "final": f"x{n}"} for n in range(3)]
    file, recipe = write(tmp_path, *rows), tmp_path / "recipe.toml"
    recipe.write_text('[prompts]\ntext_key = "question"\nanswer_key = "final"\ngrader = "integer"\n')
    assert main(["prompts", "check", file, "--config", str(recipe)]) == 2
    assert "grader integer: 'x0' is not an integer" in capsys.readouterr().out
    assert main(["prompts", "check", file, "--config", str(recipe), "--grader", "string"]) == 0
    assert (
        main(["prompts", "check", file, "--text-key", "question", "--answer-key", "final", "--grader", "string"]) == 0
    )


@pytest.mark.parametrize(
    ("gold", "command"),
    [
        ("\\frac{1}{2}", "frac"), ("\\tan x", "tan"), ("3 \\times 4", "times"), ("\\binom{4}{2}", "binom"),
        ("\\rho + 1", "rho"), ("x \\neq 2", "neq"), ("\\vec{v}", "vec"), ("\\alpha", "alpha"),
        ("3 \\nu", "nu"), ("x \\ne 2", "ne"), ("\\neg p", "neg"),
    ],
)  # fmt: skip
def test_a_gold_that_lost_its_backslash_is_named_with_the_remedy(gold: str, command: str) -> None:
    escapes = {"\\f": "\f", "\\t": "\t", "\\b": "\b", "\\r": "\r", "\\n": "\n", "\\v": "\v", "\\a": "\a"}
    read = gold
    for written, control in escapes.items():
        read = read.replace(written, control)
    assert read != gold
    found = damage_in(read)
    assert found is not None
    assert f"write \\\\{command} in JSON, \\{command} in a table" in found
    assert damage_in(gold) is None
    assert grade("math", read, "\\boxed{7}")[:2] == ("error", 0.0)  # no right answer could be told from a wrong one


@pytest.mark.parametrize("gold", ["two\nlines", "a\tb", "1\n2", "\\frac{1}{2}", "line\r\nend", "x\n\nexample"])
def test_a_line_end_or_a_tab_alone_is_no_damage(gold: str) -> None:
    assert damage_in(gold) is None


@pytest.mark.parametrize(
    ("gold", "is_open"),
    [("3,4", True), ("0,4", True), ("27,93", True), ("3, 4", False), ("3,400", False), ("1,234,567", False),
     ("3.4", False), ("1,-2", False), ("(3,4)", False), ("$3,4$", True), ("$3,400$", False), ("$3,50", False)],
)  # fmt: skip
def test_golds_that_are_a_list_or_a_decimal_are_pointed_out(gold: str, is_open: bool) -> None:
    assert (ambiguity_of(gold) is not None) == is_open


def test_warnings_leave_the_exit_code_at_0(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [{"prompt": f"{n}", "answer": f"{n},5"} for n in range(3)]
    file = write(tmp_path, *rows)
    assert main(["prompts", "check", file]) == 0
    output = capsys.readouterr()
    assert output.out == (
        f"{file}:1: warning: prompt '5feceb66ffc86f38': the gold answer '0,5' is a list of two numbers or a decimal; "
        "write '0, 5' or '0.5' (and 2 more: 2, 3)\n"
    )
    assert output.err.endswith("\n3 prompts, 0 with problems, 3 to look at\n")


def test_golds_of_math_strict_are_answers_to_themselves_without_a_mark(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [{"prompt": "half", "answer": "\\frac12"}, {"prompt": "broken", "answer": "\\frac{1}{"}]
    assert main(["prompts", "check", write(tmp_path, *rows), "--grader", "math_strict"]) == 2
    output = capsys.readouterr()
    assert "prompts.jsonl:2: prompt '" in output.out
    assert output.out.endswith(
        "', grader math_strict: '\\\\frac{1}{' does not parse; mend it, or give the row another grader\n"
    )
    assert output.err.endswith("\n2 prompts, 1 with problems\n")


def test_an_empty_file_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "empty.jsonl").touch()
    assert main(["prompts", "check", str(tmp_path / "empty.jsonl")]) == 2
    assert "empty.jsonl has no prompt; expected one in each line, e.g. {" in capsys.readouterr().err


def test_an_empty_folder_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["prompts", "check", str(tmp_path)]) == 2
    assert f"the folder {tmp_path} has no file that ends in .parquet" in capsys.readouterr().err


def test_a_key_that_is_named_is_the_only_one_that_counts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [{"question": "2+2", "solution": "4", "answer": "5", "text": "T", "more": n} for n in range(3)]
    file = write(tmp_path, *rows)
    assert main(["prompts", "check", file, "--text-key", "question", "--answer-key", "solutoin"]) == 2
    output = capsys.readouterr().out
    assert "has no answer: no key 'solutoin'" in output and "(and 2 more: 2, 3)" in output


def test_lines_that_lack_a_key_are_one_kind_whatever_else_they_have(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = write(tmp_path, *[{"question": f"{n}+1", "final": "2", f"key{n}": n} for n in range(64)])
    assert main(["prompts", "check", file, "--answer-key", "answer"]) == 2
    assert len(capsys.readouterr().out.splitlines()) == 1
