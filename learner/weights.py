"""Writes the trained model, and picks the device that it is trained on."""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from stream.folders import publish_folder
from stream.weights import WEIGHTS_FILE


def save_final(model: Any, weights: dict[str, Tensor], tokenizer: Any, folder: Path, facts: dict[str, Any]) -> None:
    """The trained model with its tokenizer, as transformers and vLLM load it; replaces an older one."""
    with publish_folder(folder) as staging:
        save_file(weights, staging / WEIGHTS_FILE, metadata={"format": "pt"})
        model.config.save_pretrained(staging)
        if model.generation_config is not None:
            model.generation_config.save_pretrained(staging)
        tokenizer.save_pretrained(staging)
        (staging / "rucksack.json").write_text(json.dumps(facts, indent=2))


def pick_device(wanted: str) -> torch.device:
    """The device that `learner.device` asks for; auto takes a GPU if there is one."""
    if wanted == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return torch.device(wanted)
