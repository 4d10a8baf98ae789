"""States how the weights of a model travel: per tensor, which elements have new values, as raw bits.

What enters are arrays of bits (uint16 for bfloat16 and float16, uint32 for float32), never numbers: NaN, infinities and
both zeros keep their bit patterns. Values are new values, never differences, so applying a patch twice is harmless.
"""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Dtype = Literal["bfloat16", "float16", "float32"]

BITS: dict[str, type[np.unsignedinteger[Any]]] = {"bfloat16": np.uint16, "float16": np.uint16, "float32": np.uint32}
"""The integers that hold the bits of each dtype."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorPatch:
    """New values of some or all elements of one tensor of a checkpoint."""

    name: str
    """As in the checkpoint (transformers), not as in the engine."""
    shape: tuple[int, ...]
    dtype: Dtype
    values: NDArray[Any]
    """Raw bits: [K], or, of a dense patch, all [numel] in row-major order."""
    indices: NDArray[Any] | None = None
    """[K] ascending, into the flattened tensor; uint32, or int64 where that is too small. None: the patch is dense."""
