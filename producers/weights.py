"""Checks weights before the engine is touched, and hands patches over to it. No tensor is loaded, no torch needed.

Enters: a folder of safetensors files, read by their headers alone, or patches. Weights that do not fit are refused here, before the engine is touched: once vLLM has begun to overwrite its weights a
failure cannot be undone (a half-loaded layer keeps what it has buffered, and the next load is wrong).
"""

import json
import os
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from math import prod
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from stream.errors import UserError
from stream.patches import BITS, TensorPatch

Tensors = dict[str, tuple[int, ...]]
"""Name to shape."""

MAX_HEADER_BYTES = 100_000_000
"""Of a safetensors file, by its specification."""
INDICES = "@indices"
"""What follows the name of a tensor in the name of its indices, where a file holds only some of its elements."""
CODES = {"bfloat16": "BF16", "float16": "F16", "float32": "F32"} | {"uint32": "U32", "int64": "I64"}
"""The names of dtypes in safetensors files, those of values and those of indices."""


def model_folder(path: str | Path) -> Path:
    """The folder of a transformers model.

    Raises:
        UserError: there is none.

    """
    folder = Path(path)
    if not (folder / "config.json").is_file():
        raise UserError(
            f"model path is {str(path)!r}, which has no config.json; want a folder of a transformers model "
            "(config.json, *.safetensors)"
        )
    return folder


def read_tensors(folder: str | Path) -> Tensors:
    """Names and shapes of all tensors of a model, files checked to be complete.

    Raises:
        UserError: no safetensors file, or one that is cut short or broken.

    """
    files = sorted(model_folder(folder).glob("*.safetensors"))
    if not files:
        raise UserError(f"weights folder {str(folder)!r} has no *.safetensors file")
    tensors: Tensors = {}
    for file in files:
        try:
            tensors.update(read_header(file))
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise UserError(f"weights file {str(file)!r} is broken: {error}") from error
    if json.loads((Path(folder) / "config.json").read_text()).get("tie_word_embeddings"):
        tensors.pop("lm_head.weight", None)  # some writers repeat the tied matrix, and the loader skips it
    return tensors


def read_header(file: Path) -> Tensors:
    """Names and shapes in one safetensors file.

    Raises:
        ValueError: the file is shorter or longer than its header says, or the header is no JSON.

    """
    return {name: tuple(entry["shape"]) for name, entry in read_entries(file)[0].items()}


def read_entries(file: Path) -> tuple[dict[str, Any], int]:
    """What a safetensors file says of each tensor (dtype, shape, data_offsets), and where its data begin; raises alike."""
    with file.open("rb") as stream:
        header_bytes = int.from_bytes(stream.read(8), "little")
        if not 0 < header_bytes <= MAX_HEADER_BYTES:
            raise ValueError(f"header of {header_bytes} bytes")
        header: dict[str, Any] = json.loads(stream.read(header_bytes))
    header.pop("__metadata__", None)
    end = max((tensor["data_offsets"][1] for tensor in header.values()), default=0)
    if file.stat().st_size != 8 + header_bytes + end:
        raise ValueError(f"{file.stat().st_size} bytes; its header says {8 + header_bytes + end}")
    return header, 8 + header_bytes


def check_fit(served: Tensors, offered: Tensors, folder: str | Path) -> None:
    """Check that offered weights replace all of the served ones.

    Raises:
        UserError: a tensor is missing, unknown, or has another shape.

    """
    wrong = sorted(name for name in served.keys() | offered.keys() if served.get(name) != offered.get(name))
    if wrong:
        name = wrong[0]
        raise UserError(
            f"weights in {str(folder)!r} do not fit the served model: {len(wrong)} tensors differ, first {name} "
            f"with shape {offered.get(name)}; want {served.get(name)}"
        )


