"""Serves a low-rank adapter (LoRA) beside base weights that never change. One part checks it, the other runs in vLLM's worker.

Enters: an adapter as whole tensors, `LAYER.lora_A.weight` [rank, in] and `LAYER.lora_B.weight` [out, rank] of each adapted layer.
Leaves: vLLM's one adapter slot with these values. Every request names that slot, from the start, when it holds zeros: so its
tokens are sampled by whatever is in the slot, and a switch between two steps changes it for all of them.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from producers.weights import Tensors, check_patches
from stream.errors import UserError
from stream.patches import TensorPatch

if TYPE_CHECKING:
    from torch import Tensor
    from vllm.lora.request import LoRARequest

SLOT = 1
"""Number of the one adapter, as vLLM counts them."""
RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)
"""Ranks that vLLM can make room for."""
ENDS = (".lora_A.weight", ".lora_B.weight")


@dataclass(frozen=True, slots=True)
class Adapter:
    """What does not change of an adapter."""

    rank: int
    alpha: int
    """Its product of matrices is scaled by alpha / rank."""

    def settings(self) -> dict[str, Any]:
        """What vLLM is started with.

        Raises:
            UserError: the rank is larger than vLLM has room for.

        """
        room = next((rank for rank in RANKS if rank >= self.rank), None)
        if room is None:
            raise UserError(
                f"learner.lora_rank is {self.rank}; vLLM serves adapters up to rank {RANKS[-1]}: "
                "lower it, or set learner.lora_publish to merged"
            )
        return {"enable_lora": True, "max_loras": 1, "max_lora_rank": room}


def request() -> "LoRARequest":
    """What every request names: the slot. Nothing is read from a path, as the slot is never empty."""
    from vllm.lora.request import LoRARequest

    return LoRARequest(lora_name="policy", lora_int_id=SLOT, lora_path="the log")


def check_adapter(adapter: Adapter, base: Tensors, layers: Collection[str], patches: Sequence[TensorPatch]) -> None:
    """Check that patches are a whole adapter of the served model.

    Args:
        adapter: its rank.
        base: the served model's tensors.
        layers: those that vLLM can adapt.
        patches: dense ones.

    Raises:
        UserError: a layer cannot be adapted, or a matrix is missing or has another shape.

    """
    names = {patch.name.removesuffix(end) for patch in patches for end in ENDS if patch.name.endswith(end)}
    if strange := sorted(names - set(layers)):
        raise UserError(
            f"vLLM has no adapters for {len(strange)} layers that are trained, first {strange[0]}: leave them out of "
            "learner.lora_targets, or set learner.lora_publish to merged"
        )
    wanted: Tensors = {}
    for name in names:
        rows, columns = base[f"{name}.weight"]
        wanted |= {f"{name}{ENDS[0]}": (adapter.rank, columns), f"{name}{ENDS[1]}": (rows, adapter.rank)}
    check_patches(wanted, patches)
    if missing := sorted(wanted.keys() - {patch.name for patch in patches if patch.indices is None}):
        raise UserError(f"{len(missing)} matrices of the adapter are missing, first {missing[0]}")


# -- in vLLM's worker ---------------------------------------------------------------------------------------------------


def adaptable_layers(manager: Any) -> list[str]:
    """Layers that vLLM can adapt, in the names of the checkpoint. `manager`: vLLM's LoRAModelManager."""
    packed: dict[str, list[str]] = manager.packed_modules
    return sorted(name for layer in manager.modules for name in packed.get(layer, [layer]))


def prepare(manager: Any, adapter: Adapter, tensors: "Mapping[str, Tensor]") -> Callable[[], None]:
    """Make an adapter of whole tensors; returns what puts it into the slot."""
    from vllm.lora.lora_model import LoRAModel
    from vllm.lora.peft_helper import PEFTHelper

    helper = PEFTHelper(r=adapter.rank, lora_alpha=adapter.alpha, target_modules=[])
    dtype = manager.lora_config.lora_dtype
    return partial(_put, manager, LoRAModel.from_lora_tensors(SLOT, dict(tensors), helper, device="cpu", dtype=dtype))


def serve_zeros(manager: Any, adapter: Adapter) -> None:
    """Put an adapter of zeros into the slot, with which the base model samples."""
    _put(manager, manager.create_dummy_lora(SLOT, adapter.rank, manager.model.embedding_modules))


def _put(manager: Any, made: Any) -> None:
    manager.remove_adapter(SLOT)
    manager.add_adapter(made)
    manager.activate_adapter(SLOT)
