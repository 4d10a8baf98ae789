"""Finds where the tensors of a checkpoint live in the parameters of a model, and writes some of their elements there.

Enters: a model, its loader and the checkpoint that it was loaded from. Leaves: regions, elements of a tensor of the
checkpoint and their place in a parameter. The loader itself says where: it runs once more, and each of its copies is
compared and noted instead of made, so fused and sharded parameters need no rule of their own. A tensor whose copies do
not have the values that the parameter has is left out: the model keeps it in another form.
"""

import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from math import prod
from typing import Any

import torch
from torch import Tensor, nn


@dataclass(frozen=True, slots=True)
class Region:
    """Elements of a checkpoint's tensor, as strides of it, and their place in a parameter; offsets count elements."""

    parameter: nn.Parameter
    shape: tuple[int, ...]
    source_strides: tuple[int, ...]
    source_offset: int
    target_strides: tuple[int, ...]
    target_offset: int
    complete: bool
    """It is the whole tensor, in the order of its elements."""

    def write(self, target: Tensor, values: Tensor, indices: Tensor | None) -> None:
        """Write into `target`, which is laid out as the parameter; values [numel], or [K] with indices [K]."""
        if indices is None:
            source = values.as_strided(self.shape, self.source_strides, values.storage_offset() + self.source_offset)
            offset = target.storage_offset() + self.target_offset
            target.as_strided(self.shape, self.target_strides, offset).copy_(source, non_blocking=True)
        else:
            chosen, positions = self.positions(indices)
            flat = target.as_strided((_extent(target),), (1,))
            flat.index_copy_(0, positions, (values if chosen is None else values[chosen]).to(flat.dtype))

    def positions(self, indices: Tensor) -> tuple[Tensor | None, Tensor]:
        """Which indices lie in the region (None: all), and the places of those in the parameter."""
        if self.complete:
            return None, indices + self.target_offset
        rest, positions = indices - self.source_offset, torch.full_like(indices, self.target_offset)
        chosen = rest >= 0
        dimensions = zip(self.shape, self.source_strides, self.target_strides, strict=True)
        for size, source, target in sorted(dimensions, key=lambda dimension: -dimension[1]):
            coordinate = torch.div(rest, source, rounding_mode="floor")
            chosen &= coordinate < size
            positions += coordinate * target
            rest = rest - coordinate * source
        chosen &= rest == 0
        return chosen, positions[chosen]


def region_of(parameter: nn.Parameter, target: Tensor, origin: Tensor, source: Tensor) -> Region:
    """The region that a copy of `source`, a view of `origin`, into `target`, a view of the parameter, writes."""
    flat = source.is_contiguous() and target.is_contiguous()
    # A dimension of one element has no stride that means anything.
    long = [dimension for dimension in range(source.dim()) if source.shape[dimension] > 1]
    shape, source_strides, target_strides = (
        tuple(sizes[dimension] for dimension in long) for sizes in (source.shape, source.stride(), target.stride())
    )
    if flat:
        shape, source_strides, target_strides = (source.numel(),), (1,), (1,)
    return Region(
        parameter=parameter,
        shape=shape,
        source_strides=source_strides,
        source_offset=(source.data_ptr() - origin.data_ptr()) // origin.element_size(),
        target_strides=target_strides,
        target_offset=(target.data_ptr() - parameter.data_ptr()) // parameter.element_size(),
        complete=flat and source.numel() == origin.numel(),
    )


def _extent(tensor: Tensor) -> int:
    return 1 + sum((size - 1) * stride for size, stride in zip(tensor.shape, tensor.stride(), strict=True))


def _contains(whole: Tensor, part: Tensor) -> bool:
    start = whole.data_ptr()
    return start <= part.data_ptr() < start + _extent(whole) * whole.element_size()


@dataclass(slots=True)
class _Trace:
    """Notes the copies that a loader would make, and makes none of them into a parameter."""

    parameters: list[nn.Parameter]
    tensors: dict[str, Tensor] = field(default_factory=dict)
    regions: dict[str, list[Region]] = field(default_factory=dict)
    unlike: set[str] = field(default_factory=set)
    """Tensors whose values are not those of the parameter: vLLM keeps it in another form."""

    def watched(self, weights: Iterable[tuple[str, Tensor]]) -> Iterator[tuple[str, Tensor]]:
        for name, tensor in weights:
            self.tensors[name] = tensor = tensor.contiguous()
            yield name, tensor

    def note(self, target: Tensor, source: Tensor) -> bool:
        """Whether this copy is one from the checkpoint into a parameter."""
        parameter = next((p for p in self.parameters if p.numel() and _contains(p, target)), None)
        if parameter is None:
            return False
        name = next((n for n, tensor in reversed(self.tensors.items()) if _contains(tensor, source)), None)
        if name is None or source.dtype != self.tensors[name].dtype:
            return False
        if target.shape == source.shape and torch.equal(target, source.to(target.device, target.dtype)):
            self.regions.setdefault(name, []).append(region_of(parameter, target, self.tensors[name], source))
        else:
            self.unlike.add(name)
        return True


def locate(
    model: nn.Module,
    load: Callable[[Iterable[tuple[str, Tensor]]], Any],
    weights: Iterable[tuple[str, Tensor]],
    *,
    whole: bool,
) -> dict[str, list[Region]]:
    """Where the tensors of a checkpoint live in the parameters of the model that was loaded from it.

    Args:
        load: the model's loader.
        weights: the checkpoint.
        whole: this model holds all of each tensor, not a shard.

    Returns:
        The regions of every tensor that lives in parameters as plain copies; others are left out.

    """
    trace = _Trace([parameter for parameter in model.parameters() if parameter.device.type != "meta"])
    copy, thread = Tensor.copy_, threading.get_ident()

    def note(target: Tensor, source: Tensor, non_blocking: bool = False) -> Tensor:
        if threading.get_ident() == thread and trace.note(target, source):
            return target
        return copy(target, source, non_blocking)

    Tensor.copy_ = note  # type: ignore[method-assign, assignment]
    try:
        load(trace.watched(weights))
    finally:
        Tensor.copy_ = copy  # type: ignore[method-assign]
    places = Counter((id(r.parameter), r.target_offset) for regions in trace.regions.values() for r in regions)
    return {
        name: regions
        for name, regions in trace.regions.items()
        if name not in trace.unlike
        and all(places[id(r.parameter), r.target_offset] == 1 for r in regions)  # not two names, tied by vLLM alone
        and (not whole or sum(prod(r.shape) for r in regions) >= trace.tensors[name].numel())
    }
