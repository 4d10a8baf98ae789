"""Where a checkpoint lives: a loader of every kind is traced, and what is written there is what loading would give."""

from collections.abc import Iterable
from math import prod

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from producers.patching import GpuModel
from producers.regions import Region, locate, region_of


class Fused(nn.Module):
    """A model that keeps the checkpoint's tensors as vLLM does: fused, sharded, padded, transposed or worked over."""

    def __init__(self) -> None:
        super().__init__()
        self.fused = nn.Parameter(torch.zeros(6, 4))
        self.padded = nn.Parameter(torch.zeros(8, 3))
        self.column = nn.Parameter(torch.zeros(4, 2))
        self.turned = nn.Parameter(torch.zeros(3, 5))
        self.short = nn.Parameter(torch.zeros(4, dtype=torch.bfloat16))
        self.doubled = nn.Parameter(torch.zeros(4))
        self.shared = nn.Parameter(torch.zeros(4))

    def load_weights(self, weights: Iterable[tuple[str, Tensor]]) -> None:
        views = {
            "q": self.fused.data[:4], "k": self.fused.data[4:], "padded": self.padded.data[:7], "short": self.short.data,
            "doubled": self.doubled.data, "shared": self.shared.data, "alias": self.shared.data,
        }  # fmt: skip
        for name, tensor in weights:
            if name == "column":
                self.column.data.copy_(tensor.narrow(1, 2, 2))
            elif name == "turned":
                self.turned.data.copy_(tensor.t())
            elif name in views:
                views[name].copy_(tensor)


SHAPES = {
    "q": (4, 4), "k": (2, 4), "padded": (7, 3), "column": (4, 6), "turned": (5, 3), "short": (4,), "doubled": (4,),
    "shared": (4,), "alias": (4,), "skipped": (4,),
}  # fmt: skip


def checkpoint(seed: int) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    weights = {name: torch.randn(shape, generator=generator) for name, shape in SHAPES.items()}
    return weights | {"alias": weights["shared"]}


def loaded(weights: dict[str, Tensor]) -> Fused:
    model = Fused()
    model.load_weights(weights.items())
    model.doubled.data.mul_(2)  # after loading, as quantized layers are
    return model


def state(model: nn.Module) -> dict[str, Tensor]:
    return {name: parameter.detach().clone() for name, parameter in model.named_parameters()}


@pytest.mark.parametrize("whole", [True, False])
def test_plain_copies_are_located_and_nothing_else_is(whole: bool) -> None:
    weights = checkpoint(0)
    model = loaded(weights)
    before = state(model)
    regions = locate(model, model.load_weights, weights.items(), whole=whole)
    # A column shard is a part of its tensor; `alias` and `shared` would overwrite each other; `doubled` is worked over.
    assert set(regions) == {"q", "k", "padded", "turned", "short"} | (set() if whole else {"column"})
    assert all(torch.equal(value, before[name]) for name, value in state(model).items())
    assert torch.zeros(2).copy_(torch.ones(2)).tolist() == [1, 1]


@given(seed=st.integers(1, 99), share=st.floats(0, 1))
def test_sparse_and_dense_writes_are_what_loading_gives(seed: int, share: float) -> None:
    old, new = checkpoint(0), checkpoint(seed)
    sparse, dense = loaded(old), loaded(old)
    patched: dict[str, Tensor] = {}
    generator = torch.Generator().manual_seed(seed)
    places = locate(sparse, sparse.load_weights, old.items(), whole=False)
    dense_places = locate(dense, dense.load_weights, old.items(), whole=False)
    for name, regions in places.items():
        values = old[name].flatten().clone()
        indices = torch.nonzero(torch.rand(values.numel(), generator=generator) < share).flatten()
        values[indices] = new[name].flatten()[indices]
        patched[name] = values.view(SHAPES[name])
        for region in regions:
            region.write(region.parameter.data, values[indices], indices)
        for region in dense_places[name]:
            region.write(region.parameter.data, values, None)
    expected = state(loaded(old | patched))
    for model in (sparse, dense):
        assert {name for name, value in state(model).items() if not torch.equal(value, expected[name])} == set()


@given(st.data())
def test_any_view_of_a_tensor_is_found_again_element_by_element(data: st.DataObject) -> None:
    shape = data.draw(st.lists(st.integers(1, 4), min_size=1, max_size=4))
    origin = torch.arange(prod(shape), dtype=torch.float32).view(shape)
    source = origin
    for dimension, size in enumerate(shape):
        start = data.draw(st.integers(0, size - 1))
        source = source.narrow(dimension, start, data.draw(st.integers(1, size - start)))
    source = source.permute(data.draw(st.permutations(range(len(shape)))))
    rows, start = source.shape[0], data.draw(st.integers(0, 3))
    parameter = nn.Parameter(torch.full((rows + 4, *source.shape[1:]), -1.0))
    region = region_of(parameter, parameter.data[start : start + rows], origin, source)
    indices = torch.arange(origin.numel())
    region.write(parameter.data, origin.flatten(), indices)
    expected = torch.full_like(parameter, -1.0)
    expected[start : start + rows] = source
    assert torch.equal(parameter.data, expected)


def test_a_gpus_model_is_written_at_the_switch_and_not_before(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the host's memory in place of a GPU's."""
    monkeypatch.setattr(Tensor, "pin_memory", lambda tensor: tensor.clone())
    monkeypatch.setattr(torch.accelerator, "synchronize", lambda device: None)
    old, new = checkpoint(0), checkpoint(1)
    model = loaded(old)
    regions = locate(model, model.load_weights, old.items(), whole=False)
    indices = {name: torch.arange(0, new[name].numel(), 2) if name in ("q", "column") else None for name in regions}
    writes = [(n, new[n].flatten() if i is None else new[n].flatten()[i], i) for n, i in indices.items()]
    before = state(model)
    switch = GpuModel(torch.device("cpu")).prepare(regions, writes)
    assert all(torch.equal(value, before[name]) for name, value in state(model).items())
    switch()
    patched = {}
    for name, chosen in indices.items():
        places = slice(None) if chosen is None else chosen
        values = old[name].flatten().clone()
        values[places] = new[name].flatten()[places]
        patched[name] = values.view(SHAPES[name])
    expected = state(loaded(old | patched))
    assert {name for name, value in state(model).items() if not torch.equal(value, expected[name])} == set()


def test_bits_that_are_no_numbers_arrive_as_they_are() -> None:
    bits = torch.tensor([0x7FC1, 0xFF80, 0x8000, 0x0001], dtype=torch.int32).to(torch.int16).view(torch.bfloat16)
    parameter = nn.Parameter(torch.zeros(8, dtype=torch.bfloat16))
    region = Region(parameter, (8,), (1,), 0, (1,), 0, complete=True)
    region.write(parameter.data, bits, torch.tensor([1, 3, 5, 7]))
    assert torch.equal(parameter.data[1::2].view(torch.int16), bits.view(torch.int16))
