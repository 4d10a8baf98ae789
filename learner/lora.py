"""Puts low-rank adapters (LoRA, arXiv 2106.09685) into the model, and merges them into the weights that are published.

Only the adapters are trained. Merging leaves the trained model alone, so nothing is lost to rounding however often it is
done.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from learner import ranks
from stream.config import LearnerTable
from stream.errors import UserError

ADAPTER = "default"


def add_adapters(model: Any, table: LearnerTable) -> None:
    """Freeze the model and put adapters beside its `lora_targets`.

    Raises:
        UserError: peft is not installed, or a target is not in the model.

    """
    try:
        from peft import LoraConfig, inject_adapter_in_model
    except ImportError:
        raise UserError(
            "learner.lora_rank needs peft, which is not installed; pip install 'rucksack-rl[lora]'"
        ) from None
    config = LoraConfig(
        r=table.lora_rank, lora_alpha=table.lora_alpha, target_modules=list(table.lora_targets) or "all-linear"
    )
    try:
        inject_adapter_in_model(config, model, adapter_name=ADAPTER)
    except ValueError as error:
        raise UserError(f"learner.lora_targets is {list(table.lora_targets)}: {error}") from None
    for name, parameter in model.named_parameters():
        parameter.requires_grad_("lora_" in name)


def adapted_layers(model: Any) -> dict[str, Any]:
    """Layers with an adapter, by the name of the layer that they wrap."""
    return {name: module for name, module in model.named_modules() if hasattr(module, "get_delta_weight")}


@contextmanager
def base_policy(model: Any) -> Iterator[None]:
    """Within the block the model computes what it did before training."""
    layers = adapted_layers(model).values()
    for layer in layers:
        layer.enable_adapters(False)
    try:
        yield
    finally:
        for layer in layers:
            layer.enable_adapters(True)


def published_name(name: str) -> str:
    """What a parameter of an adapter is called where it travels alone; other names stay as they are."""
    return name.replace(f".{ADAPTER}.", ".")


@torch.no_grad()
def each_merged(model: Any) -> Iterator[tuple[str, Tensor]]:
    """Parameters and buffers under transformers' names, whole, on the model's device, one at a time; on all ranks.

    Tensors that are tied to another are left out.
    """
    tied = set(getattr(model, "all_tied_weights_keys", ())) if model.config.tie_word_embeddings else set()
    layers = adapted_layers(model)
    for name, tensor in model.state_dict().items():
        layer, _, parameter = name.rpartition(".base_layer.")
        if "lora_" in name or name in tied:
            continue
        full = ranks.gathered(tensor)
        if layer in layers and parameter == "weight":
            full = full + ranks.gathered(layers[layer].get_delta_weight(ADAPTER)).to(full.dtype)
        yield name.replace(".base_layer.", "."), full


def each_adapter(model: Any) -> Iterator[tuple[str, Tensor]]:
    """The adapters alone, `LAYER.lora_A.weight` [rank, in] and `LAYER.lora_B.weight` [out, rank], whole, one at a time; on all
    ranks.
    """
    for name, tensor in model.state_dict().items():
        if "lora_" in name:
            yield published_name(name), ranks.gathered(tensor)


def merged_weights(model: Any) -> dict[str, Tensor]:
    """`each_merged`, on the CPU."""
    return {name: tensor.cpu().contiguous() for name, tensor in each_merged(model)}
