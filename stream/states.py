"""Keeps whole states of the weights in a store that learner and producers reach by URI: a folder, or an object store.

What enters are states, what leaves are URIs of safetensors files, and states read back. URIs are fsspec's: a path,
`s3://bucket/folder` (with s3fs installed), `gs://...`. A file is named by the version and the digest, so no two learners
write the same file unless it is the same state.
"""

import re
from typing import Any

import numpy as np

from stream.errors import UserError
from stream.weights import State, read_tensors, write_state


class StateStore:
    """A folder of whole states of one run."""

    def __init__(self, uri: str, run: str) -> None:
        self._fs, folder = _open(uri)
        self._folder = f"{folder.rstrip('/')}/{run}"
        self._fs.makedirs(self._folder, exist_ok=True)

    def write(self, state: State, version: int, digest: str) -> str:
        """Write a state; returns the URI of its file."""
        path = f"{self._folder}/v{version:06d}-{digest[:16]}.safetensors"
        with self._fs.open(path, "wb") as file:
            write_state(state, file)
        return str(self._fs.unstrip_protocol(path))

    def drop_before(self, version: int) -> None:
        """Delete the files of older versions, also those that a killed learner has left."""
        for path in self._fs.ls(self._folder, detail=False):
            name = re.fullmatch(r"v(\d+)-[0-9a-f]+\.safetensors", path.rpartition("/")[2])
            if name and int(name[1]) < version:
                self._fs.rm_file(path)


def read_stored(uri: str) -> State:
    """The state in a file of a store.

    Raises:
        FileNotFoundError: it is gone.
        ValueError: it is cut short, or holds what is no weight.

    """
    fs, path = _open(uri)
    with fs.open(path, "rb") as file:
        data = np.frombuffer(bytearray(file.read()), np.uint8)
    return State(read_tensors(data, uri))


def _open(uri: str) -> tuple[Any, str]:
    from fsspec.core import url_to_fs

    try:
        fs, path = url_to_fs(uri)
    except (ImportError, ValueError) as error:
        raise UserError(f"learner.anchor_store is {uri!r}: {error}") from None
    return fs, str(path)
