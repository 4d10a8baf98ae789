"""Sets up the sampling engine."""

from typing import Annotated, Literal

from annotated_types import Gt, Le

from stream.config.table import NonNegative, Positive, PositiveFloat, Table


class ProducerTable(Table):
    """The sampling engine."""

    replicas: NonNegative = 1
    """Producers that `rucksack up` starts; left out on a machine with GPUs, as many as there are GPUs for."""
    gpus: tuple[str, ...] = ()
    """GPUs of the producers, tensor_parallel_size each, by their names in CUDA_VISIBLE_DEVICES; left out, those that the
    learner does not have, or the only one."""
    threads: Positive = 1
    """CPU threads of one producer."""
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """Precision of the engine's weights; auto takes the model's."""
    max_model_len: Positive = 2048
    """Most tokens of prompt and completion together."""
    max_num_seqs: Positive = 256
    """Rollouts sampled side by side."""
    kv_cache_gib: PositiveFloat = 1.0
    """KV cache on a CPU, GiB."""
    gpu_memory_utilization: Annotated[float, Gt(0), Le(1)] = 0.85
    """Share of a GPU's memory for the engine. On a GPU that it shares with the learner, left out, what the learner leaves."""
    tensor_parallel_size: Positive = 1
    """GPUs of one engine."""
    enforce_eager: bool = False
    """Run the model without compilation and CUDA graphs: a quicker start, slower sampling. On a CPU always so."""
    hang_s: PositiveFloat = 300.0
    """An engine that does not answer for so long is killed, and the producer restarted."""
    load_s: PositiveFloat = 600.0
    """The same for an engine that is loading new weights."""
