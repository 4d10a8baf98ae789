"""What a worker gives up before it sees an answer: time, memory, files, children, the network, and its user.

Each limit is taken where the system and our rights allow it; `enter` tells which were.
"""

import ctypes
import os
import platform
import resource
import signal
import struct
import sys

MEMORY_BYTES = 1 << 30
NOBODY = 65534

_PR_SET_PDEATHSIG, _PR_SET_NO_NEW_PRIVS, _PR_SET_SECCOMP = 1, 38, 22
_PR_SET_KEEPCAPS, _CAP_DAC_READ_SEARCH, _CAPABILITY_VERSION_3 = 8, 2, 0x20080522
_SECCOMP_MODE_FILTER = 2
_CLONE_NEWNET = 0x40000000
_EPERM = 1

# Audit number of the architecture, and the system calls that are refused there. Reading files stays allowed: sympy
# imports parts of itself when it first needs them.
_REFUSED = {
    "x86_64": (
        0xC000003E,
        {
            "calls": (
                *(41, 42, 43, 49, 50, 53, 288),  # socket, connect, accept, bind, listen, socketpair, accept4
                *(56, 57, 58, 59, 322, 435),  # clone, fork, vfork, execve, execveat, clone3
                *(62, 200, 234, 424, 434, 101, 310, 311),  # kill, tkill, tgkill, pidfd_*, ptrace, process_vm_*
                *(76, 82, 83, 84, 85, 86, 87, 88, 90, 92, 94),  # truncate, rename, mkdir, rmdir, creat, links, modes
                *(133, 258, 259, 260, 263, 264, 265, 266, 268, 316, 132, 235, 261, 280),  # mknod, *at, utimes
                *(165, 166, 155, 161, 272, 308, 321, 425, 426, 427),  # mount, chroot, namespaces, bpf, io_uring
                *(2, 437),  # open, openat2: the C library uses openat
            ),
            "openat": 257,
        },
    ),
    "aarch64": (
        0xC00000B7,
        {
            "calls": (
                *(198, 199, 200, 201, 202, 203, 242),
                *(220, 221, 281, 435),
                *(129, 130, 131, 424, 434, 117, 270, 271),
                *(45, 46, 33, 34, 35, 36, 37, 38, 52, 53, 54, 55, 88, 276),
                *(39, 40, 41, 51, 97, 268, 280, 425, 426, 427, 437),
            ),
            "openat": 56,
        },
    ),
}


def enter(parent: int) -> list[str]:
    """Give up what can be given up, for good; returns the names of what was.

    Args:
        parent: process id of the forkserver; if it is gone already, this process ends.

    """
    taken = ["rlimits"]
    for limit in (resource.RLIMIT_FSIZE, resource.RLIMIT_CORE):
        resource.setrlimit(limit, (0, 0))
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    if _linux() and _libc().unshare(_CLONE_NEWNET) == 0:
        taken.append("no network")
    if os.geteuid() == 0 and _become_nobody():
        taken.append("unprivileged user")
    resource.setrlimit(resource.RLIMIT_NPROC, (0, 0))
    if _linux():
        # After the change of user, which would undo it.
        _libc().prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(1)
        if _refuse_system_calls():
            taken.append("system calls")
    return taken


def _become_nobody() -> bool:
    """Change user for good; False where that is forbidden.

    If Python lies in a folder that is closed to others, as below /root, the right to read (and no other) is kept: what
    sympy imports late would fail otherwise.
    """
    libc = _libc()
    try:
        if _linux():
            libc.prctl(_PR_SET_KEEPCAPS, 1, 0, 0, 0)
        os.setgroups([])
        os.setresgid(NOBODY, NOBODY, NOBODY)
        os.setresuid(NOBODY, NOBODY, NOBODY)
    except OSError:
        return False  # a container without CAP_SETUID: the other limits hold
    if _linux():
        kept = 0 if all(map(_can_read, sys.path)) else 1 << _CAP_DAC_READ_SEARCH
        header = struct.pack("Ii", _CAPABILITY_VERSION_3, 0)
        libc.capset(header, struct.pack("6I", kept, kept, 0, 0, 0, 0))
        libc.prctl(_PR_SET_KEEPCAPS, 0, 0, 0, 0)
    return True


def _can_read(path: str) -> bool:
    try:
        with os.scandir(path or "."):
            return True
    except PermissionError:
        return False
    except OSError:
        return True  # no such folder, or an archive: nothing to lose


def limit_cpu(seconds: float) -> None:
    """Let the system kill this process once it has used this much more CPU time."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    soft = int(used.ru_utime + used.ru_stime + seconds) + 1
    resource.setrlimit(resource.RLIMIT_CPU, (soft, resource.RLIM_INFINITY))


def _linux() -> bool:
    return sys.platform == "linux"


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _refuse_system_calls() -> bool:
    """Install a seccomp filter that answers EPERM; False where that cannot be."""
    known = _REFUSED.get(platform.machine())
    if known is None:
        return False
    program = _filter(known[0], known[1]["calls"], known[1]["openat"])  # type: ignore[arg-type]
    code = ctypes.create_string_buffer(program)
    header = struct.pack("HxxxxxxP", len(program) // 8, ctypes.addressof(code))
    libc = _libc()
    if libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0:
        return False
    return bool(libc.prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, ctypes.c_char_p(header), 0, 0) == 0)


def _filter(arch: int, refused: tuple[int, ...], openat: int) -> bytes:
    """A classic BPF program over `struct seccomp_data` (nr at 0, arch at 4, the low half of args[2] at 32)."""
    load, equal, any_bit, ret = 0x20, 0x15, 0x45, 0x06
    allow, refuse, kill = 0x7FFF0000, 0x00050000 | _EPERM, 0x80000000
    writing = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND

    def line(code: int, k: int, yes: int = 0, no: int = 0) -> bytes:
        return struct.pack("HBBI", code, yes, no, k)

    lines = [line(load, 4), line(equal, arch, 1, 0), line(ret, kill), line(load, 0)]
    for number in refused:
        lines += [line(equal, number, 0, 1), line(ret, refuse)]
    lines += [line(equal, openat, 0, 3), line(load, 32), line(any_bit, writing, 0, 1), line(ret, refuse)]
    lines += [line(ret, allow)]
    return b"".join(lines)
