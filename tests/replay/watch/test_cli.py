"""What `rucksack watch` refuses, in one line each, and when it may start a run's own broker."""

import fcntl
import socket
from pathlib import Path

import pytest

from replay.source import Location
from replay.watch.cli import is_up, listening, main, opened
from replay.watch.tokens import Tokens, tokenizer_folder
from stream.errors import BrokerUnavailable, UserError


def test_a_run_that_is_not_there_is_named(tmp_path: Path):
    with pytest.raises(UserError, match="there is no run 'nope'"):
        main(["nope", "--dir", str(tmp_path), "--port", "0"])


def test_a_port_in_use_is_named():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(UserError, match=f"port {port} .*choose another --port"), listening("127.0.0.1", port):
            pass


def test_a_port_that_cannot_be_and_a_host_that_is_not_ours_are_named():
    with pytest.raises(UserError, match="--port is 70000"), listening("127.0.0.1", 70000):
        pass
    with pytest.raises(UserError, match=r"cannot listen on 192\.0\.2\.1"), listening("192.0.2.1", 0):
        pass


def test_the_broker_of_a_run_that_is_up_is_not_started_beside_it(tmp_path: Path):
    folder = tmp_path / "mine"
    folder.mkdir()
    assert not is_up(folder)
    with (folder / "lock").open("w") as lock:
        assert not is_up(folder)
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert is_up(folder)
        with (
            pytest.raises(BrokerUnavailable, match="`rucksack up` starts it again"),
            opened(Location(tmp_path), "mine", start=True),
        ):
            pass


def test_the_tokenizer_is_the_trained_models_or_that_of_the_model_begun_with(tmp_path: Path):
    assert tokenizer_folder(tmp_path) is None
    (tmp_path / "config.json").write_text('{"run": {"model": "demo/base"}}')
    assert tokenizer_folder(tmp_path) == Path("demo/base")
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "tokenizer_config.json").write_text("{}")
    assert tokenizer_folder(tmp_path) == tmp_path / "model"


def test_pieces_add_up_to_the_text_and_to_all_tokens(until):
    tokens = Tokens(Path("demo/base"))
    until(lambda: tokens.state == "ready")
    ids = list(range(20))
    pieces = tokens.pieces(ids)
    assert pieces is not None
    assert sum(size for _, size in pieces) == 20
    assert all(isinstance(text, str) for text, _ in pieces)


def test_a_folder_without_a_tokenizer_gives_no_pieces(tmp_path: Path, until):
    tokens = Tokens(tmp_path)
    until(lambda: tokens.state == "none")
    assert tokens.pieces([1, 2]) is None


class BytePairs:
    """Decodes a token for each byte, as a tokenizer of bytes does."""

    def decode(self, ids):
        return bytes(ids).decode(errors="replace")

    def convert_ids_to_tokens(self, token_id):
        return str(token_id)


def test_a_character_of_several_tokens_is_one_piece_and_broken_bytes_stay_apart():
    tokens = Tokens(None)
    tokens._tokenizer = BytePairs()
    assert tokens.pieces(list("aé😀b".encode())) == [("a", 1), ("é", 2), ("😀", 4), ("b", 1)]
    assert tokens.pieces([0xFF, 0x61]) == [("\ufffd", 1), ("a", 1)]
