"""Writes new weights into vLLM's model in place. Runs in the worker's process, to whose class vLLM adds `PatchingWorker`.

Enters: safetensors files with tensors in the names and shapes of the checkpoint, whole or as some elements with their
indices. Leaves: the same elements, in the parameters that sampling reads (`producers.regions` says where). Invariant:
between two switches no tensor that sampling reads has changed.

On a CPU vLLM samples from packed copies of the matrices. The next ones are made while sampling goes on, and a switch
exchanges references. On a GPU the new values wait in page-locked memory, and a switch copies them into place.
"""

import threading
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from producers import adapters
from producers.regions import Region, locate
from producers.weights import INDICES, read_entries

Writes = Iterable[tuple[str, Tensor, Tensor | None]]
"""Name, values and indices of tensors, indices None for a whole one."""


def is_plain(model: nn.Module) -> bool:
    """Whether vLLM samples from the parameters themselves: nothing quantized, nothing derived from them."""
    from vllm.model_executor.layers.attention import MLAAttention
    from vllm.model_executor.layers.linear import LinearBase, UnquantizedLinearMethod
    from vllm.model_executor.layers.vocab_parallel_embedding import UnquantizedEmbeddingMethod, VocabParallelEmbedding

    plain = (UnquantizedLinearMethod, UnquantizedEmbeddingMethod)
    for module in model.modules():
        method = getattr(module, "quant_method", None)
        if isinstance(module, MLAAttention) or (method is not None and not isinstance(method, plain)):
            return False
        if isinstance(module, LinearBase | VocabParallelEmbedding) and method is None:
            return False
    return True


# -- packed copies on a CPU ----------------------------------------------------------------------------------------------

PACKED = "rucksack_reads_packed"
"""Attribute of a layer that samples from its packed copy alone."""


@contextmanager
def keeping_weights() -> Iterator[None]:
    """Within the block vLLM, as it packs a layer's matrix for a CPU, keeps the matrix as well.

    It would be dropped, and nothing could be written into it.
    """
    from vllm.model_executor.layers import utils

    pack = utils.dispatch_cpu_unquantized_gemm

    def pack_and_keep(layer: Any, remove_weight: bool) -> None:
        weight = layer.weight
        pack(layer, remove_weight)
        setattr(layer, PACKED, layer.weight is not weight)
        layer.weight = weight

    utils.dispatch_cpu_unquantized_gemm = pack_and_keep
    try:
        yield
    finally:
        utils.dispatch_cpu_unquantized_gemm = pack


class CpuModel:
    """Prepares weights beside those that are sampled from."""

    def __init__(self, model: nn.Module) -> None:
        self._layers: dict[nn.Parameter, list[Any]] = {}
        """Layers that sample from a packed copy of a parameter."""
        self._hidden: set[nn.Parameter] = set()
        """Parameters that nothing reads but packing."""
        for module in model.modules():
            if hasattr(module, "cpu_linear") and isinstance(module.weight, nn.Parameter):
                self._layers.setdefault(module.weight, []).append(module)
                if getattr(module, PACKED, False):
                    self._hidden.add(module.weight)

    @torch.no_grad()
    def prepare(self, regions: Mapping[str, Sequence[Region]], writes: Writes) -> Callable[[], None]:
        """Make the next weights; returns what switches to them."""
        fresh: dict[nn.Parameter, Tensor] = {}
        for name, values, indices in writes:
            for region in regions[name]:
                parameter = region.parameter
                if parameter not in fresh:
                    fresh[parameter] = parameter.data if parameter in self._hidden else parameter.data.clone()
                region.write(fresh[parameter], values, indices)
        packed = [(layers, self._pack(fresh[p])) for p, layers in self._layers.items() if p in fresh]

        def switch() -> None:
            for parameter, data in fresh.items():
                parameter.data = data
            for layers, cpu_linear in packed:
                for layer in layers:
                    layer.cpu_linear = cpu_linear

        return switch

    def repack(self) -> None:
        """Pack all layers anew: vLLM's own reload leaves out an output layer that is tied to the embeddings."""
        for parameter, layers in self._layers.items():
            cpu_linear = self._pack(parameter.data)
            for layer in layers:
                layer.cpu_linear = cpu_linear

    def _pack(self, weight: Tensor) -> Any:
        from vllm.model_executor.layers import utils

        stand_in: Any = SimpleNamespace(weight=weight)
        utils.dispatch_cpu_unquantized_gemm(stand_in, remove_weight=False)
        return stand_in.cpu_linear


class GpuModel:
    """Prepares weights in page-locked memory of the host."""

    def __init__(self, device: torch.device) -> None:
        self._device = device

    def prepare(self, regions: Mapping[str, Sequence[Region]], writes: Writes) -> Callable[[], None]:
        """Read the next weights; returns what writes them into place."""
        held = [(n, v.pin_memory(), None if i is None else _narrow(i).pin_memory()) for n, v, i in writes]

        @torch.no_grad()
        def switch() -> None:
            for name, values, indices in held:
                places = None
                if indices is not None:  # whole tensors go straight into place
                    values = values.to(self._device, non_blocking=True)
                    places = indices.to(self._device, non_blocking=True).to(torch.int64)
                for region in regions[name]:
                    region.write(region.parameter.data, values, places)
            torch.accelerator.synchronize(self._device)

        return switch


