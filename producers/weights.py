"""Checks weights on disk by their safetensors headers alone: no tensor is loaded, and no torch is needed.

Weights that do not fit are refused here, before the engine is touched: once vLLM has begun to overwrite its weights a
failure cannot be undone (a half-loaded layer keeps what it has buffered, and the next load is wrong).
"""

import json
from pathlib import Path

from stream.errors import UserError

Tensors = dict[str, tuple[int, ...]]
"""Name to shape."""

MAX_HEADER_BYTES = 100_000_000
"""Of a safetensors file, by its specification."""


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
    with file.open("rb") as stream:
        header_bytes = int.from_bytes(stream.read(8), "little")
        if not 0 < header_bytes <= MAX_HEADER_BYTES:
            raise ValueError(f"header of {header_bytes} bytes")
        header = json.loads(stream.read(header_bytes))
    header.pop("__metadata__", None)
    end = max((tensor["data_offsets"][1] for tensor in header.values()), default=0)
    if file.stat().st_size != 8 + header_bytes + end:
        raise ValueError(f"{file.stat().st_size} bytes; its header says {8 + header_bytes + end}")
    return {name: tuple(tensor["shape"]) for name, tensor in header.items()}


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
