"""Reads the size of a transformers model from its folder: config.json and the headers of its weights. Loads no tensor."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stream.errors import UserError


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFacts:
    """What a memory plan needs to know of a decoder."""

    parameters: int
    layers: int
    width: int
    """Of the residual stream."""
    inner: int
    """Width of the feed-forward part."""
    vocabulary: int
    kv_width: int
    """Elements of keys and values of one token in one layer."""
    weight_bytes: int
    """Of one parameter as the model is stored, which is what the engine's dtype `auto` takes."""
    linear_width: int
    """Sum of inputs and outputs of all adapted matrices of a layer: a LoRA adapter of rank r has r times as many."""


def require_model(folder: str) -> None:
    """Check that a folder holds a transformers model.

    Raises:
        UserError: it does not.

    """
    if not (Path(folder) / "config.json").is_file():
        raise UserError(
            f"run.model is {folder!r}, which is not a folder with a config.json; want a model in transformers' "
            "format, e.g. demo/base (paths are relative to the current folder; one from the hub is put into a folder by "
            "`hf download NAME --local-dir FOLDER`)"
        )


def facts_of(folder: str | Path) -> ModelFacts:
    """The facts of a model; its parameters are counted in its config where the weights are not there.

    Raises:
        UserError: no config.json, or one that is not a decoder's.

    """
    file = Path(folder) / "config.json"
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
        return _facts(config, Path(folder))
    except FileNotFoundError:
        raise UserError(
            f"there is no {file}; want the folder of a transformers model, or at least its config.json"
        ) from None
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(
            f"{file} does not say {error}; want the config of a decoder (hidden_size, num_hidden_layers, vocab_size, ...)"
        ) from None


def _facts(config: dict[str, Any], folder: Path) -> ModelFacts:
    config = config.get("text_config", config)
    width, layers = int(config["hidden_size"]), int(config["num_hidden_layers"])
    heads = int(config["num_attention_heads"])
    head = int(config.get("head_dim") or width // heads)
    kv = int(config.get("num_key_value_heads") or heads) * head
    inner, vocabulary = int(config["intermediate_size"]), int(config["vocab_size"])
    matrices = ((width, heads * head), (width, kv), (width, kv), (heads * head, width), (width, inner), (width, inner),
                (inner, width))  # fmt: skip
    of_layer = sum(rows * columns for rows, columns in matrices)
    embeddings = vocabulary * width * (1 if config.get("tie_word_embeddings") else 2)
    counted = layers * (of_layer + 2 * width) + embeddings + width
    return ModelFacts(
        parameters=_stored_parameters(folder, bool(config.get("tie_word_embeddings"))) or counted,
        layers=layers,
        width=width,
        inner=inner,
        vocabulary=vocabulary,
        kv_width=2 * kv,
        weight_bytes=4 if str(config.get("dtype") or config.get("torch_dtype")) == "float32" else 2,
        linear_width=sum(rows + columns for rows, columns in matrices),
    )


def _stored_parameters(folder: Path, tied: bool) -> int:
    """Elements in the safetensors files' headers, 0 without files."""
    count = 0
    for file in folder.glob("*.safetensors"):
        with file.open("rb") as stream:
            header = json.loads(stream.read(int.from_bytes(stream.read(8), "little")))
        for name, tensor in header.items():
            if name == "__metadata__" or (tied and name == "lm_head.weight"):
                continue
            size = 1
            for length in tensor["shape"]:
                size *= length
            count += size
    return count
