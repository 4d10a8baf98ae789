"""States how the weights of a model travel: per tensor, which elements have new values, as raw bits.

What enters are arrays of bits (uint16 for bfloat16 and float16, uint32 for float32), never numbers: NaN, infinities and
both zeros keep their bit patterns. Values are new values, never differences, so applying a patch twice is harmless.
What leaves are the `Elements` of records: a patch is cut into slices, and put together again from them.
"""

import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stream.messages import Dtype, Elements

Bits = NDArray[Any]
"""uint16 or uint32."""
Indices = NDArray[Any]

BITS: dict[str, np.dtype[Any]] = {"bfloat16": np.dtype("<u2"), "float16": np.dtype("<u2"), "float32": np.dtype("<u4")}
"""The integers that hold the bits of each dtype."""
PART_BYTES = 900_000
"""Most bytes of values and indices in one record: below the megabyte that brokers allow by default."""
_GAP_BYTES = 2
"""What the gap to an element takes, about: one byte, and its share of the compressed high bytes."""
_MAX_GAP_BYTES = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorPatch:
    """New values of some or all elements of one tensor of a checkpoint."""

    name: str
    """As in the checkpoint (transformers), not as in the engine."""
    shape: tuple[int, ...]
    dtype: Dtype
    values: Bits
    """Raw bits: [K], or, of a dense patch, all [numel] in row-major order."""
    indices: Indices | None = None
    """[K] ascending, into the flattened tensor; uint32, or int64 where that is too small. None: the patch is dense."""

    @property
    def num_elements(self) -> int:
        """Of the whole tensor."""
        return prod(self.shape)

    @property
    def num_bytes(self) -> int:
        """About what it takes on the topic."""
        return self.values.size * _element_bytes(self)


def sparse_is_smaller(num_changed: int, num_elements: int, dtype: Dtype) -> bool:
    """Whether a patch of so many changed elements is smaller with indices than with all values."""
    size = BITS[dtype].itemsize
    return num_changed * (size + _GAP_BYTES) < num_elements * size


# -- patches to elements ----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Slice:
    """Values [start, stop) of a patch."""

    patch: TensorPatch
    start: int
    stop: int


