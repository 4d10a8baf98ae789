"""`rucksack allocate`, called as people call it."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from allocator import allocate
from infra.cli import main

PROMPTS = [
    {"prompt_id": f"q{i}", "successes": i % 5, "trials": 4 + i % 13, "task": "t", "level": f"l{i % 3}", "extra": [i]}
    for i in range(60)
]


def write(folder: Path, lines: list[Any]) -> str:
    file = folder / "prompts.jsonl"
    file.write_text("\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines) + "\n")
    return str(file)


def rows(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


@pytest.mark.parametrize("mode", ["uniform", "paper", "bayes", "p_nonzero", "variance"])
def test_every_mode_prints_a_line_a_prompt_that_agrees_with_the_function(
    mode: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = write(tmp_path, PROMPTS)
    assert main(["allocate", file, "--budget", "480", "--mode", mode, "--min", "3", "--max", "40"]) == 0
    printed = capsys.readouterr()
    found = rows(printed.out)
    counts = [[line[key] for line in PROMPTS] for key in ("successes", "trials")]
    labels: dict[str, Any] = {key: [line[key] for line in PROMPTS] for key in ("task", "level")}
    expected = allocate(*counts, 480, mode=mode, min_rollouts=3, max_rollouts=40, **labels)
    assert [row["prompt_id"] for row in found] == [line["prompt_id"] for line in PROMPTS]
    assert [row["num_rollouts"] for row in found] == expected.num_rollouts.tolist()
    assert [row["value"] for row in found] == expected.value.tolist()
    assert sum(row["num_rollouts"] for row in found) == 480
    assert printed.err.startswith(f"mode={mode} prompts=60 rollouts=480 least=")


def test_out_writes_jsonl_or_parquet_and_the_prior_is_used(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = write(tmp_path, PROMPTS)
    command = ["allocate", file, "--budget", "480", "--prior", "0.5,2"]
    assert main([*command, "--out", str(tmp_path / "a.jsonl")]) == 0
    assert main([*command, "--out", str(tmp_path / "a.parquet")]) == 0
    assert capsys.readouterr().out == ""
    found = rows((tmp_path / "a.jsonl").read_text())
    assert pq.read_table(tmp_path / "a.parquet").to_pylist() == found
    wins, trials = ([line[key] for line in PROMPTS] for key in ("successes", "trials"))
    assert [row["num_rollouts"] for row in found] == allocate(wins, trials, 480, prior=(0.5, 2)).num_rollouts.tolist()


def test_costs_make_the_budget_one_of_cost(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = write(tmp_path, [{**line, "cost": 1 + i % 7} for i, line in enumerate(PROMPTS)])
    assert main(["allocate", file, "--budget", "1000.5"]) == 0
    printed = capsys.readouterr()
    spent = sum((1 + i % 7) * row["num_rollouts"] for i, row in enumerate(rows(printed.out)))
    assert 990 <= spent <= 1000.5
    assert f"cost={spent} of 1000.5, value within " in printed.err
    assert main(["allocate", file, "--budget", "1000.5", "--mode", "paper"]) == 0
    assert "within" not in capsys.readouterr().err  # a rule that maximises nothing certifies nothing


def test_plot_writes_a_page_that_needs_nothing_else(tmp_path: Path) -> None:
    picture = tmp_path / "plot.html"
    unseen = {"prompt_id": "new", "successes": 0, "trials": 0}
    file = write(tmp_path, [*PROMPTS, unseen])
    assert main(["allocate", file, "--budget", "600", "--mode", "paper", "--plot", str(picture)]) == 0
    page = picture.read_text()
    assert page.startswith("<!doctype html>")
    assert "never seen" in page and "paper: 600 rollouts" in page
    assert 'src="http' not in page


GOOD = {"prompt_id": "a", "successes": 1, "trials": 2}


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"prompt_id": "a", "successes": 1, "trials": 2}', "2 has prompt_id 'a', as line 1 has"),
        ('{"prompt_id": "b", "successes": 3, "trials": 2}', "2 has 3 successes in 2 trials"),
        ('{"prompt_id": "b", "successes": NaN, "trials": 2}', "2 has successes nan; want a finite number"),
        ('{"prompt_id": "b", "successes": 1, "trials": Infinity}', "2 has trials inf; want a finite number"),
        ('{"prompt_id": "b", "successes": -1, "trials": 2}', "2 has successes -1; want a finite number >= 0"),
        ('{"prompt_id": "b", "trials": 2}', "2 has no successes; want prompt_id, successes and trials"),
        ('{"successes": 1, "trials": 2}', "2 has no prompt_id"),
        ('{"prompt_id": "b", "successes": "1", "trials": 2}', '2 has successes "1"; want a number'),
        ('{"prompt_id": "b", "successes": 1, "trials": true}', "2 has trials true; want a number"),
        ('{"prompt_id": "b", "successes": 1, "trials": 2, "cost": 1}', "2 has a cost, unlike the lines before"),
        ('{"prompt_id": null, "successes": 1, "trials": 2}', "2 cannot be read (Expected"),
        ("[1, 2]", "2 is a JSON array, not an object"),
        ("successes: 1", "2 is not JSON"),
        ("\x00\x01", "2 is not JSON"),
    ],
)
def test_a_bad_line_is_one_clear_line_and_exit_code_2(
    line: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = write(tmp_path, [GOOD, line, GOOD])
    assert main(["allocate", file, "--budget", "16"]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith(f"rucksack allocate: {file}:{message}")
    assert printed.err.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--budget", "3"], "the budget is 3 rollouts; want 4 to 256"),
        (["--budget", "257"], "the budget is 257 rollouts; want 4 to 256"),
        (["--budget", "nan"], "the budget is nan; want a number"),
        (["--budget", "1e400"], "the budget is inf; want a number"),
        (["--budget", "16.5"], "the budget is 16.5 rollouts; want a whole number"),
        (["--budget", "many"], "argument --budget: got 'many'; want a number"),
        ([], "the following arguments are required: --budget"),
        (["--budget", "16", "--mode", "best"], "argument --mode: invalid choice: 'best'"),
        (["--budget", "16", "--min", "1"], "the lower bound is 1; want >= 2: a group of one rollout"),
        (["--budget", "16", "--min", "9", "--max", "8"], "the lower bound 9 exceeds the upper bound 8"),
        (["--budget", "16", "--prior", "1"], "argument --prior: got '1'; want two numbers"),
        (["--budget", "16", "--prior", "1,0"], "the prior is Beta(1, 0); want two positive, finite numbers"),
        (["--budget", "16", "--out", "no/where.jsonl"], "argument --out: got 'no/where.jsonl', but the folder no does"),
        (["--budget", "16", "--plot", "plot.gif"], "argument --plot: got 'plot.gif'; want a file that ends in .html"),
    ],
)
def test_bad_arguments_are_one_clear_line_and_exit_code_2(
    arguments: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = write(tmp_path, [GOOD, {**GOOD, "prompt_id": "b"}])
    assert main(["allocate", file, *arguments]) == 2
    printed = capsys.readouterr()
    assert printed.err.startswith(f"rucksack allocate: {message}")
    assert printed.err.count("\n") == 1


def test_files_that_cannot_be_read_or_written_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["allocate", str(tmp_path / "none.jsonl"), "--budget", "9"]) == 2
    assert "none.jsonl cannot be read (No such file or directory)" in capsys.readouterr().err
    empty = write(tmp_path, [])
    assert main(["allocate", empty, "--budget", "9"]) == 2
    assert "has no prompts; want a JSON line for each" in capsys.readouterr().err
    (tmp_path / "folder.jsonl").mkdir()
    file = write(tmp_path, [GOOD])
    assert main(["allocate", file, "--budget", "9", "--out", str(tmp_path / "folder.jsonl")]) == 2
    assert "folder.jsonl cannot be written (Is a directory)" in capsys.readouterr().err


def test_order_of_lines_does_not_matter_to_a_prompt(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    # All counts differ, so there are no ties to break by order.
    lines = [{"prompt_id": f"q{i}", "successes": i, "trials": 2 * i + 1} for i in range(30)]
    order = np.random.default_rng(0).permutation(30)
    found = []
    for arranged in (lines, [lines[i] for i in order]):
        assert main(["allocate", write(tmp_path, arranged), "--budget", "300"]) == 0
        found.append({row["prompt_id"]: row["num_rollouts"] for row in rows(capsys.readouterr().out)})
    assert found[0] == found[1]
