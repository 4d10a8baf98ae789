import io
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from infra.cli import main
from stream.errors import UserError
from verifier.offline import grade_answers


def run(lines: list[str], *options: str, code: int = 0) -> tuple[list[dict[str, object]], str]:
    command = [sys.executable, "-m", "infra.cli", "verify", *options]
    text = "\n".join(lines)
    done = subprocess.run(command, input=text.encode("utf-8", "surrogatepass"), capture_output=True, timeout=120)
    assert done.returncode == code, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()], done.stderr.decode()


def test_lines_come_out_in_order_with_an_outcome_each() -> None:
    lines = [
        '{"gold": "42", "answer": "\\\\boxed{42}", "more": "is ignored"}',
        '{"gold": "\\\\sqrt{2}", "answer": "$\\\\sum_{k=1}^{10^9} \\\\sin(k^2)$"}',
        "no JSON",
        "[1, 2]",
        "",
        '{"gold": "5"}',
        '{"gold": 5, "answer": 5.0}',
        '{"gold": "5", "answer": null}',
        '{"gold": "", "answer": "4"}',
        '{"gold": "1/2", "answer": ""}',
        '{"gold": "1/2", "answer": "\\ud800"}',
        json.dumps({"gold": "1", "answer": "1" * 10_000_000}),
        '{"gold": NaN, "answer": "1"}',
        '{"gold": "5", "answer": 1e400}',
        '{"gold": "16", "answer": "6 + 10"}',
        '{"gold": "1/2", "answer": "0.5"}',
    ]
    rows, notes = run(lines, "--timeout", "30", code=2)  # the sum ends by its work, however slow the machine is
    assert [row["outcome"] for row in rows] == [
        "correct", "wrong", "error", "error", "error", "correct", "error", "error", "unparsable", "unparsable",
        "unparsable", "error", "error", "wrong", "correct",
    ]  # fmt: skip
    assert all(list(row) == ["outcome", "reward", "reason", "found_by", "rule", "elapsed_ms"] for row in rows)
    assert [(row["found_by"], row["rule"]) for row in (rows[0], rows[2], rows[13])] == [
        ("box", ""), ("", ""), ("whole", "echo")
    ]  # fmt: skip
    assert [row["reward"] for row in rows] == [float(row["outcome"] == "correct") for row in rows]
    assert rows[2]["reason"].startswith("line 3: not JSON")
    assert rows[4]["reason"] == "line 6: no 'answer'; want an object with gold and answer"
    assert rows[6]["reason"] == "line 8: 'answer' is null, no text or number; want an object with gold and answer"
    assert rows[7]["reason"] == "gold: the gold answer is empty"
    assert rows[10]["reason"] == "the answer is 10,000,000 characters long; want at most 1,000,000"
    assert "in the work that is allowed" in str(rows[1]["reason"])
    assert rows[11]["reason"] == "line 13: 'gold' is NaN, no text or number; want an object with gold and answer"
    assert rows[12]["reason"] == "line 14: 'answer' is Infinity, no text or number; want an object with gold and answer"
    assert "15 answers in " in notes
    assert "warning: 6 lines could not be read (line 3, 4, 6, 8, 13, 14): outcome error" in notes


def test_an_answer_comes_out_while_input_is_still_open() -> None:
    command = [sys.executable, "-m", "infra.cli", "verify", "--grader", "string"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdin and process.stdout and process.stderr
        process.stdin.write(b'{"gold": "058", "answer": "058"}\n')
        process.stdin.flush()
        assert json.loads(process.stdout.readline())["outcome"] == "correct"
        process.stdin.close()
        assert process.stdout.read() == b""


def test_mistakes_are_told_and_exit_with_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify", "--grader", "nope"]) == 2
    assert (
        "there is no grader 'nope'; known: choice, integer, math, math_strict, reasoning_gym, regex, string"
        in capsys.readouterr().err
    )
    assert main(["verify", str(tmp_path / "nothing.jsonl")]) == 2
    assert "nothing.jsonl cannot be read (No such file or directory); want a file with" in capsys.readouterr().err
    with pytest.raises(SystemExit) as stop:
        main(["verify", "--workers", "0"])
    assert stop.value.code == 2
    assert "got '0'; want a whole number of at least 1" in capsys.readouterr().err
    with pytest.raises(SystemExit) as stop:
        main(["verify", "--workers", "100000"])
    assert stop.value.code == 2
    assert "got '100000'; want at most 512: each takes 20 MB" in capsys.readouterr().err


def test_files_of_no_lines_are_fine(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "empty.jsonl").write_text("\n\n")
    assert main(["verify", str(tmp_path / "empty.jsonl")]) == 0
    output = capsys.readouterr()
    assert (output.out, output.err.startswith("0 answers in ")) == ("", True)


def test_the_function_keeps_order_over_workers_and_takes_input_as_it_goes() -> None:
    taken = 0

    def pairs() -> io.StringIO:
        nonlocal taken
        for number in range(1500):
            taken += 1
            yield f"{number}", f"{number + (number % 3 == 0)}"

    results = grade_answers(pairs(), "integer", workers=2)
    first = next(results)
    assert (first.grade.outcome, first.elapsed_s > 0) == ("wrong", True)
    assert taken <= 2 * 256
    outcomes = [first.grade.outcome, *(graded.grade.outcome for graded in results)]
    assert outcomes == ["wrong" if number % 3 == 0 else "correct" for number in range(1500)]


def test_the_function_refuses_an_unknown_grader_at_once() -> None:
    with pytest.raises(UserError, match="there is no grader 'nope'"):
        grade_answers([], "nope")


@pytest.mark.parametrize("pair", [("1", 1), ("1", None), ("1",), ("1", "2", "3"), "12", 5])
def test_the_function_refuses_what_is_no_pair_of_texts(pair: object) -> None:
    pairs: list[Any] = [("5", "5"), pair]
    with pytest.raises(UserError, match=r"pair 2 is .*; want two texts, \(gold, answer\)"):
        list(grade_answers(pairs, "integer"))


def test_the_first_integral_of_a_worker_is_graded_as_the_next() -> None:
    pair = (r"\int_0^x e^{-t^2}dt", r"\int_0^x e^{-u^2}du")
    graded = grade_answers(
        [pair] * 2, "math", workers=1, timeout_s=20
    )  # it is the work that counts, on a busy machine too
    assert [each.grade.outcome for each in graded] == ["correct", "correct"]
