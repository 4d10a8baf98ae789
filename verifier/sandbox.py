"""Takes from a worker, before it sees an answer, what it could do harm with: time, memory, files, children, the network.

Each limit is set where the system and our rights allow it; `enter` returns the names of those that were.
"""

import ctypes
import os
import platform
import resource
import struct
import sys
import time
from functools import lru_cache

from stream.parent_death import die_with_parent

MEMORY_BYTES = 1 << 30
NOBODY = 65534

_PR_SET_NO_NEW_PRIVS, _PR_SET_SECCOMP = 38, 22
_PR_SET_KEEPCAPS, _CAP_DAC_READ_SEARCH, _CAPABILITY_VERSION_3 = 8, 2, 0x20080522
_SECCOMP_MODE_FILTER = 2
_CLONE_NEWNET = 0x40000000
_EPERM = 1

_ARCHITECTURES = {"x86_64": (0xC000003E, 0), "aarch64": (0xC00000B7, 1)}
"""Machine: its audit number, and its column in the tables of system calls."""
_OPENAT = (257, 56)
# Reading files stays allowed: sympy imports parts of itself when it first needs them.
# fmt: off
_REFUSED: dict[str, tuple[int | None, int | None]] = {  # system call: its number on x86-64 and on arm64, if it has one
    # the network
    "socket": (41, 198), "socketpair": (53, 199), "bind": (49, 200), "listen": (50, 201), "accept": (43, 202),
    "accept4": (288, 242), "connect": (42, 203),
    # new processes and programs
    "clone": (56, 220), "clone3": (435, 435), "fork": (57, None), "vfork": (58, None), "execve": (59, 221),
    "execveat": (322, 281),
    # other processes
    "kill": (62, 129), "tkill": (200, 130), "tgkill": (234, 131), "pidfd_send_signal": (424, 424),
    "pidfd_open": (434, 434), "ptrace": (101, 117), "process_vm_readv": (310, 270), "process_vm_writev": (311, 271),
    # content, names and attributes of files
    "truncate": (76, 45), "ftruncate": (77, 46), "creat": (85, None),
    "mknod": (133, None), "mknodat": (259, 33), "mkdir": (83, None), "mkdirat": (258, 34), "rmdir": (84, None),
    "unlink": (87, None), "unlinkat": (263, 35), "symlink": (88, None), "symlinkat": (266, 36),
    "link": (86, None), "linkat": (265, 37), "rename": (82, None), "renameat": (264, 38), "renameat2": (316, 276),
    "chmod": (90, None), "fchmod": (91, 52), "fchmodat": (268, 53), "fchmodat2": (452, 452),
    "chown": (92, None), "lchown": (94, None), "fchown": (93, 55), "fchownat": (260, 54),
    "utime": (132, None), "utimes": (235, None), "futimesat": (261, None), "utimensat": (280, 88),
    # opening without openat, whose flags are the ones looked at
    "open": (2, None), "openat2": (437, 437), "open_by_handle_at": (304, 265),
    # mounts, namespaces, and ways into the kernel
    "mount": (165, 40), "umount2": (166, 39), "pivot_root": (155, 41), "chroot": (161, 51), "unshare": (272, 97),
    "setns": (308, 268), "bpf": (321, 280),
    "io_uring_setup": (425, 425), "io_uring_enter": (426, 426), "io_uring_register": (427, 427),
}
# fmt: on


def enter(parent: int) -> list[str]:
    """Give up for good what can be given up; returns the names of what was.

    Args:
        parent: process id of the forkserver; if it is gone already, this process ends.

    """
    given_up = ["rlimits"]
    for limit in (resource.RLIMIT_FSIZE, resource.RLIMIT_CORE):
        resource.setrlimit(limit, (0, 0))
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    if _linux() and _libc().unshare(_CLONE_NEWNET) == 0:
        given_up.append("no network")
    if os.geteuid() == 0 and _become_nobody():
        given_up.append("unprivileged user")
    resource.setrlimit(resource.RLIMIT_NPROC, (0, 0))
    if _linux():
        die_with_parent(parent)  # after the change of user, which would undo it
        if _refuse_system_calls():
            given_up.append("system calls")
    return given_up


def _become_nobody() -> bool:
    """Change user for good; False where that is forbidden.

    If Python is installed in a folder that is closed to others, as below /root, the right to read (and no other) is
    kept: late imports of sympy would fail otherwise.
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
    _set_cpu_limit(int(time.process_time() + seconds) + 1)


@lru_cache(maxsize=1)
def _set_cpu_limit(soft: int) -> None:
    """Cached, as it is asked for before every answer, and changes once a second of CPU."""
    resource.setrlimit(resource.RLIMIT_CPU, (soft, resource.RLIM_INFINITY))


def _linux() -> bool:
    return sys.platform == "linux"


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _refuse_system_calls() -> bool:
    """Install a seccomp filter that answers EPERM; False where that cannot be."""
    if platform.machine() not in _ARCHITECTURES:
        return False
    audit_number, column = _ARCHITECTURES[platform.machine()]
    numbers = [numbers[column] for numbers in _REFUSED.values()]
    program = _filter(audit_number, [number for number in numbers if number is not None], _OPENAT[column])
    code = ctypes.create_string_buffer(program)
    header = struct.pack("HxxxxxxP", len(program) // 8, ctypes.addressof(code))
    libc = _libc()
    if libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0:
        return False
    return bool(libc.prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, ctypes.c_char_p(header), 0, 0) == 0)


def _filter(audit_number: int, refused: list[int], openat: int) -> bytes:
    """A classic BPF program over `struct seccomp_data` (nr at 0, arch at 4, the low half of args[2] at 32)."""
    load, equal, at_least, any_bit, ret = 0x20, 0x15, 0x35, 0x45, 0x06
    allow, refuse, kill = 0x7FFF0000, 0x00050000 | _EPERM, 0x80000000
    writing = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND

    def line(code: int, k: int, yes: int = 0, no: int = 0) -> bytes:
        return struct.pack("HBBI", code, yes, no, k)

    lines = [line(load, 4), line(equal, audit_number, 1, 0), line(ret, kill), line(load, 0)]
    # x86-64 has every call a second time from here on, with 32-bit pointers.
    lines += [line(at_least, 0x40000000, 0, 1), line(ret, refuse)]
    for number in refused:
        lines += [line(equal, number, 0, 1), line(ret, refuse)]
    lines += [line(equal, openat, 0, 3), line(load, 32), line(any_bit, writing, 0, 1), line(ret, refuse)]
    lines += [line(ret, allow)]
    return b"".join(lines)
