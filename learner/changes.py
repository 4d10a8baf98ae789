"""Finds, on the device, which bits of the weights have changed since they were last taken.

What enters are the model's tensors, float32; what leaves are patches in the dtype that is published, on the host. Kept on
the device: the bits as they were last taken. Nothing of the model is changed.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from stream.config import Config
from stream.messages import Dtype
from stream.patches import BITS, Bits, Indices, TensorPatch, sparse_is_smaller
from stream.weights import read_state

_BITS = {"bfloat16": torch.int16, "float16": torch.int16, "float32": torch.int32}


@dataclass(frozen=True, slots=True)
class Changes:
    """What has changed since the last time; at first, everything."""

    patches: list[TensorPatch]
    """Their arrays stay as they are until changes are taken again."""
    num_changed: int
    num_elements: int
    """Of all tensors."""


class ChangeFinder:
    """Remembers the bits that were last taken."""

    def __init__(self, dtype: Dtype) -> None:
        self.dtype = dtype
        self._last: dict[str, Tensor] = {}

    @torch.no_grad()
    def take(self, weights: Iterable[tuple[str, Tensor]]) -> Changes:
        """What differs from the last call, tensor by tensor; buffers of integers are left out: they never change.

        Args:
            weights: name and tensor, on any device.

        """
        patches: list[TensorPatch] = []
        num_changed = num_elements = 0
        for name, tensor in weights:
            if not tensor.is_floating_point():
                continue
            num_elements += tensor.numel()
            bits = tensor.detach().to(getattr(torch, self.dtype)).contiguous().view(_BITS[self.dtype]).flatten()
            patch = self._difference(name, tuple(tensor.shape), bits)
            if patch is not None:
                patches.append(patch)
                num_changed += patch.values.size
        return Changes(patches, num_changed, num_elements)

    def _difference(self, name: str, shape: tuple[int, ...], bits: Tensor) -> TensorPatch | None:
        last = self._last.get(name)
        if last is None:
            last = self._last[name] = bits.clone()
            return self._patch(name, shape, last, None)
        changed = bits != last
        count = int(torch.count_nonzero(changed))  # on a CPU fifteen times faster than sum
        if not count:
            return None
        if not sparse_is_smaller(count, bits.numel(), self.dtype):
            return self._patch(name, shape, last.copy_(bits), None)
        indices = _places(changed)
        values = bits[indices]
        last[indices] = values
        return self._patch(name, shape, values, indices)

    def _patch(self, name: str, shape: tuple[int, ...], values: Tensor, indices: Tensor | None) -> TensorPatch:
        host: Indices | None = None
        if indices is not None:
            host = indices.cpu().numpy()
            host = host.astype(np.uint32) if not host.size or host[-1] < 1 << 32 else host
        raw: Bits = values.cpu().numpy().view(BITS[self.dtype])
        return TensorPatch(name=name, shape=shape, dtype=self.dtype, values=raw, indices=host)


def published_dtype(config: Config) -> Dtype:
    """The precision of published weights: `learner.publish_dtype`, or, with `auto`, that in which the engine runs.

    Where `producer.dtype` is `auto` as well, it is what vLLM takes: that of the model's configuration, else of its weights,
    and bfloat16 for float32. (vLLM takes float16 on GPUs that have no bfloat16: give that as `producer.dtype`.)
    """
    dtypes: dict[str, Dtype] = {"bfloat16": "bfloat16", "float16": "float16", "float32": "float32"}
    for wanted in (config.learner.publish_dtype, config.producer.dtype):
        if wanted != "auto":
            return dtypes[wanted]
    folder = Path(config.run.model)
    model = json.loads((folder / "config.json").read_text())
    text = model.get("text_config") or {}
    named = next((c[key] for c in (model, text) for key in ("dtype", "torch_dtype") if c.get(key)), None)
    if named is None:
        named = max(read_state(folder).tensors.values(), key=lambda tensor: tensor.bits.size).dtype
    found = dtypes.get(str(named), "bfloat16")
    return "bfloat16" if found == "float32" else found


def _places(changed: Tensor) -> Tensor:
    """Indices of what is true, ascending. [numel] -> [K]"""
    if changed.device.type == "cpu":  # where numpy takes less than half of torch's time
        return torch.from_numpy(np.flatnonzero(changed.numpy()))
    return changed.nonzero().flatten()
