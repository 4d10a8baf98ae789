"""Jars come from the lock alone, served here by a Maven repository of the test's own."""

import hashlib
import re
import subprocess
import sys
import threading
import tomllib
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from localkafka.jars import LOCK, SPEC, read_lock, resolve_jars
from stream.errors import BrokerUnavailable, UserError

CONTENTS = {"alpha": b"the alpha jar", "beta": b"the beta jar"}


class Repository:
    """A Maven repository on a port of its own, which counts what it is asked for."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.requested: list[str] = []
        repository = self

        class Handler(SimpleHTTPRequestHandler):
            def log_message(self, *args: object) -> None:
                repository.requested.append(Path(self.path).name)

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(folder)))

    def jar(self, name: str) -> Path:
        return self.folder / "org" / "test" / name / "1.0" / f"{name}-1.0.jar"

    def num_requests(self, name: str) -> int:
        return self.requested.count(f"{name}-1.0.jar")


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Repository]:
    served = Repository(tmp_path / "remote")
    for name, content in CONTENTS.items():
        served.jar(name).parent.mkdir(parents=True)
        served.jar(name).write_bytes(content)
    settings = tmp_path / "jgo.conf"
    settings.write_text(f"[repositories]\nours = http://127.0.0.1:{served.server.server_port}\n")
    monkeypatch.setenv("JGO_CONFIG_FILE", str(settings))
    thread = threading.Thread(target=served.server.serve_forever)
    thread.start()
    yield served
    served.server.shutdown()
    thread.join()
    served.server.server_close()


@pytest.fixture
def lock(tmp_path: Path) -> Path:
    entry = '[[dependencies]]\ngroupId = "org.test"\nartifactId = "{}"\nversion = "1.0"\nsha256 = "{}"\n'
    path = tmp_path / "lock.toml"
    path.write_text("".join(entry.format(n, hashlib.sha256(c).hexdigest()) for n, c in CONTENTS.items()))
    return path


def files_in(cache: Path) -> list[str]:
    return sorted(path.name for path in cache.rglob("*") if path.is_file() and path.name != ".lock")


def test_missing_jars_are_downloaded_once(repository: Repository, lock: Path, tmp_path: Path) -> None:
    first = resolve_jars(lock, tmp_path / "cache")
    assert [jar.read_bytes() for jar in first] == list(CONTENTS.values())
    num_requests = len(repository.requested)
    assert resolve_jars(lock, tmp_path / "cache") == first
    assert len(repository.requested) == num_requests


def test_two_processes_at_once_download_each_jar_once(repository: Repository, lock: Path, tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from localkafka.jars import resolve_jars; "
        "print(len(resolve_jars(Path(sys.argv[1]), Path(sys.argv[2]))))"
    )
    command = [sys.executable, "-c", code, str(lock), str(tmp_path / "cache")]
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    assert [process.communicate(timeout=60)[0].strip() for process in both] == ["2", "2"]
    assert [repository.num_requests(name) for name in CONTENTS] == [1, 1]
    assert files_in(tmp_path / "cache") == ["alpha-1.0.jar", "beta-1.0.jar"]


def test_cached_jar_with_wrong_digest_is_refused_by_name(repository: Repository, lock: Path, tmp_path: Path) -> None:
    bad = resolve_jars(lock, tmp_path / "cache")[1]
    bad.write_bytes(b"tampered")
    expected, got = (hashlib.sha256(content).hexdigest() for content in (CONTENTS["beta"], b"tampered"))
    with pytest.raises(UserError) as caught:
        resolve_jars(lock, tmp_path / "cache")
    assert str(caught.value) == (
        f"beta-1.0.jar: sha256 is {got}, expected {expected}, locked for org.test:beta:1.0; "
        f"delete {bad} and start again: it is downloaded afresh"
    )
    bad.unlink()
    assert resolve_jars(lock, tmp_path / "cache")[1].read_bytes() == CONTENTS["beta"]


def test_altered_download_never_reaches_the_cache(repository: Repository, lock: Path, tmp_path: Path) -> None:
    repository.jar("alpha").write_bytes(b"altered on the way")
    with pytest.raises(UserError, match=r"alpha-1\.0\.jar: sha256 is .* the download was not kept"):
        resolve_jars(lock, tmp_path / "cache")
    assert "alpha-1.0.jar" not in files_in(tmp_path / "cache")


def test_jar_that_cannot_be_had_is_named(repository: Repository, lock: Path, tmp_path: Path) -> None:
    repository.jar("beta").unlink()
    with pytest.raises(BrokerUnavailable, match=r"org\.test:beta:1\.0: cannot be downloaded"):
        resolve_jars(lock, tmp_path / "cache")


def test_entry_without_digest_is_refused(lock: Path, tmp_path: Path) -> None:
    lock.write_text(re.sub("sha256 = .*", "", lock.read_text()))
    with pytest.raises(UserError, match="alpha has no sha256"):
        resolve_jars(lock, tmp_path)


def test_committed_lock_is_of_the_committed_spec_and_names_no_host() -> None:
    spec_hash = hashlib.sha256(SPEC.read_bytes()).hexdigest()[:16]
    assert tomllib.loads(LOCK.read_text())["metadata"]["spec_hash"] == spec_hash
    assert "://" not in SPEC.read_text() + LOCK.read_text()
    jars = read_lock()
    assert len(jars) == 45
    assert all(re.fullmatch("[0-9a-f]{64}", jar.sha256) for jar in jars)
    wanted = tomllib.loads(SPEC.read_text())["dependencies"]["coordinates"]
    assert {jar.coordinate for jar in jars} >= set(wanted)