def _narrow(indices: Tensor) -> Tensor:
    """Ascending indices in half the bytes, if they fit."""
    return indices if indices.numel() and indices[-1] >= 2**31 else indices.to(torch.int32)


# -- the worker ----------------------------------------------------------------------------------------------------------


DTYPES = {
    "F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16,
    "I64": torch.int64, "U32": torch.uint32,
}  # fmt: skip
"""Those that weights and indices may have, by their names in safetensors files."""


def read_writes(files: Sequence[str], names: Container[str]) -> Iterator[tuple[str, Tensor, Tensor | None]]:
    """Those tensors of safetensors files, flat: whole ones, or values with indices (see `producers.weights`).

    The files are mapped: safetensors' own reader keeps some bytes for ever of each tensor that it has read.
    """
    for file in files:
        entries, start = read_entries(Path(file))
        if Path(file).stat().st_size == start:
            data = torch.empty(0, dtype=torch.uint8)  # which cannot be mapped
        else:
            data = torch.from_numpy(np.memmap(file, np.uint8, mode="c", offset=start))
        for name in sorted(name for name in entries if name in names):
            indices = entries.get(name + INDICES)
            yield (
                name,
                _tensor(data, entries[name]),
                None if indices is None else _tensor(data, indices).to(torch.int64),
            )


def _tensor(data: Tensor, entry: Mapping[str, Any]) -> Tensor:
    begin, end = entry["data_offsets"]
    dtype = DTYPES[entry["dtype"]]
    part = data[begin:end]
    return (part.clone() if begin % dtype.itemsize else part).view(dtype)


class PatchingWorker:
    """What vLLM's worker can do besides; its methods are called by name through `collective_rpc`."""

    _regions: dict[str, list[Region]]
    _adapter: adapters.Adapter
    _model: CpuModel | GpuModel
    _preparing: threading.Thread
    _switch: Callable[[], None] | None
    _failure: Exception | None

    def locate_weights(self) -> list[str]:
        """Find where the checkpoint lives; returns the names of the tensors that can be written in place.

        Nothing may be sampled meanwhile.
        """
        from vllm.config import set_current_vllm_config
        from vllm.model_executor.model_loader import get_model_loader

        worker: Any = self
        model, config = worker.get_model(), worker.vllm_config
        loader: Any = get_model_loader(config.load_config)
        self._regions = {}
        if is_plain(model) and hasattr(loader, "get_all_weights"):
            weights = loader.get_all_weights(worker.model_config, model)
            whole = config.parallel_config.world_size == 1
            with set_current_vllm_config(config):
                self._regions = locate(model, model.load_weights, weights, whole=whole)
        on_cpu = worker.device.type == "cpu"
        self._model = CpuModel(model) if on_cpu else GpuModel(worker.device)
        return sorted(self._regions)

    def prepare_weights(self, files: list[str]) -> None:
        """Begin to read and to prepare new weights, on a thread, while sampling goes on."""
        self._switch, self._failure = None, None
        self._preparing = threading.Thread(target=self._prepare, args=(files,), name="prepare-weights", daemon=True)
        self._preparing.start()

    def _prepare(self, files: list[str]) -> None:
        try:
            self._switch = self._model.prepare(self._regions, read_writes(files, self._regions))
        except Exception as error:
            self._failure = error

    def serve_adapter(self, rank: int, alpha: int) -> list[str]:
        """Put an adapter of zeros into the slot; returns the layers that adapters can change. Nothing is sampled meanwhile."""
        self._adapter = adapters.Adapter(rank, alpha)
        adapters.serve_zeros(self._adapter_manager, self._adapter)
        return adapters.adaptable_layers(self._adapter_manager)

    def prepare_adapter(self, files: list[str]) -> None:
        """Read an adapter, which is small; `switch_weights` puts it into the slot."""
        shapes = {name: entry["shape"] for file in files for name, entry in read_entries(Path(file))[0].items()}
        tensors = {name: values.view(shapes[name]).clone() for name, values, _ in read_writes(files, shapes)}
        self._failure, self._switch = None, adapters.prepare(self._adapter_manager, self._adapter, tensors)

    @property
    def _adapter_manager(self) -> Any:
        worker: Any = self
        return worker.model_runner.lora_manager._adapter_manager

    def weights_prepared(self) -> bool:
        """Whether `switch_weights` may be called; raises what broke the preparation off."""
        if self._failure is not None:
            raise self._failure
        return self._switch is not None

    def reload_files(self, files: list[str]) -> None:
        """Load all weights as vLLM does, for a model that cannot be written in place. Between two steps."""
        worker: Any = self
        shapes = {name: entry["shape"] for file in files for name, entry in read_entries(Path(file))[0].items()}
        weights = ((name, values.view(shapes[name])) for name, values, _ in read_writes(files, shapes))
        worker.reload_weights(weights_iterator=weights)
        if isinstance(self._model, CpuModel):
            self._model.repack()

    def switch_weights(self) -> None:
        """Sample from the new weights from now on. Between two steps."""
        if self._switch is None:
            raise RuntimeError("no weights are prepared")
        self._switch()
        self._switch = None
