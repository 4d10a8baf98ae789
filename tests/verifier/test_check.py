import json
from pathlib import Path

import pytest

from infra.cli import main


def write(folder: Path, *rows: object) -> str:
    file = folder / "prompts.jsonl"
    file.write_text("\n".join(row if isinstance(row, str) else json.dumps(row) for row in rows), encoding="utf-8")
    return str(file)


def test_each_bad_prompt_is_reported_once_with_its_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = write(
        tmp_path,
        {"id": "good", "text": "1+1", "answer": "2"},
        {"id": "latex", "text": "1+1", "answer": "\\frac{1}{"},
        "",
        {"id": "latex", "text": "twice", "answer": "3"},
        {"id": "empty", "text": "1+1", "answer": " "},
        "no JSON",
        {"id": "word", "text": "1+1", "answer": "two", "grader": "integer"},
        {"id": "typo", "text": "1+1", "answer": "2", "grader": "intege"},
        {"id": "pattern", "text": "1+1", "answer": "(", "grader": "regex"},
        {"id": "fine", "text": "1+1", "answer": "[0-9]+", "grader": "regex"},
    )
    assert main(["prompts", "check", file]) == 2
    output = capsys.readouterr()
    lines = output.out.splitlines()
    assert [int(line.removeprefix(f"{file}:").partition(":")[0]) for line in lines] == [2, 4, 5, 6, 7, 8, 9]
    assert "prompt 'latex', grader math: '\\\\frac{1}{' does not parse" in lines[0]
    assert "stands in" in lines[1]
    assert lines[2].startswith(f"{file}:5: prompt 5 (id empty) has no answer")
    assert lines[3].startswith(f"{file}:6: not JSON")
    assert "'two' is not an integer" in lines[4]
    assert "there is no grader 'intege'; known: choice, integer, math" in lines[5]
    assert "not a regular expression" in lines[6]
    assert output.err == "9 prompts, 7 with problems\n"


def test_sound_prompts_pass(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [{"id": f"{n}", "prompt": f"{n}+1", "answer": f"{n + 1}", "grader": "string"} for n in range(50)]
    assert main(["prompts", "check", write(tmp_path, *rows)]) == 0
    assert capsys.readouterr() == ("", "50 prompts, 0 with problems\n")


def test_a_missing_file_is_a_mistake(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["prompts", "check", "nowhere.jsonl"]) == 2
    assert capsys.readouterr().err.startswith("rucksack prompts: nowhere.jsonl does not exist")
