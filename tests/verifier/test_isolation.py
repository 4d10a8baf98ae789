"""What a worker may not do, whatever runs in it; and that no answer runs."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from verifier_helpers import collect

from verifier.grade import Grade
from verifier.graders import grade
from verifier.pool import Pool

IS_ROOT = os.geteuid() == 0
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the sandbox is full on Linux only")


@pytest.fixture
def open_folder(tmp_path: Path) -> Path:
    """A folder where everybody may write, so that only the sandbox forbids it."""
    folder = tmp_path / "open"
    folder.mkdir()
    folder.chmod(0o777)
    for parent in folder.parents:
        if parent.is_relative_to("/tmp") and parent != Path("/tmp"):
            parent.chmod(0o755)
    return folder


def test_a_grader_cannot_write_start_connect_or_kill(
    package: Path, open_folder: Path, make_pool: Callable[..., Pool]
) -> None:
    there = open_folder / "there"
    there.write_text("content")
    there.chmod(0o666)
    new = open_folder / "planted"
    pool = make_pool()
    for attack in ("write", "append", "create", "mkdir", "link", "run", "system"):
        pool.submit(attack, "attack", "gold", f"{attack} {new}")
    for attack in ("append", "remove", "rename", "chmod", "truncate"):
        pool.submit(f"{attack} there", "attack", "gold", f"{attack} {there}")
    for attack in ("fork", "network", "socket", "kill"):
        pool.submit(attack, "attack", "gold", attack)
    grades = collect(pool)
    assert {key: g.reason for key, g in grades.items() if not g.reason.startswith("refused")} == {}
    assert list(open_folder.iterdir()) == [there]
    assert there.read_text() == "content"


def test_a_grader_runs_as_nobody_without_our_environment(
    package: Path, make_pool: Callable[..., Pool], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SASL_PASSWORD", "secret")
    pool = make_pool()
    pool.submit("user", "attack", "gold", "user")
    pool.submit("environ", "attack", "gold", "environ")
    grades = collect(pool)
    assert grades["user"].reason == f"did {65534 if IS_ROOT else os.getuid()}"
    assert grades["environ"].reason == "did ['LANG', 'MPMATH_NOGMPY', 'PATH', 'SYMPY_GROUND_TYPES']"


def test_what_hangs_dies_or_devours_costs_one_answer(package: Path, make_pool: Callable[..., Pool]) -> None:
    pool = make_pool(timeout_s=1)
    for attack in ("memory", "spin", "exit", "number"):
        pool.submit(attack, "attack", "gold", attack)
        pool.submit(f"after {attack}", "half", "gold", "answer")
    grades = collect(pool)
    assert grades["memory"].outcome == "error" and "1024 MB" in grades["memory"].reason
    assert grades["spin"].outcome == "timeout" and "killed" in grades["spin"].reason
    assert grades["exit"].outcome == "error" and "died" in grades["exit"].reason
    assert grades["number"].outcome in ("timeout", "error")
    assert all(grades[f"after {attack}"].reward == 0.5 for attack in ("memory", "spin", "exit", "number"))


def test_graders_of_a_package_are_known_by_name(package: Path, make_pool: Callable[..., Pool]) -> None:
    pool = make_pool()
    pool.submit("half", "half", "gold", "answer")
    pool.submit("bad gold", "half", "", "answer")
    pool.submit("broken", "broken", "gold", "answer")
    pool.submit("math", "math", "1/2", "0.5")
    grades = collect(pool)
    assert grades["half"] == Grade("wrong", 0.5, "half: 0.5")
    assert grades["bad gold"] == Grade("error", 0.0, "gold: no gold")
    assert grades["broken"].reason.startswith("grader 'broken' (grudge:nothing) cannot be loaded: AttributeError")
    assert grades["math"].reason == "same number"  # a built-in grader is not replaced


def test_what_a_grader_may_not_return_is_told(package: Path, make_pool: Callable[..., Pool]) -> None:
    pool = make_pool()
    for result in ("none", "two", "nan", "outcome", "reward", "found_by", "true"):
        pool.submit(result, "odd", "gold", result)
    grades = collect(pool)
    assert grades.pop("true") == Grade("correct", 1.0, "odd: 1")
    assert {grade.outcome for grade in grades.values()} == {"error"}
    for result, shown in (("none", "None"), ("two", "2"), ("nan", "nan")):
        assert grades[result].reason == f"grader 'odd' returned {shown}; want a Grade or a number in [0, 1]"
    assert grades["reward"].reason == "grader 'odd' returned a Grade with reward 7.0; want a number in [0, 1]"
    assert grades["outcome"].reason.startswith(
        "grader 'odd' returned a Grade with outcome 'yes'; want 'correct', 'wrong', "
    )
    assert "a Grade with found_by 'anywhere'; want '', 'box', 'tag', " in grades["found_by"].reason


CODE = [
    "__import__('os').system('touch {path}')",
    "\\boxed{{__import__('os').system('touch {path}')}}",
    "$__import__('os').system('touch {path}')$",
    "__import__('os').system('touch {path}') * \\pi",
    "\\boxed{{open('{path}', 'w').write('x')}}",
    "exec(\"open('{path}', 'w')\")",
    "eval(compile(\"open('{path}', 'w')\", '', 'exec'))",
    "().__class__.__bases__[0].__subclasses__()[0].__init__.__globals__['os'].system('touch {path}')",
    "lambda: open('{path}', 'w')",
    "\\text{{print(open('{path}','w'))}}",
    "\\begin{{pmatrix}} open('{path}','w') & 1 \\end{{pmatrix}}",
    "x if open('{path}', 'w') else y",
    "[open('{path}', 'w') for i in range(1)]",
    "\\input{{{path}}} \\write18{{touch {path}}}",
    "$(touch {path}) `touch {path}`",
    "cos\nsystem\n(S'touch {path}'\ntR.",
    "!!python/object/apply:os.system ['touch {path}']",
    "{{{{config.__class__.__init__.__globals__['os'].popen('touch {path}')}}}}",
    "Symbol('x').__class__.mro()[-1].__subclasses__()",
    'S(\'open("{path}", "w")\')',
]
GOLDS = {"math": ["42", "x^2 + 1", "\\begin{pmatrix} 1 & 2 \\end{pmatrix}", "\\text{red}"], "integer": ["42"],
         "string": ["42"], "choice": ["B"], "regex": [".*42"]}  # fmt: skip


@pytest.mark.parametrize("form", CODE)
def test_no_answer_runs_as_code(form: str, tmp_path: Path) -> None:
    path = tmp_path / "planted"
    answer = form.format(path=path)
    for grader, golds in GOLDS.items():
        for gold in golds:
            # In this process, without the sandbox: nothing but the graders themselves keeps code from running.
            assert grade(grader, gold, answer).outcome in ("wrong", "unparsable")
            assert not path.exists()
    assert list(tmp_path.iterdir()) == []


def test_gold_answers_do_not_run_either(tmp_path: Path) -> None:
    path = tmp_path / "planted"
    for form in CODE:
        for grader in GOLDS:
            grade(grader, form.format(path=path), "42")
    assert list(tmp_path.iterdir()) == []


SYSTEM_CALLS = """
import ctypes, os, platform, sys
from verifier import sandbox

path = sys.argv[1]
fd = os.open(path, os.O_RDONLY)
libc = ctypes.CDLL(None, use_errno=True)
given_up = sandbox.enter(os.getppid())
column = sandbox._ARCHITECTURES[platform.machine()][1]
for name, numbers in sandbox._REFUSED.items():
    # -1 and 0 are arguments that do no harm where a call is not refused
    if numbers[column] is not None:
        libc.syscall(numbers[column], -1, 0, 0, 0, 0)
        if ctypes.get_errno() != 1:
            print(name, ctypes.get_errno())
for name, call in {"fchmod": lambda: os.fchmod(fd, 0o777), "x32 getpid": lambda: libc.syscall(0x40000000 + 39)}.items():
    try:
        if call() != -1:
            print(name, "allowed")
    except PermissionError:
        pass
print(given_up[-1])
"""


def test_every_system_call_that_is_listed_is_refused_on_this_machine(open_folder: Path) -> None:
    file = open_folder / "file"
    file.touch(0o644)
    done = subprocess.run([sys.executable, "-c", SYSTEM_CALLS, str(file)], capture_output=True, text=True)
    assert done.stdout == "system calls\n", done.stderr
    assert file.stat().st_mode & 0o777 == 0o644
