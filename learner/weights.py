"""Publishes weights: one folder per version, whole or not there at all, of which the newest few are kept."""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from stream.folders import drop_folder, publish_folder, remove_leftovers
from stream.weights import WEIGHTS_FILE, digest_of


class PolicyStore:
    """Writes versions below `folder`; each is a transformers model folder (weights, config, generation config)."""

    def __init__(self, folder: Path, keep: int) -> None:
        self._folder = folder
        self._keep = keep
        folder.mkdir(parents=True, exist_ok=True)

    def publish(self, weights: dict[str, Tensor], config: Any, version: int) -> tuple[str, str]:
        """Write weights and configuration; returns their folder and digest."""
        remove_leftovers(self._folder)
        folder = self._folder / f"v{version:06d}"
        with publish_folder(folder, durable=False) as staging:  # readers check the digest
            save_file(weights, staging / WEIGHTS_FILE, metadata={"format": "pt"})
            config.save_pretrained(staging)
            digest = digest_of(staging)
        self._prune()
        return str(folder.resolve()), digest

    def _prune(self) -> None:
        """Producers load a version at once, and try the next one if it is gone, so keeping a few is enough."""
        versions = sorted(path for path in self._folder.iterdir() if path.name.startswith("v"))
        for path in versions[: -self._keep]:
            drop_folder(path)


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
