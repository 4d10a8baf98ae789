import io
from pathlib import Path

import pytest

from stream.errors import UserError
from stream.json_lines import has_lone_surrogate, parse_object, read_objects

WANTED = "want one JSON object per line, in UTF-8, with text and answer"


def write(folder: Path, content: bytes) -> Path:
    file = folder / "rows.jsonl"
    file.write_bytes(content)
    return file


def test_objects_come_with_their_line_numbers_and_blank_lines_are_skipped(tmp_path):
    file = write(tmp_path, b'\n{"a": 1}\n  \n{"b": [2]}\r\n{"c": "\xc3\xa9"}')
    assert list(read_objects(file, "a")) == [(2, {"a": 1}), (4, {"b": [2]}), (5, {"c": "é"})]
    assert list(read_objects(write(tmp_path, b"\n\n"), "a")) == []


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        (b"{no", r"not JSON \(Expecting property name"),
        (b'{"a": "\xe9"}', r"not JSON \('utf-8' codec can't decode byte 0xe9"),
        (b"[" * 100_000, r"not JSON \(maximum recursion depth"),
        (b"[1]", "a JSON array, not an object"),
        (b"null", "a JSON null, not an object"),
    ],
)
def test_a_bad_line_is_named_with_what_it_is_and_what_is_wanted(tmp_path, line, fault):
    file = write(tmp_path, b'{"a": 1}\n\n' + line + b"\n")
    rows = read_objects(file, "text and answer")
    assert next(rows) == (1, {"a": 1})
    with pytest.raises(UserError, match=rf"^{file}:3 is {fault}.*; {WANTED}$"):
        next(rows)
    with pytest.raises(ValueError, match=fault):
        parse_object(line)


def test_a_file_that_cannot_be_read_is_named(tmp_path):
    for file, reason in ((tmp_path / "none.jsonl", "No such file or directory"), (tmp_path, "Is a directory")):
        with pytest.raises(UserError, match=rf"^{file} cannot be read \({reason}\); want a file with one JSON object"):
            list(read_objects(file, "a"))


def test_a_dash_is_standard_input(monkeypatch):
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b'{"a": 1}\nno\n')))
    rows = read_objects(Path("-"), "a")
    assert next(rows) == (1, {"a": 1})
    with pytest.raises(UserError, match=r"^standard input:2 is not JSON"):
        next(rows)


def test_half_a_character_is_seen():
    assert has_lone_surrogate(parse_object(rb'{"a": "x\ud800"}')["a"])
    assert not has_lone_surrogate(parse_object(rb'{"a": "x\ud83d\ude00"}')["a"])
