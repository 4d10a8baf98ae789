"""Works out the memory that learner and engine take on a GPU. Model facts and a recipe in, sums out; no GPU needed.

The sums are of AdamW in float32 (4 bytes a parameter each for weights, gradients and the two moments), the copy in the
precision of the forward pass, the published copy, the activations of one micro-batch, and a chunk of logits. Seen on a GPU
(H200, 1.54 B parameters, 16,384 tokens a micro-batch, bfloat16, gradient checkpointing, 152 k vocabulary): 28.8 GiB of tensors
at the peak. These sums make 28.9 of the same, without the published copy, which that run did not have, and CUDA itself.
"""

from dataclasses import dataclass

from infra.gpus import GIB
from infra.model_facts import ModelFacts
from stream.config import Config, LearnerTable

LOGIT_CHUNKS_BYTES = 4 * (64 << 20)
"""Logits, their gradient and what the softmax needs, of one chunk."""
CONTEXT_BYTES = GIB
"""What CUDA and its libraries take in one process."""
ENGINE_BYTES = GIB
"""Activations of the engine and CUDA graphs, about."""
LEAST_SEQUENCES = 8
"""Sequences of the greatest length that an engine should hold at least."""
RESERVE = 0.03
"""Share of a card that nobody gets: memory is cut in pieces."""


@dataclass(frozen=True, slots=True)
class Part:
    """One line of a sum."""

    name: str
    num_bytes: int


def learner_parts(facts: ModelFacts, table: LearnerTable) -> list[Part]:
    """What a rank of the learner takes on its GPU."""
    share = 1 / table.ranks
    trained = facts.layers * facts.linear_width * table.lora_rank if table.lora_rank else facts.parameters
    forward = 2 if table.dtype == "bfloat16" else 4
    parts = [Part("weights, float32", 4 * facts.parameters)]
    if table.lora_rank:
        parts.append(Part(f"adapters of rank {table.lora_rank}", 4 * trained))
    parts += [Part("gradients, float32", 4 * trained), Part("AdamW, two moments, float32", 8 * trained)]
    if forward == 2:
        parts.append(Part("copy for the forward pass, bfloat16", 2 * facts.parameters))
    parts.append(Part("copy as published", facts.weight_bytes * facts.parameters))
    parts = [Part(part.name, int(part.num_bytes * share)) for part in parts]
    parts.append(Part(f"activations of {table.micro_batch_tokens:,} tokens", activation_bytes(facts, table, forward)))
    return [*parts, Part("logits of a chunk", LOGIT_CHUNKS_BYTES), Part("CUDA", CONTEXT_BYTES)]


def activation_bytes(facts: ModelFacts, table: LearnerTable, element: int) -> int:
    """Activations that the backward pass needs, of one micro-batch: of each layer, or only its input and one whole layer."""
    of_layer = 8 * facts.width + 4 * facts.inner
    kept = facts.layers * facts.width + of_layer if table.gradient_checkpointing else facts.layers * of_layer
    return table.micro_batch_tokens * kept * element


def engine_parts(facts: ModelFacts, config: Config) -> list[Part]:
    """What an engine takes at least on each of its GPUs."""
    table = config.producer
    element = {"auto": facts.weight_bytes, "float32": 4}.get(table.dtype, 2)
    sequences = min(LEAST_SEQUENCES, table.max_num_seqs)
    kv_cache = sequences * table.max_model_len * facts.layers * facts.kv_width * element
    size = table.tensor_parallel_size
    return [
        Part(f"weights, {element} bytes each", element * facts.parameters // size),
        Part(f"KV cache, {sequences} sequences of {table.max_model_len:,} tokens", kv_cache // size),
        Part("activations, graphs", ENGINE_BYTES),
        Part("CUDA", CONTEXT_BYTES),
    ]


def total(parts: list[Part]) -> int:
    """Bytes of all parts."""
    return sum(part.num_bytes for part in parts)


def in_gib(num_bytes: float) -> str:
    """E.g. `28.8 GiB`."""
    return f"{num_bytes / GIB:.1f} GiB"


def as_sum(name: str, parts: list[Part]) -> str:
    """One line: what is summed, and the sum."""
    return f"{name} {in_gib(total(parts))} = " + " + ".join(f"{part.name} {part.num_bytes / GIB:.1f}" for part in parts)