def check_patches(served: Tensors, patches: Sequence[TensorPatch]) -> None:
    """Check that patches change elements that the served model has.

    Raises:
        UserError: a tensor is unknown or named twice, has another shape, or its values or indices are not as they
            should be.

    """
    names: set[str] = set()
    for patch in patches:
        wrong = "it is patched twice" if patch.name in names else _fault_of(patch, served.get(patch.name))
        if wrong:
            raise UserError(f"patch of tensor {patch.name!r} does not fit the served model: {wrong}")
        names.add(patch.name)


def check_in_place(served: Tensors, in_place: Collection[str], patches: Sequence[TensorPatch]) -> None:
    """`check_patches`, and that patches are the whole model unless all of its tensors can be written `in_place`.

    Raises:
        UserError: a patch does not fit, or is of some tensors of a model that can only be loaded whole.

    """
    check_patches(served, patches)
    kept = sorted(served.keys() - in_place)
    if kept and {patch.name for patch in patches if patch.indices is None} != served.keys():
        form = f"vLLM keeps {len(kept)} tensors of this model in a form of its own, first {kept[0]}"
        raise UserError(f"{form}, so only the whole model can be loaded; {len(patches)} patches are not all of it")


def _fault_of(patch: TensorPatch, shape: tuple[int, ...] | None) -> str:
    """What is wrong with a patch, empty if nothing is."""
    bits, num_elements = BITS.get(patch.dtype), prod(patch.shape)
    indices = patch.indices
    size = num_elements if indices is None else indices.size
    if patch.shape != shape:
        return f"shape is {patch.shape}; want {shape or 'a tensor of the model'}"
    if bits is None or patch.values.dtype != bits:
        return f"values are {patch.values.dtype} of dtype {patch.dtype!r}; want raw bits, as in {sorted(BITS)}"
    if patch.values.shape != (size,):
        return f"values have shape {patch.values.shape}; want ({size},)"
    if indices is None or not size:
        return ""
    if indices.ndim != 1 or indices.dtype.name not in ("uint32", "int64"):
        return f"indices are {indices.dtype} of shape {indices.shape}; want uint32 or int64, [K]"
    if indices[0] < 0 or indices[-1] >= num_elements or not (indices[1:] > indices[:-1]).all():
        return f"indices run from {indices[0]} to {indices[-1]}; want ascending ones from 0, below {num_elements}"
    return ""


@contextmanager
def in_memory(patches: Sequence[TensorPatch]) -> Iterator[str]:
    """Within the block a safetensors file holds the patches that processes of this user can open by the path yielded.

    It lies in memory and has no name, so a process that is killed leaves nothing behind.
    """
    descriptor = os.memfd_create("weights")
    try:
        with os.fdopen(descriptor, "wb", closefd=False) as stream:
            write_patches(stream, patches)
        yield f"/proc/{os.getpid()}/fd/{descriptor}"
    finally:
        os.close(descriptor)


def write_patches(stream: BinaryIO, patches: Sequence[TensorPatch]) -> None:
    """Write patches as a safetensors file: a whole tensor under its name, else values [K], and indices beside them."""
    arrays: list[tuple[str, str, list[int], NDArray[Any]]] = []
    for patch in patches:
        if patch.indices is None:
            arrays.append((patch.name, CODES[patch.dtype], list(patch.shape), patch.values))
        else:
            code = CODES[patch.indices.dtype.name]
            arrays.append((patch.name, CODES[patch.dtype], [patch.values.size], patch.values))
            arrays.append((patch.name + INDICES, code, [patch.indices.size], patch.indices))
    arrays.sort(key=lambda array: -array[3].itemsize)  # so that each lies at a multiple of its item size
    header, end = {}, 0
    for name, code, shape, array in arrays:
        header[name] = {"dtype": code, "shape": shape, "data_offsets": [end, end := end + array.nbytes]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    stream.write(len(text).to_bytes(8, "little") + text)
    for _, _, _, array in arrays:
        stream.write(np.ascontiguousarray(array).data)