def cut(patches: Iterable[TensorPatch], part_bytes: int = PART_BYTES) -> list[list[Slice]]:
    """Plan the parts: slices of about `part_bytes` together, at least one part; no value is copied."""
    parts: list[list[Slice]] = [[]]
    room = part_bytes
    for patch in patches:
        size, start = _element_bytes(patch), 0
        while True:
            count = min(patch.values.size - start, max(room // size, 0))
            if count or not patch.values.size:
                parts[-1].append(Slice(patch, start, start + count))
                start, room = start + count, room - count * size - len(patch.name) - 64
            if start == patch.values.size:
                break
            parts.append([])
            room = max(part_bytes, size)
    return parts


def elements_of(piece: Slice) -> Elements:
    """A slice as records hold it."""
    patch = piece.patch
    values = patch.values[piece.start : piece.stop]
    first, gaps, high_gaps = piece.start, b"", b""
    if patch.indices is not None and values.size:
        indices = patch.indices[piece.start : piece.stop]
        first = int(indices[0])
        gaps, high_gaps = _pack_gaps(np.diff(indices.astype(np.int64)))
    return Elements(
        name=patch.name,
        shape=patch.shape,
        dtype=patch.dtype,
        start=first,
        count=values.size,
        values=values.astype(BITS[patch.dtype], copy=False).tobytes(),
        gaps=gaps,
        high_gaps=high_gaps,
    )


def _element_bytes(patch: TensorPatch) -> int:
    return BITS[patch.dtype].itemsize + (0 if patch.indices is None else _GAP_BYTES)


def _pack_gaps(gaps: NDArray[np.int64]) -> tuple[bytes, bytes]:
    """Byte planes: the lowest is noise, and stays as it is; those above are nearly all zero."""
    planes = gaps.astype("<i8").view(np.uint8).reshape(-1, _MAX_GAP_BYTES).T
    used = [plane for plane in planes[1:] if plane.any()]
    count = 1 + next((k for k in range(_MAX_GAP_BYTES - 1, 0, -1) if planes[k].any()), 0) if gaps.size else 1
    high = planes[1:count].tobytes() if used else b""
    return planes[0].tobytes(), zlib.compress(high, 1) if high else b""


# -- elements to patches ----------------------------------------------------------------------------------------------


def patches_of(elements: Iterable[Elements]) -> list[TensorPatch]:
    """Patches put together from all their elements, which come in order; one for each tensor.

    Raises:
        ValueError: they contradict one another, or themselves.

    """
    by_name: dict[str, list[Elements]] = {}
    for some in elements:
        by_name.setdefault(some.name, []).append(some)
    return [_join(pieces) for pieces in by_name.values()]


def check(elements: Elements) -> None:
    """Raise ValueError if elements contradict themselves: too few bytes, indices outside their tensor."""
    if elements.gaps:
        indices_of(elements)
    else:  # without making the indices: a whole state is read twice as fast
        _check_count(elements)
        _check_ends(elements, elements.start + elements.count - 1)
    _values_of(elements)


def indices_of(elements: Elements) -> NDArray[np.int64]:
    """Indices into the flattened tensor, ascending. [count]

    Raises:
        ValueError: they are not ascending, or not in the tensor.

    """
    _check_count(elements)
    start, count = elements.start, elements.count
    if not elements.gaps:
        _check_ends(elements, start + count - 1)
        return np.arange(start, start + count, dtype=np.int64)
    gaps = _unpack_gaps(elements)
    if gaps.min() < 1 or gaps.sum(dtype=np.float64) > prod(elements.shape):
        raise ValueError(f"{elements.name}: indices do not ascend, or leave the tensor")
    indices = np.empty(count, np.int64)
    indices[0] = start
    np.cumsum(gaps, out=indices[1:])
    indices[1:] += start
    _check_ends(elements, int(indices[-1]))
    return indices


def _check_count(elements: Elements) -> None:
    if not 0 <= elements.count <= prod(elements.shape) or min((0, *elements.shape)) < 0:
        raise ValueError(f"{elements.name}: {elements.count} elements of a tensor of shape {list(elements.shape)}")


def _check_ends(elements: Elements, last: int) -> None:
    numel = prod(elements.shape)
    if elements.count and not 0 <= elements.start <= last < numel:
        raise ValueError(f"{elements.name}: elements {elements.start} to {last} of {numel}")


def _unpack_gaps(elements: Elements) -> NDArray[np.int64]:
    count = elements.count - 1
    if len(elements.gaps) != count:
        raise ValueError(f"{elements.name}: {len(elements.gaps)} gaps between {elements.count} elements")
    gaps = np.frombuffer(elements.gaps, np.uint8).astype(np.int64)
    if not elements.high_gaps:
        return gaps
    inflater = zlib.decompressobj()
    try:
        high = inflater.decompress(elements.high_gaps, (_MAX_GAP_BYTES - 1) * count + 1)
    except zlib.error as error:
        raise ValueError(f"{elements.name}: high_gaps are not zlib's: {error}") from None
    if not inflater.eof or len(high) % count:
        raise ValueError(f"{elements.name}: {len(high)} high bytes of {count} gaps")
    for k, plane in enumerate(np.frombuffer(high, np.uint8).reshape(-1, count), start=1):
        gaps |= plane.astype(np.int64) << (8 * k)
    return gaps


def _values_of(elements: Elements) -> Bits:
    dtype = BITS[elements.dtype]
    if len(elements.values) != elements.count * dtype.itemsize:
        raise ValueError(f"{elements.name}: {len(elements.values)} bytes for {elements.count} {elements.dtype} values")
    return np.frombuffer(elements.values, dtype)


def _join(pieces: Sequence[Elements]) -> TensorPatch:
    first = pieces[0]
    if any((piece.shape, piece.dtype) != (first.shape, first.dtype) for piece in pieces):
        raise ValueError(f"{first.name}: parts have different shapes or dtypes")
    numel = prod(first.shape)
    values = [_values_of(piece) for piece in pieces]
    joined = values[0] if len(values) == 1 else np.concatenate(values)
    indices: Indices | None = None
    if not _covers(pieces, numel):
        parts = [indices_of(piece) for piece in pieces]
        indices = parts[0] if len(parts) == 1 else np.concatenate(parts)
        if indices.size > 1 and (np.diff(indices) < 1).any():
            raise ValueError(f"{first.name}: parts overlap, or are out of order")
        indices = indices.astype(np.uint32) if numel <= 1 << 32 else indices
    return TensorPatch(name=first.name, shape=first.shape, dtype=first.dtype, values=joined, indices=indices)


def _covers(pieces: Sequence[Elements], numel: int) -> bool:
    """Whether they are all elements of the tensor, one after another."""
    return not any(piece.gaps for piece in pieces) and list(_starts(pieces)) == [piece.start for piece in pieces] + [
        numel
    ]


def _starts(pieces: Sequence[Elements]) -> Iterator[int]:
    """Where each piece would start if all followed one another from 0, and where they would end."""
    end = 0
    yield end
    for piece in pieces:
        end += piece.count
        yield end
