"""Patches to records and back: every bit comes through, and records that contradict themselves are refused."""

import dataclasses
import zlib
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream.codec import decode, encode
from stream.messages import Elements, WeightsPart
from stream.patches import BITS, TensorPatch, check, cut, elements_of, indices_of, patches_of, sparse_is_smaller

SHAPES = st.sampled_from([(), (0,), (1,), (7,), (3, 5), (2, 0, 3), (4, 4, 4)])
DTYPES = st.sampled_from(sorted(BITS))
SPECIAL = [0x7FC00000, 0xFFC00001, 0x7F800000, 0xFF800000, 0x80000000, 1]
"""float32: two NaN, both infinities, -0, the least subnormal."""


@st.composite
def patches(draw: st.DrawFn, name: str = "w") -> TensorPatch:
    shape, dtype = draw(SHAPES), draw(DTYPES)
    numel = int(np.prod(shape))
    largest = int(np.iinfo(BITS[dtype]).max)
    bits = st.integers(0, largest) | st.sampled_from([special % (largest + 1) for special in SPECIAL])
    if draw(st.booleans()):
        values = draw(st.lists(bits, min_size=numel, max_size=numel))
        indices = None
    else:
        chosen = draw(st.sets(st.integers(0, numel - 1))) if numel else set()
        values = draw(st.lists(bits, min_size=len(chosen), max_size=len(chosen)))
        indices = np.array(sorted(chosen), np.uint32)
    return TensorPatch(name=name, shape=shape, dtype=dtype, values=np.array(values, BITS[dtype]), indices=indices)


def over_the_wire(some: list[TensorPatch], part_bytes: int) -> list[TensorPatch]:
    parts = cut(some, part_bytes)
    messages = [
        WeightsPart(
            version=1, parent_version=0, digest="d", parent_digest="p", publication="x",
            part=number, num_parts=len(parts), elements=tuple(map(elements_of, part)),
        )
        for number, part in enumerate(parts)
    ]  # fmt: skip
    read = [decode(encode(message), WeightsPart) for message in messages]
    for message in read:
        for elements in message.elements:
            check(elements)
    return patches_of(elements for message in read for elements in message.elements)


def written_into(patch: TensorPatch) -> tuple[Any, ...]:
    """What a tensor of zeros becomes, so that a full patch equals one of all indices."""
    bits = np.zeros(patch.num_elements, BITS[patch.dtype])
    bits[slice(None) if patch.indices is None else patch.indices] = patch.values
    return patch.name, patch.shape, patch.dtype, bits.tolist(), patch.values.tolist()


@given(st.lists(patches(), max_size=4), st.integers(1, 300))
def test_patches_come_back_bit_for_bit_however_they_are_cut(some: list[TensorPatch], part_bytes: int) -> None:
    named = [dataclasses.replace(patch, name=f"layer.{number}") for number, patch in enumerate(some)]
    read = over_the_wire(named, part_bytes)
    assert [written_into(patch) for patch in read] == [written_into(patch) for patch in named]
    assert [patch.indices is None for patch in read if patch.num_elements > 1] == [
        patch.indices is None for patch in named if patch.num_elements > 1
    ]


@given(st.lists(st.integers(1, 1 << 36), min_size=1, max_size=20))
def test_indices_of_huge_tensors_come_back(gaps: list[int]) -> None:
    indices = np.cumsum(np.array([3, *gaps], np.int64))
    patch = TensorPatch(
        name="w", shape=(1 << 50,), dtype="bfloat16", values=np.arange(indices.size, dtype=np.uint16), indices=indices
    )
    (read,) = over_the_wire([patch], 1000)
    assert read.indices is not None
    assert read.indices.tolist() == indices.tolist()


def test_records_stay_below_what_a_broker_allows() -> None:
    rng = np.random.default_rng(0)
    numel = 3_000_000
    indices = np.flatnonzero(rng.random(numel) < 0.2).astype(np.uint32)
    values = rng.integers(0, 1 << 16, indices.size, dtype=np.uint16)
    sparse = TensorPatch(name="a", shape=(numel,), dtype="bfloat16", values=values, indices=indices)
    dense = TensorPatch(name="b", shape=(numel,), dtype="float32", values=np.zeros(numel, np.uint32))
    parts = cut([sparse, dense])
    sizes = [sum(len(e.values) + len(e.gaps) + len(e.high_gaps) for e in map(elements_of, part)) for part in parts]
    assert max(sizes) < 1_000_000
    assert sum(sizes) < 1.1 * (sparse.num_bytes + dense.num_bytes)
    assert len(parts) <= sum(sizes) / 800_000 + 1


def test_one_percent_of_a_bfloat16_tensor_takes_less_than_1_6_percent_of_its_bytes() -> None:
    rng = np.random.default_rng(0)
    numel = 2_000_000
    indices = np.flatnonzero(rng.random(numel) < 0.01).astype(np.uint32)
    values = np.zeros(indices.size, np.uint16)
    patch = TensorPatch(name="a", shape=(numel,), dtype="bfloat16", values=values, indices=indices)
    (part,) = cut([patch])
    (elements,) = map(elements_of, part)
    assert len(elements.values) + len(elements.gaps) + len(elements.high_gaps) < 0.016 * 2 * numel


@pytest.mark.parametrize(("num_changed", "dtype", "sparse"), [(499, "bfloat16", True), (500, "bfloat16", False),
                                                              (666, "float32", True), (667, "float32", False)])  # fmt: skip
def test_a_patch_is_dense_where_that_is_smaller(num_changed: int, dtype: Any, sparse: bool) -> None:
    assert sparse_is_smaller(num_changed, 1000, dtype) == sparse


GOOD = Elements(
    name="w", shape=(100,), dtype="float32", start=5, count=3, values=bytes(12), gaps=b"\x01\x02",
    high_gaps=zlib.compress(b"\x00\x00"),
)  # fmt: skip


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"start": 97}, "elements 97 to 100 of 100"),
        ({"start": -1}, "elements -1 to 2 of 100"),
        ({"gaps": b"\x00\x02"}, "do not ascend"),
        ({"gaps": b"\x01"}, "1 gaps between 3 elements"),
        ({"values": bytes(11)}, "11 bytes for 3 float32 values"),
        ({"high_gaps": b"nonsense"}, "not zlib's"),
        ({"high_gaps": zlib.compress(b"\x00\x01")}, "leave the tensor"),
        ({"high_gaps": zlib.compress(b"\x00" * 3)}, "3 high bytes of 2 gaps"),
        ({"high_gaps": zlib.compress(bytes(10**7))}, "high bytes of 2 gaps"),
        ({"high_gaps": zlib.compress(b"\x00\x00")[:-2]}, "2 high bytes of 2 gaps"),
        ({"high_gaps": zlib.compress(b"\xff" * 14)}, "do not ascend"),
        ({"count": 101}, "101 elements of a tensor of shape"),
        ({"shape": (-1, -100)}, "3 elements of a tensor of shape"),
    ],
)
def test_elements_that_contradict_themselves_are_refused(change: dict[str, Any], error: str) -> None:
    check(GOOD)
    assert indices_of(GOOD).tolist() == [5, 6, 8]
    with pytest.raises(ValueError, match=error):
        check(msgspec.structs.replace(GOOD, **change))


def test_parts_that_overlap_or_differ_in_shape_are_refused() -> None:
    with pytest.raises(ValueError, match="overlap, or are out of order"):
        patches_of([GOOD, GOOD])
    with pytest.raises(ValueError, match="different shapes"):
        patches_of([GOOD, msgspec.structs.replace(GOOD, shape=(10, 10))])
