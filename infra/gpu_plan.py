"""Shares out GPUs: which the learner gets, which each producer gets, and what share of a card an engine may take.

Enters: a recipe, the GPUs and the model's facts. Leaves: a plan, or a UserError that says what would fit. Pure.

- One GPU holds the learner and one producer: the learner gets what it needs, the engine the rest.
- More GPUs: the learner gets `learner.ranks` of them, the first; producers get the others, `producer.tensor_parallel_size`
  each, and as many producers are started as there is room for, unless `producer.replicas` says how many.
- `learner.gpus` and `producer.gpus` name them instead. A card that both name is shared like a single one.
- Roles that only use the CPU see no GPU.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from infra.gpus import Gpu
from infra.memory_plan import RESERVE, as_sum, engine_parts, in_gib, learner_parts, total
from infra.model_facts import ModelFacts
from stream.config import Config
from stream.errors import UserError

ADAPTER_RANK = 16
"""Rank of the adapters that are proposed where a model does not fit."""


@dataclass(frozen=True, slots=True)
class GpuPlan:
    """Who sees which GPUs, by the names of CUDA_VISIBLE_DEVICES."""

    learner: tuple[str, ...] = ()
    producers: tuple[tuple[str, ...], ...] = ()
    """Of each producer."""
    utilization: float | None = None
    """Share of a card's memory for an engine that shares it with the learner; None: the recipe's."""
    lines: tuple[str, ...] = ()
    """The plan in words, for people."""

    @property
    def has_gpus(self) -> bool:
        """Whether there is anything to share out."""
        return bool(self.learner or self.producers)


def plan_gpus(config: Config, gpus: Sequence[Gpu], facts: ModelFacts | None) -> GpuPlan:
    """Share the GPUs out.

    Args:
        gpus: those that may be used; [] for a run on CPUs.
        facts: of the model; None plans without memory.

    Raises:
        UserError: too few GPUs, or too little memory; it says what is asked for and what would fit.

    """
    if not gpus:
        if config.learner.gpus or config.producer.gpus:
            raise UserError("learner.gpus or producer.gpus names GPUs, and this machine shows none: leave the keys out")
        return GpuPlan()
    known = {gpu.name: gpu for gpu in gpus}
    learner = _learners(config, list(known))
    producers = _producers(config, list(known), learner)
    lines = [f"GPUs: {', '.join(f'{gpu.name} {gpu.model} {in_gib(gpu.total_bytes)}' for gpu in gpus)}"]
    lines.append(f"learner on {_names(learner) or 'the CPU'}; " + "; ".join(
        f"producer-{index} on {_names(names)}" for index, names in enumerate(producers)
    ))  # fmt: skip
    shared = [known[name] for name in learner if any(name in names for names in producers)]
    utilization = None
    if facts is not None and all(gpu.total_bytes for gpu in gpus):
        utilization = _fit(config, facts, len(gpus), [known[name] for name in learner],
                           [known[name] for names in producers for name in names], shared)  # fmt: skip
        lines += _sums(config, facts, learner, utilization)
    elif shared:
        utilization = min(config.producer.gpu_memory_utilization, 0.4)
        lines.append(f"the card's memory is not known: the engine gets {utilization:.0%} of it")
    return GpuPlan(learner, producers, utilization, tuple(lines))


def _learners(config: Config, names: list[str]) -> tuple[str, ...]:
    ranks = config.learner.ranks
    if config.learner.device == "cpu":
        return ()
    if config.learner.gpus:
        own = _known(config.learner.gpus, names, "learner.gpus")
        if len(own) != ranks:
            raise UserError(f"learner.gpus names {len(own)} GPUs; want learner.ranks, which is {ranks}")
        return own
    if ranks > len(names):
        raise UserError(f"learner.ranks is {ranks}; this machine shows {len(names)} GPUs: lower it")
    return tuple(names[:ranks])


def _producers(config: Config, names: list[str], learner: Sequence[str]) -> tuple[tuple[str, ...], ...]:
    size, replicas = config.producer.tensor_parallel_size, config.producer.replicas
    given = "replicas" in config.producer.model_fields_set
    if config.producer.gpus:
        own = list(_known(config.producer.gpus, names, "producer.gpus"))
    else:
        own = [name for name in names if name not in learner]
        if not own and len(names) == size == 1 and replicas <= 1:
            own = list(names)  # one card for both
    room = len(own) // size
    wanted = replicas if given else max(room, 1)
    if wanted > room:
        beside = f" beside the learner's {len(learner)}" if learner and not config.producer.gpus else ""
        raise UserError(
            f"{wanted} producers need {wanted * size} GPUs{beside}; there are {len(own)} for them: lower producer.replicas, "
            "producer.tensor_parallel_size or learner.ranks, or name the cards to share in learner.gpus and producer.gpus"
        )
    return tuple(tuple(own[index * size : (index + 1) * size]) for index in range(wanted))


def _known(wanted: Sequence[str], names: Sequence[str], key: str) -> tuple[str, ...]:
    for name in wanted:
        if name not in names:
            raise UserError(f"{key} names {name!r}; this machine shows {', '.join(names)}")
    if len(set(wanted)) < len(wanted):
        raise UserError(f"{key} names a GPU twice: {', '.join(wanted)}")
    return tuple(wanted)


def _fit(
    config: Config,
    facts: ModelFacts,
    num_gpus: int,
    learner: Sequence[Gpu],
    producers: Sequence[Gpu],
    shared: Sequence[Gpu],
) -> float | None:
    """Check each card's sum; returns the engine's share where a card is shared."""
    needed, engine = total(learner_parts(facts, config.learner)), total(engine_parts(facts, config))
    share = config.producer.gpu_memory_utilization
    for gpu in learner:
        room = gpu.total_bytes * (1 - RESERVE) - (engine if gpu in shared else 0)
        if needed > room:
            raise UserError(_too_large(config, facts, num_gpus, gpu, is_shared=gpu in shared))
    for gpu in producers:
        if gpu not in shared and engine > gpu.total_bytes * share:
            raise UserError(
                f"{as_sum('an engine needs', engine_parts(facts, config))}; GPU {gpu.name} has {in_gib(gpu.total_bytes)}, of "
                f"which producer.gpu_memory_utilization gives it {share:g}: raise producer.tensor_parallel_size, or lower "
                "producer.max_model_len or producer.max_num_seqs"
            )
    if not shared:
        return None
    rest = min(1 - RESERVE - needed / gpu.total_bytes for gpu in shared)
    if "gpu_memory_utilization" in config.producer.model_fields_set:
        if share > rest:
            raise UserError(
                f"producer.gpu_memory_utilization is {share:g}, and the learner leaves {rest:.2f} of GPU {shared[0].name} to "
                "the engine; want at most that, or leave the key out"
            )
        return share
    return int(100 * rest) / 100


def _too_large(config: Config, facts: ModelFacts, num_gpus: int, gpu: Gpu, *, is_shared: bool) -> str:
    parts = as_sum("the learner needs", learner_parts(facts, config.learner))
    if is_shared:
        parts += "; " + as_sum("the engine", engine_parts(facts, config))
    alternatives = _alternatives(config, num_gpus)
    fitting = [text for text, changed in alternatives if _fits(changed, facts, gpu, is_shared)]
    remedy = (
        " or ".join(fitting[:2]) if fitting else "no setting here does: take more or larger cards, or a smaller model"
    )
    return f"{parts}; GPU {gpu.name} has {in_gib(gpu.total_bytes)}. What would fit: {remedy}"


def _fits(config: Config, facts: ModelFacts, gpu: Gpu, is_shared: bool) -> bool:
    needed = total(learner_parts(facts, config.learner)) + (total(engine_parts(facts, config)) if is_shared else 0)
    return needed <= gpu.total_bytes * (1 - RESERVE)


def _alternatives(config: Config, num_gpus: int) -> list[tuple[str, Config]]:
    """Recipes that take less memory, in the order in which they cost least, and how to say them."""
    found: list[tuple[str, Config]] = []
    changes: dict[str, object] = {}
    ranks: list[tuple[str, dict[str, object]]] = [
        (f"learner.ranks = {number}", {"ranks": number})
        for number in (2, 4, 8)
        if config.learner.ranks < number < num_gpus
    ]
    steps: tuple[tuple[str, dict[str, object]], ...] = (
        ("learner.gradient_checkpointing = true", {"gradient_checkpointing": True}),
        ('learner.dtype = "bfloat16"', {"dtype": "bfloat16"}),
        ("learner.micro_batch_tokens = 4096", {"micro_batch_tokens": min(4096, config.learner.micro_batch_tokens)}),
        *ranks,
        (f"learner.lora_rank = {ADAPTER_RANK}", {"lora_rank": config.learner.lora_rank or ADAPTER_RANK}),
    )
    texts: list[str] = []
    for text, change in steps:
        if all(getattr(config.learner, key) == value for key, value in change.items()):
            continue
        if "ranks" in changes and "ranks" in change:
            texts.pop()
        changes |= change
        texts.append(text)
        learner = config.learner.model_copy(update=changes)
        found.append((" with ".join(texts), config.model_copy(update={"learner": learner})))
    return found


def _sums(config: Config, facts: ModelFacts, learner: Sequence[str], utilization: float | None) -> list[str]:
    lines = []
    if learner:
        each = "each of the learner's ranks" if len(learner) > 1 else "the learner"
        lines.append(as_sum(f"{each} needs about", learner_parts(facts, config.learner)))
    share = config.producer.gpu_memory_utilization if utilization is None else utilization
    lines.append(
        as_sum("an engine needs at least", engine_parts(facts, config))
        + f"; it gets {share:.0%} of its card, the rest of "
        "that is KV cache"
    )
    return lines


def _names(names: Sequence[str]) -> str:
    return f"GPU {', '.join(names)}" if names else ""
