"""Publishes folders: a reader finds the old content or the new one, whole, also after SIGKILL or a power cut.

A folder is filled under a hidden name beside its target, written through to the disk, and moved into place in one step:
by rename where there is no target yet, else by exchanging the two. What a killed process leaves has a hidden name too,
and goes when its target is published again, or by `remove_leftovers`.
"""

import ctypes
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

WRITING, REPLACED, DROPPING = ".writing-", ".replaced-", ".dropping-"
"""Before the names of folders that are being filled, moved aside, and deleted."""

_AT_FDCWD, _RENAME_EXCHANGE = -100, 2  # <fcntl.h>, <linux/fs.h>


@contextmanager
def publish_folder(target: Path, *, durable: bool = True) -> Iterator[Path]:
    """Give an empty folder to fill, which takes the place of `target` at the end of the block.

    After an exception the target is what it was before, and nothing is left beside it.

    Args:
        target: what to publish, there already or not; its parents are made.
        durable: write through to the disk first. Without it a power cut may leave a folder of empty files, which is
            right only where readers check what they read.

    """
    target.parent.mkdir(parents=True, exist_ok=True)
    _remove_leftovers_of(target)
    staging = target.with_name(WRITING + target.name)
    staging.mkdir()
    try:
        yield staging
        if durable:
            _sync(*staging.rglob("*"), staging)
        _move_into_place(staging, target)
        if durable:
            _sync(target.parent)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def drop_folder(folder: Path) -> None:
    """Delete a folder, if it is there: out of sight at once, so that half of it is never taken for the whole."""
    hidden = folder.with_name(DROPPING + folder.name)
    shutil.rmtree(hidden, ignore_errors=True)
    with suppress(FileNotFoundError):
        folder.rename(hidden)
    shutil.rmtree(hidden, ignore_errors=True)


def remove_leftovers(parent: Path) -> None:
    """Remove what killed processes left half written or half deleted in a folder that only the caller writes."""
    for hidden in [path for prefix in (WRITING, REPLACED, DROPPING) for path in parent.glob(f"{prefix}*")]:
        _remove_leftovers_of(parent / hidden.name.partition("-")[2])


def _remove_leftovers_of(target: Path) -> None:
    replaced = target.with_name(REPLACED + target.name)
    if replaced.exists() and not target.exists():
        replaced.rename(target)  # killed between the two renames of `_move_into_place`
    for prefix in (WRITING, REPLACED, DROPPING):
        shutil.rmtree(target.with_name(prefix + target.name), ignore_errors=True)


def _move_into_place(staging: Path, target: Path) -> None:
    if not target.exists():
        staging.rename(target)
    elif not _exchange(staging, target):
        # No way to do it in one step: for a moment there is no target, and the old one waits under another name.
        replaced = target.with_name(REPLACED + target.name)
        target.rename(replaced)
        staging.rename(target)
        shutil.rmtree(replaced, ignore_errors=True)


def _exchange(one: Path, other: Path) -> bool:
    """Swap two folders in one step; False where the system (not Linux) or the file system (NFS) cannot."""
    libc = ctypes.CDLL(None, use_errno=True)
    if not hasattr(libc, "renameat2"):
        return False
    paths = (_AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other))
    return bool(libc.renameat2(*paths, ctypes.c_uint(_RENAME_EXCHANGE)) == 0)


def _sync(*paths: Path) -> None:
    """Write files and folders through to the disk."""
    for path in paths:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
