"""Keeps the state of a model's weights in host memory, as bits, and names it by a digest. Never imports torch.

What enters are patches and folders of safetensors, what leaves are digests, whole states and safetensors files. The
digest is a pure function of the tensors' names, dtypes, shapes and bytes, the same in every process:

    tensor's digest = sha256(name, 0, dtype, 0, dimensions in decimal with commas between, 0, bytes little-endian)
    state's digest  = sha256(the tensors' digests, in the order of the names as UTF-8)
"""

import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any, Self

import numpy as np

from stream.messages import Dtype
from stream.patches import BITS, Bits, TensorPatch

WEIGHTS_FILE = "model.safetensors"

_CODES: dict[str, Dtype] = {"BF16": "bfloat16", "F16": "float16", "F32": "float32"}
"""Of dtypes in a safetensors header."""
_NAMES = {dtype: code for code, dtype in _CODES.items()}


@dataclass(frozen=True, slots=True)
class HostTensor:
    """One tensor's bits, flattened in row-major order."""

    dtype: Dtype
    shape: tuple[int, ...]
    bits: Bits  # [numel]


class State:
    """All weights of one model. Only tensors that patches have changed since are hashed again."""

    def __init__(self, tensors: Mapping[str, HostTensor] | None = None) -> None:
        self.tensors: dict[str, HostTensor] = dict(tensors or {})
        self._digests: dict[str, bytes] = {}

    @classmethod
    def of(cls, whole: Iterable[TensorPatch]) -> Self:
        """A state of dense patches, whose arrays it takes over; those that cannot be written are copied.

        Raises:
            ValueError: a patch is not dense.

        """
        state = cls()
        for patch in whole:
            if patch.indices is not None:
                raise ValueError(f"patch of {patch.name} has only some elements; there is nothing")
            bits = patch.values if patch.values.flags.writeable else patch.values.copy()
            state.tensors[patch.name] = HostTensor(patch.dtype, patch.shape, bits)
        return state

    @property
    def num_bytes(self) -> int:
        """Of all tensors."""
        return sum(tensor.bits.nbytes for tensor in self.tensors.values())

    def apply(self, patches: Iterable[TensorPatch]) -> None:
        """Set new values in place; a dense patch may bring a new tensor.

        Raises:
            ValueError: a patch is of a tensor that is not there, or is of another shape or dtype there.

        """
        for patch in patches:
            tensor = self.tensors.get(patch.name)
            if tensor is None and patch.indices is None:
                tensor = HostTensor(patch.dtype, patch.shape, np.empty(patch.num_elements, BITS[patch.dtype]))
                self.tensors[patch.name] = tensor
            if tensor is None or (tensor.shape, tensor.dtype) != (patch.shape, patch.dtype):
                there = "nothing" if tensor is None else f"{tensor.dtype} {list(tensor.shape)}"
                raise ValueError(f"patch of {patch.name} is {patch.dtype} {list(patch.shape)}; there is {there}")
            self._digests.pop(patch.name, None)
            if patch.indices is None:
                tensor.bits[:] = patch.values
            else:
                tensor.bits[patch.indices] = patch.values

    def digest(self) -> str:
        """Name of the state, hexadecimal (see the module)."""
        changed = [name for name in self.tensors if name not in self._digests]
        with ThreadPoolExecutor(max_workers=min(8, os.cpu_count() or 1)) as pool:  # hashing frees the GIL
            self._digests |= zip(changed, pool.map(self._tensor_digest, changed), strict=True)
        whole = hashlib.sha256()
        for name in sorted(self.tensors, key=str.encode):
            whole.update(self._digests[name])
        return whole.hexdigest()

    def _tensor_digest(self, name: str) -> bytes:
        tensor = self.tensors[name]
        shape = ",".join(map(str, tensor.shape))
        result = hashlib.sha256(f"{name}\0{tensor.dtype}\0{shape}\0".encode())
        result.update(tensor.bits.astype(BITS[tensor.dtype], copy=False).data)
        return result.digest()

    def whole(self) -> list[TensorPatch]:
        """The state as dense patches, which share its memory."""
        return [
            TensorPatch(name=name, shape=tensor.shape, dtype=tensor.dtype, values=tensor.bits)
            for name, tensor in self.tensors.items()
        ]


def digest_of(folder: str | Path) -> str:
    """Digest of the weights in a folder of safetensors.

    Raises:
        FileNotFoundError: the folder is gone, or holds no weights.
        ValueError: a file is cut short, or holds what is no weight.

    """
    return read_state(folder).digest()


# -- safetensors ------------------------------------------------------------------------------------------------------


def read_state(folder: str | Path) -> State:
    """The weights in a folder of safetensors, mapped from its files: changed in memory only.

    Raises:
        FileNotFoundError: the folder is gone, or holds no weights.
        ValueError: a file is cut short, or holds what is no weight.

    """
    files = sorted(Path(folder).glob("*.safetensors"))
    if not files:
        raise FileNotFoundError(f"{folder} has no *.safetensors file")
    state = State()
    for file in files:
        state.tensors |= read_tensors(np.memmap(file, np.uint8, mode="c"), str(file))
    return state


def read_tensors(data: Any, source: str) -> dict[str, HostTensor]:
    """The tensors in the bytes of one safetensors file, which they share.

    Raises:
        ValueError: it is cut short, or holds what is no weight.

    """
    buffer = memoryview(data)
    start = 8 + int.from_bytes(bytes(buffer[:8]), "little")
    try:
        header = json.loads(bytes(buffer[8:start]))
        header.pop("__metadata__", None)
        return {name: _tensor(buffer[start:], entry) for name, entry in header.items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"weights file {source} is broken: {error}") from None


def _tensor(buffer: memoryview, entry: Mapping[str, Any]) -> HostTensor:
    dtype = _CODES[entry["dtype"]]
    first, last = entry["data_offsets"]
    shape = tuple(int(size) for size in entry["shape"])
    if not 0 <= first <= last <= len(buffer) or last - first != prod(shape) * BITS[dtype].itemsize:
        raise ValueError(f"bytes {first} to {last} of {len(buffer)} are no {dtype} tensor of shape {list(shape)}")
    return HostTensor(dtype, shape, np.frombuffer(buffer[first:last], BITS[dtype]))


def safetensors_header(state: State) -> bytes:
    """What comes before the bytes of the tensors, which follow in the order of `state.tensors`."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name, tensor in state.tensors.items():
        start, end = end, end + tensor.bits.nbytes
        header[name] = {"dtype": _NAMES[tensor.dtype], "shape": list(tensor.shape), "data_offsets": [start, end]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text


def write_state(state: State, file: Any) -> None:
    """Write the state as a safetensors file into a file that is open for bytes."""
    file.write(safetensors_header(state))
    for tensor in state.tensors.values():
        file.write(tensor.bits.astype(BITS[tensor.dtype], copy=False).data)
