"""Does to processes of this machine what machines do: kills, stops, cuts connections, fills disks, sets clocks.

Every ability is tried once before it is used (`abilities`); one that this machine does not allow is named with the reason.
Invariant: what was stopped or filled here can be undone here.
"""

import os
import shutil
import signal
import socket
import struct
import subprocess
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

import psutil

BALLAST = "chaos.ballast"
"""The file that fills a disk."""
BLOCK_BYTES = 4096


def send_signal(pid: int, number: signal.Signals) -> None:
    """To a process, if it is still there."""
    with suppress(ProcessLookupError):
        os.kill(pid, number)


def ports_to(pid: int, ports: Iterable[int]) -> list[int]:
    """Own ports of a process's connections to any of some ports."""
    wanted = set(ports)
    with suppress(psutil.Error):
        connections = psutil.Process(pid).net_connections("tcp")
        return [c.laddr.port for c in connections if c.raddr and c.raddr.port in wanted]
    return []


def cut(own_ports: Iterable[int] = (), any_ports: Iterable[int] = ()) -> bool:
    """Close connections for both sides (`ss -K`): those that end at own ports here, or have one of `any_ports` at either end.

    Returns False where the system refuses.
    """
    terms = [f"sport = :{port}" for port in own_ports]
    terms += [f"{side} = :{port}" for port in any_ports for side in ("sport", "dport")]
    if not terms:
        return True
    done = subprocess.run(["ss", "-K", "-tn", "( " + " or ".join(terms) + " )"], capture_output=True, check=False)
    return done.returncode == 0


def fill(folder: Path) -> None:
    """Leave no block free on the file system of a folder."""
    file = os.open(folder / BALLAST, os.O_WRONLY | os.O_CREAT)
    size, chunk = 0, os.fstatvfs(file).f_bavail * BLOCK_BYTES
    while chunk >= BLOCK_BYTES:  # others write meanwhile: what does not fit is halved
        try:
            os.posix_fallocate(file, size, chunk)
            size += chunk
        except OSError:
            chunk //= 2
    os.close(file)


def free(folder: Path) -> None:
    """Undo `fill`."""
    (folder / BALLAST).unlink(missing_ok=True)


def mount(folder: Path, size: str) -> str | None:
    """Make a folder a small file system of its own; returns why not, or None."""
    folder.mkdir(parents=True, exist_ok=True)
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)],
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stderr.strip() or f"exit code {done.returncode}" if done.returncode else None


def unmount(folder: Path) -> None:
    """Undo `mount`; what was on it is gone."""
    subprocess.run(["umount", str(folder)], capture_output=True, check=False)


def why_no_cuts() -> str | None:
    """Why connections of others cannot be closed here; None if they can."""
    if shutil.which("ss") is None:
        return "there is no `ss` (iproute2)"
    with socket.create_server(("127.0.0.1", 0)) as server:
        with socket.create_connection(server.getsockname()) as client, server.accept()[0]:
            cut([client.getsockname()[1]])
            client.settimeout(1)
            try:
                client.recv(1)
            except TimeoutError:
                return "`ss -K` closes nothing (it wants CAP_NET_ADMIN and a kernel with INET_DIAG_DESTROY)"
            except OSError:
                return None
    return "the connection ended by itself"


def why_no_mounts(folder: Path) -> str | None:
    """Why no small file system can be had here; None if one can."""
    probe = folder / "probe"
    reason = mount(probe, "1m")
    if reason is None:
        unmount(probe)
    probe.rmdir()
    return reason


def build_clock(folder: Path) -> Path | None:
    """The library that shifts one process's wall clock (benchmarks/clock.c), compiled; None where there is no C compiler."""
    library = folder / "clock.so"
    source = Path(__file__).with_name("clock.c")
    command = ["cc", "-O2", "-shared", "-fPIC", "-o", str(library), str(source), "-ldl"]
    try:
        subprocess.run(command, capture_output=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return library


def set_clock(file: Path, shift_s: int) -> None:
    """Shift the wall clock of the processes that have mapped a file; it stays the same file, and is never cut short."""
    with file.open("r+b" if file.exists() else "w+b") as clock:
        clock.write(struct.pack("q", shift_s))
