"""Brings the broker's jars: those that the lock file names, checked by digest, downloaded where missing.

`jgo.toml` says what is wanted; `jgo.lock.toml` is its full resolution with a sha256 for every jar, written by
`python -m localkafka.jars`. Nothing is handed out whose digest is not the locked one, and nothing touches the
network while every locked jar is in the cache.
"""

import fcntl
import hashlib
import logging
import os
import shutil
import tempfile
import tomllib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from stream.errors import BrokerUnavailable, UserError

log = logging.getLogger(__name__)

_HERE = Path(__file__).parent
SPEC = _HERE / "jgo.toml"
LOCK = _HERE / "jgo.lock.toml"
_NUM_DOWNLOADS = 4
_TIMEOUT_S = 30


@dataclass(frozen=True, slots=True, kw_only=True)
class LockedJar:
    """One line of the lock: a Maven coordinate and the digest its jar must have."""

    group: str
    artifact: str
    version: str
    sha256: str

    @property
    def coordinate(self) -> str:
        """The Maven coordinate, as jgo reads it."""
        return f"{self.group}:{self.artifact}:{self.version}"

    @property
    def path(self) -> Path:
        """Path of the jar in the cache, which has the layout of a Maven repository."""
        folder = Path(*self.group.split("."), self.artifact, self.version)
        return folder / f"{self.artifact}-{self.version}.jar"


def resolve_jars(lock: Path = LOCK, cache: Path | None = None) -> list[Path]:
    """Return the path of every locked jar, downloading the missing ones first.

    Raises: UserError where a jar's digest is not the locked one; BrokerUnavailable where one cannot be had.
    """
    cache = cache or jar_cache()
    jars = read_lock(lock)
    if any(not (cache / jar.path).exists() for jar in jars):
        _download_missing(jars, cache)
    for jar in jars:
        check_digest(jar, cache / jar.path, f"delete {cache / jar.path} and start again: it is downloaded afresh")
    return [cache / jar.path for jar in jars]


def jar_cache() -> Path:
    """The folder all of this user's Rucksacks share."""
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "rucksack" / "jars"


def read_lock(lock: Path = LOCK) -> list[LockedJar]:
    """Read the locked jars. Raises: UserError for an entry that has no digest."""
    entries = tomllib.loads(lock.read_text(encoding="utf-8"))["dependencies"]
    for entry in entries:
        if not entry.get("sha256"):
            raise UserError(f"{lock}: {entry['artifactId']} has no sha256; run python -m localkafka.jars")
    return [
        LockedJar(
            group=entry["groupId"], artifact=entry["artifactId"], version=entry["version"], sha256=entry["sha256"]
        )
        for entry in entries
    ]


def check_digest(jar: LockedJar, path: Path, remedy: str) -> None:
    """Raise UserError where the file is not the jar that was locked."""
    with path.open("rb") as file:
        got = hashlib.file_digest(file, "sha256").hexdigest()
    if got != jar.sha256:
        raise UserError(
            f"{jar.path.name}: sha256 is {got}, expected {jar.sha256}, locked for {jar.coordinate}; {remedy}"
        )


def _download_missing(jars: list[LockedJar], cache: Path) -> None:
    """Fetch what is missing, one process at a time: a second one waits, then finds everything there."""
    cache.mkdir(parents=True, exist_ok=True)
    with _file_lock(cache / ".lock"):
        missing = [jar for jar in jars if not (cache / jar.path).exists()]
        if missing:
            _download(missing, cache)


@contextmanager
def _file_lock(path: Path) -> Iterator[None]:
    """Hold an advisory lock, which the system drops however the holder dies."""
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _download(jars: list[LockedJar], cache: Path) -> None:
    """Fetch into a folder aside, check, then rename, so that the cache never holds half a jar."""
    from rich.console import Console
    from rich.progress import track

    aside = Path(tempfile.mkdtemp(prefix=".part-", dir=cache))
    try:
        with ThreadPoolExecutor(_NUM_DOWNLOADS) as pool:
            done = pool.map(lambda jar: _fetch(jar, aside, cache), jars)
            console = Console(stderr=True)
            log.info("downloading_kafka num_jars=%d into=%s", len(jars), cache)
            for _ in track(
                done,
                "Downloading Kafka (once)",
                total=len(jars),
                console=console,
                transient=True,
                disable=not console.is_terminal,
            ):
                pass
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _fetch(jar: LockedJar, aside: Path, cache: Path) -> None:
    import requests
    from jgo.config import GlobalSettings
    from jgo.maven import MavenContext

    # A site's own mirror, if any, is in the user's jgo settings.
    mirrors = GlobalSettings.load().repositories or None
    context = MavenContext(repo_cache=aside, remote_repos=mirrors, timeout=_TIMEOUT_S)
    try:
        fetched = context.create_dependency(jar.coordinate).artifact.resolve()
    except (requests.RequestException, RuntimeError) as error:
        raise BrokerUnavailable(f"{jar.coordinate}: cannot be downloaded ({error})") from error
    check_digest(jar, fetched, "the download was not kept; see whether a mirror or proxy alters it")
    target = cache / jar.path
    target.parent.mkdir(parents=True, exist_ok=True)
    fetched.replace(target)


def write_lock() -> None:
    """Resolve `jgo.toml` afresh and lock every jar it leads to."""
    from jgo.env import EnvironmentSpec, LockFile, compute_spec_hash
    from jgo.maven import MavenContext

    with tempfile.TemporaryDirectory() as folder:
        context = MavenContext(repo_cache=Path(folder), timeout=_TIMEOUT_S)
        wanted = [context.create_dependency(c) for c in EnvironmentSpec.load(SPEC).coordinates]
        inputs, transitive = context.resolver.resolve(wanted)
        needed = inputs + [dep for dep in transitive if dep.scope in ("compile", "runtime")]
        lock = LockFile.from_resolved_dependencies(
            needed, environment_name="rucksack-kafka", spec_hash=compute_spec_hash(SPEC)
        )
        lock.save(LOCK)


if __name__ == "__main__":
    write_lock()
