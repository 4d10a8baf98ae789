"""`rucksack doctor`: what it finds of a machine and of a recipe, and its exit code."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console

from infra.doctor import LOG_BYTES, Finding, doctor, findings_of, of_recipe, show, warnings_of
from infra.gpus import imagined
from infra.memory_plan import in_gib
from infra.model_facts import facts_of
from stream.config import Config, load
from stream.errors import UserError

DEMO = Path("configs/demo.toml")


def texts(findings: list[Finding], name: str) -> list[str]:
    return [finding.text for finding in findings if finding.name == name]


def test_the_demo_is_well_and_its_first_prompt_is_shown_as_the_model_sees_it() -> None:
    found = of_recipe(load(DEMO), [])
    assert [finding for finding in found if finding.remedy] == []
    (first,) = texts(found, "first prompt")
    assert first.startswith("'c") and first.endswith("grader string")
    (tokens,) = texts(found, "as tokens")
    assert tokens.startswith("6: ")


def test_the_plan_of_cards_that_are_not_here_is_confirmed() -> None:
    found = texts(of_recipe(load(DEMO), imagined("8x80")), "memory plan")
    assert found[1].startswith("learner on GPU 0; producer-0 on GPU 1; ")
    assert "the learner needs about" in found[2]


@pytest.mark.parametrize(
    ("overrides", "name", "says"),
    [
        (["--run.model=nowhere"], "model", "not a folder with a config.json"),
        (["--prompts.source=none.jsonl"], "prompts", "none.jsonl"),
        (["--prompts.chat_template=true"], "chat template", "the tokenizer has none"),
        (["--sampling.max_tokens=30"], "prompts", "all 1920 prompts are longer than 2 tokens"),
        (["--broker.bootstrap_servers=127.0.0.1:1"], "broker", "127.0.0.1:1"),
        (["--producer.gpus=['3']"], "memory plan", "this machine shows none"),
    ],
)
def test_what_is_wrong_is_a_problem_with_a_remedy(overrides: list[str], name: str, says: str) -> None:
    (wrong,) = [finding for finding in of_recipe(load(DEMO, overrides), []) if finding.remedy]
    assert wrong.name == name
    assert says in wrong.text


def test_one_fault_does_not_hide_the_next() -> None:
    def check():  # type: ignore[no-untyped-def]
        yield Finding("a", "seen")
        raise UserError("b is not there")

    assert findings_of("b", check) == [Finding("a", "seen"), Finding("b", "b is not there", "as it says")]


def test_a_wrong_key_is_a_finding_and_the_exit_code_is_1(capsys: pytest.CaptureFixture[str]) -> None:
    assert doctor(DEMO, ["--run.modle=x"], [], Console(width=300)) == 1
    out = capsys.readouterr().out
    assert "run.modle" in out
    assert out.splitlines()[-1].endswith(("problem", "problems"))


def test_hostile_prompts_are_shown_harmless(capsys: pytest.CaptureFixture[str]) -> None:
    show([Finding("first prompt", "\x1b[31mred[/red][bold]\r\n")], Console(width=100))
    assert "\x1b" not in (out := capsys.readouterr().out)
    assert "[31mred[/red][bold]" in out
    assert "nothing is wrong" in out


def test_up_says_the_plan_before_it_begins(tmp_path: Path) -> None:
    """With a stand-in for nvidia-smi, and no broker, so that nothing is started."""
    for number in (1, 8):
        lines = "".join(f"echo '{index}, GPU-{index}, H100, 81559, 81000'\n" for index in range(number))
        (tmp_path / "nvidia-smi").write_text(f'#!/bin/sh\n[ "$1" = -L ] && exit 0\n{lines}')
        (tmp_path / "nvidia-smi").chmod(0o755)
        ranks = ["--learner.ranks=4"] if number == 8 else []
        done = subprocess.run(
            [sys.executable, "-m", "infra.cli", "up", str(DEMO), f"--run.dir={tmp_path / str(number)}", *ranks,
             "--broker.bootstrap_servers=127.0.0.1:1", "--broker.timeout_s=1"],
            env={name: value for name, value in os.environ.items() if name != "CUDA_VISIBLE_DEVICES"}
            | {"PATH": f"{tmp_path}:{os.environ['PATH']}"},
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 3, done.stderr
        wanted = {
            1: "learner on GPU 0; producer-0 on GPU 0",
            8: "learner on GPU 0, 1, 2, 3; producer-0 on GPU 4; producer-1 on GPU 5; producer-2 on GPU 6; producer-3 on GPU 7",
        }
        assert wanted[number] in done.stdout.splitlines()


def test_room_on_the_disk_is_reckoned_from_the_model(tmp_path: Path) -> None:
    shape = {"hidden_size": 8192, "num_hidden_layers": 80, "num_attention_heads": 64, "num_key_value_heads": 8,
             "intermediate_size": 28672, "vocab_size": 128256}  # fmt: skip
    (tmp_path / "config.json").write_text(json.dumps(shape))
    config = Config(run={"model": str(tmp_path), "dir": str(tmp_path)}, learner={"keep_checkpoints": 100})
    (disk,) = [finding for finding in warnings_of(config) if finding.name == "disk"]
    parameters = facts_of(tmp_path).parameters
    assert parameters == pytest.approx(70.55e9, rel=1e-3)
    assert f"may take {in_gib(LOG_BYTES + 12 * 101 * parameters + 4 * parameters)}" in disk.text
    assert disk.remedy == "choose another run.dir, or lower learner.keep_checkpoints"
