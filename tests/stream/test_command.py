import os
import subprocess
import sys

import pytest

from stream.command import exit_code_of
from stream.errors import BrokerUnavailable, Fenced, RucksackError, UserError


def fails_with(error: BaseException):
    def command() -> int:
        raise error

    return command


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (UserError("x is 1; want 2"), 2, "rucksack fly: x is 1; want 2\n"),
        (BrokerUnavailable("no broker"), 3, "rucksack fly: no broker\n"),
        (Fenced("another"), 4, "rucksack fly: another\n"),
        (RucksackError("gone"), 1, "rucksack fly: gone\n"),
        (PermissionError(13, "Permission denied", "/x"), 1, "rucksack fly: [Errno 13] Permission denied: '/x'\n"),
        (KeyboardInterrupt(), 130, ""),
    ],
)
def test_an_error_is_one_line_and_its_exit_code(error, code, line, capsys):
    assert exit_code_of("fly", fails_with(error)) == code
    assert capsys.readouterr().err == line


def test_a_command_gives_its_own_exit_code_and_a_bug_its_traceback():
    assert exit_code_of("fly", lambda: 7) == 7
    with pytest.raises(ZeroDivisionError):
        exit_code_of("fly", lambda: 1 // 0)


def test_a_pipe_that_is_closed_ends_a_command_silently():
    program = "from stream.command import exit_code_of\nimport sys\n" + (
        "def many():\n    for _ in range(100_000): print('line')\n    return 0\nsys.exit(exit_code_of('many', many))"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout and process.stderr
        assert process.stdout.readline() == b"line\n"
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 141


@pytest.mark.parametrize("role", ["allocator", "producers", "verifier", "learner", "evaluator", "tracker"])
def test_a_role_started_by_itself_tells_a_mistake_in_a_line(role):
    command = [sys.executable, "-m", role, "nowhere.toml"]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ, check=False)
    assert done.returncode == 2
    name = role.removesuffix("s")
    assert done.stderr.startswith(f"rucksack {name}: configuration file nowhere.toml does not exist"), done.stderr
    assert "Traceback" not in done.stderr
