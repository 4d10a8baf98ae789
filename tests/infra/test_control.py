import socket
import threading

import pytest

from infra.control import SOCKET_FILE, Control, ask, is_up
from stream.errors import UserError


@pytest.fixture
def answering(tmp_path):
    """A control socket that is polled, as `up` does; it echoes, and refuses the role `learner`."""

    def handle(request):
        if request.get("role") == "learner":
            raise UserError("role is 'learner'; want producers")
        return {"got": request}

    over = threading.Event()
    with Control(tmp_path) as control:

        def serve() -> None:
            while not over.wait(0.01):
                control.poll(handle)

        thread = threading.Thread(target=serve)
        thread.start()
        yield tmp_path
        over.set()
        thread.join()
    assert not (tmp_path / SOCKET_FILE).exists()


def test_a_request_is_answered(answering):
    assert ask(answering, {"command": "status"}) == {"got": {"command": "status"}}


def test_a_refusal_reaches_who_asked(answering):
    with pytest.raises(UserError, match="want producers"):
        ask(answering, {"command": "scale", "role": "learner"})


@pytest.mark.parametrize("line", [b"no json\n", b"[1]\n", b"\xff\n", b"x" * 10_000 + b"\n"])
def test_garbage_is_answered_with_an_error_and_the_socket_lives_on(answering, line, monkeypatch):
    monkeypatch.chdir(answering)
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(SOCKET_FILE)
        connection.sendall(line)
        assert b'"error"' in connection.recv(65_536)
    assert ask(answering, {"a": 1}) == {"got": {"a": 1}}


def test_nobody_there_is_said_plainly(tmp_path):
    with pytest.raises(UserError, match=r"no `rucksack up` runs in .*: `rucksack up` resumes it$"):
        ask(tmp_path, {"command": "status"})
    with pytest.raises(
        UserError, match=r"no `rucksack up` runs in .*missing: there is no such folder; --dir is that of all runs$"
    ):
        ask(tmp_path / "missing", {"command": "status"})


def test_what_a_killed_supervisor_has_left_is_not_up(tmp_path):
    left = socket.socket(socket.AF_UNIX)
    left.bind(str(tmp_path / SOCKET_FILE))
    left.close()
    assert not is_up(tmp_path)
    with Control(tmp_path):
        assert is_up(tmp_path)
    assert not is_up(tmp_path)


def test_a_folder_with_a_long_name_works(tmp_path):
    folder = tmp_path / ("long" * 30) / ("name" * 30)
    folder.mkdir(parents=True)
    with Control(folder) as control:
        control.poll(lambda request: {})
        assert (folder / SOCKET_FILE).exists()
