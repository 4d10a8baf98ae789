"""Writes the weights of a version, rebuilt from the topics alone, as a folder that transformers (or peft) and vLLM load.

What enters are the topics and a folder of the model, which gives configuration and tokenizer; what leaves is a folder with
the weights that producers sampled from, bit for bit: a model, or where adapters travel (`learner.lora_publish`) an adapter of it.
"""

import json
import shutil
from pathlib import Path

from stream.broker import Broker
from stream.errors import UserError
from stream.folders import publish_folder
from stream.rebuild import rebuild
from stream.weights import WEIGHTS_FILE, State, write_state

_WEIGHTS = {".safetensors", ".bin", ".pt", ".pth", ".gguf", ".h5", ".msgpack", ".onnx"}
"""Endings of files that hold weights; all others of a model's folder are small."""


def write_policy(broker: Broker, run: str, version: int, model: Path, out: Path, lora_alpha: int | None = None) -> str:
    """Write a version to the folder `out`; returns the digest of its state.

    Args:
        lora_alpha: the run's `learner.lora_alpha`, which an adapter's scale follows from.

    Raises:
        NoSuchVersion: the topics do not hold it.
        UserError: `model` is no folder of a model, or `out` is taken, or there is no `lora_alpha` for an adapter.

    """
    if not (model / "config.json").is_file():
        raise UserError(
            f"model folder is {str(model)!r}, which has no config.json; give the run's base model with --model"
        )
    if out.exists() and any(out.iterdir()):
        raise UserError(f"--out is {str(out)!r}, which is not empty; choose another folder, or remove it")
    state = rebuild(broker, run, version)
    if any(".lora_" in name for name in state.tensors):
        with publish_folder(out) as staging:
            _write_adapter(state, staging, model, lora_alpha)
        return state.digest()
    dtypes = {tensor.dtype for tensor in state.tensors.values()}
    with publish_folder(out) as staging:
        for file in model.iterdir():
            if file.is_file() and file.suffix not in _WEIGHTS and not file.name.endswith(".index.json"):
                shutil.copy(file, staging)
        config = json.loads((model / "config.json").read_text()) | {"dtype": dtypes.pop()}
        config.pop("torch_dtype", None)  # its name before transformers 5
        (staging / "config.json").write_text(json.dumps(config, indent=2))
        with (staging / WEIGHTS_FILE).open("wb") as weights:
            write_state(state, weights)
    return state.digest()


def _write_adapter(state: State, folder: Path, model: Path, alpha: int | None) -> None:
    """An adapter as peft has it."""
    if alpha is None:
        raise UserError("this run publishes adapters, whose scale is in its folder's config.json, which is not there")
    prefixed = State({f"base_model.model.{name}": tensor for name, tensor in state.tensors.items()})
    with (folder / "adapter_model.safetensors").open("wb") as weights:
        write_state(prefixed, weights)
    ranks = {tensor.shape[0] for name, tensor in state.tensors.items() if name.endswith(".lora_A.weight")}
    layers = {name.partition(".lora_")[0].rpartition(".")[2] for name in state.tensors}
    config: dict[str, object] = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": str(model.resolve()),
    }
    config |= {"r": ranks.pop(), "lora_alpha": alpha, "target_modules": sorted(layers)}
    (folder / "adapter_config.json").write_text(json.dumps(config, indent=2))


def alpha_of(folder: Path) -> int | None:
    """The `learner.lora_alpha` of a run, as its folder says; None if it does not."""
    file = folder / "config.json"
    return int(json.loads(file.read_text())["learner"]["lora_alpha"]) if file.is_file() else None


def base_model(folder: Path) -> Path:
    """The model that a run was started from, as its folder says.

    Raises:
        UserError: the folder does not say.

    """
    file = folder / "config.json"
    if not file.is_file():
        raise UserError(f"{folder} has no config.json to name the run's base model; give its folder with --model")
    return Path(json.loads(file.read_text())["run"]["model"])
