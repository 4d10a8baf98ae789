import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from verifier import graders
from verifier.pool import Pool

GRADERS_OF_A_PACKAGE = '''
"""Graders that do what a compromised one might do; the answer says what."""
import os, signal, socket, subprocess, time

from verifier.grade import BadGold, Grade


def half(gold, answer):
    if not gold:
        raise BadGold("no gold")
    return 0.5


def odd(gold, answer):
    return {"none": None, "two": 2, "nan": float("nan"), "outcome": Grade("yes", 1.0, ""), "reward": Grade("correct", 7.0, ""),
            "found_by": Grade("correct", 1.0, "", "anywhere"), "true": True}[answer]


def attack(gold, answer):
    word, _, argument = answer.partition(" ")
    try:
        return Grade("wrong", 0.0, f"did {ATTACKS[word](argument)}")
    except OSError as error:
        return Grade("wrong", 0.0, f"refused {type(error).__name__}")


def network(_):
    socket.create_connection(("127.0.0.1", 9), 0.2)


def spin(_):
    while True:
        try:
            time.sleep(0.01)
        except BaseException:
            pass


def kill_parent(_):
    os.kill(os.getppid(), signal.SIGKILL)


ATTACKS = {
    "write": lambda path: open(path, "w"),
    "append": lambda path: open(path, "a").write("x"),
    "create": lambda path: os.open(path, os.O_CREAT | os.O_RDONLY),
    "mkdir": os.mkdir,
    "remove": os.remove,
    "rename": lambda path: os.rename(path, path + "2"),
    "chmod": lambda path: os.chmod(path, 0o777),
    "link": lambda path: os.symlink("/etc/passwd", path),
    "truncate": lambda path: os.truncate(path, 0),
    "run": lambda path: subprocess.run(["/usr/bin/touch", path]),
    "system": lambda path: os.execv("/bin/sh", ["sh", "-c", f"touch {path}"]),
    "fork": lambda _: os.fork(),
    "network": network,
    "socket": lambda _: socket.socket(),
    "kill": kill_parent,
    "user": lambda _: os.getuid(),
    "environ": lambda _: sorted(set(os.environ) - {"LC_CTYPE", "PWD", "SHLVL", "_"}),
    "memory": lambda _: len(bytearray(3 << 30)),
    "spin": spin,
    "exit": lambda _: os._exit(0),
    "number": lambda _: 10 ** (10 ** 9),
}
'''


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An installed package with graders of its own."""
    folder = tmp_path / "site"
    (folder / "grudge-1.0.dist-info").mkdir(parents=True)
    (folder / "grudge.py").write_text(GRADERS_OF_A_PACKAGE)
    (folder / "grudge-1.0.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: grudge\nVersion: 1.0\n")
    points = (
        "half = grudge:half\nodd = grudge:odd\nattack = grudge:attack\nbroken = grudge:nothing\nmath = grudge:half\n"
    )
    (folder / "grudge-1.0.dist-info" / "entry_points.txt").write_text(f"[rucksack.graders]\n{points}")
    monkeypatch.syspath_prepend(str(folder))
    forget_entry_points()
    yield folder
    forget_entry_points()
    sys.modules.pop("grudge", None)


def forget_entry_points() -> None:
    graders._entry_points.cache_clear()
    graders._grader.cache_clear()


@pytest.fixture
def make_pool() -> Iterator[Callable[..., Pool]]:
    pools: list[Pool] = []

    def make(workers: int = 1, timeout_s: int = 20, **options: int) -> Pool:
        pools.append(Pool(workers, timeout_s=timeout_s, **options))
        return pools[-1]

    yield make
    for pool in pools:
        pool.close()
