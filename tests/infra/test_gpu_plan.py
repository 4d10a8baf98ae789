"""Who gets which GPU, and what fits on it."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.gpu_plan import GpuPlan, plan_gpus
from infra.gpus import GIB, Gpu, imagined
from infra.memory_plan import RESERVE, engine_parts, learner_parts, total
from infra.model_facts import ModelFacts, facts_of
from stream.config import Config
from stream.errors import UserError

QWEN = {
    "hidden_size": 1536, "num_hidden_layers": 28, "num_attention_heads": 12, "num_key_value_heads": 2,
    "intermediate_size": 8960, "vocab_size": 151936, "tie_word_embeddings": True, "torch_dtype": "bfloat16",
}  # fmt: skip
"""The shape of Qwen2.5-1.5B, which has 1.54 B parameters."""


def facts(tmp_path: Path, **changes: Any) -> ModelFacts:
    (tmp_path / "config.json").write_text(json.dumps(QWEN | changes))
    return facts_of(tmp_path)


def plan(gpus: list[Gpu], model: ModelFacts | None = None, **tables: Any) -> GpuPlan:
    return plan_gpus(Config(**tables), gpus, model)


def test_the_parameters_of_a_known_shape(tmp_path: Path) -> None:
    assert facts(tmp_path).parameters == pytest.approx(1.5436e9, rel=1e-3)
    seven = facts(tmp_path, hidden_size=3584, intermediate_size=18944, num_attention_heads=28, num_key_value_heads=4,
                  vocab_size=152064, tie_word_embeddings=False)  # fmt: skip
    assert seven.parameters == pytest.approx(7.6156e9, rel=1e-3)


def test_parameters_are_counted_in_the_files_where_they_are_there() -> None:
    assert facts_of("demo/base").parameters == pytest.approx(0.8e6, rel=0.1)
    assert facts_of("demo/base").weight_bytes == 4


def test_the_learners_sum_is_that_which_a_gpu_showed(tmp_path: Path) -> None:
    """28.8 GiB of tensors on an H200, without a published copy and CUDA's own memory."""
    table = Config(learner={"dtype": "bfloat16", "micro_batch_tokens": 16384, "gradient_checkpointing": True}).learner
    parts = {part.name: part.num_bytes for part in learner_parts(facts(tmp_path), table)}
    assert (sum(parts.values()) - parts["copy as published"] - parts["CUDA"]) / GIB == pytest.approx(28.8, abs=0.3)


def test_one_card_is_shared_and_the_engine_gets_what_the_learner_leaves(tmp_path: Path) -> None:
    model, card = facts(tmp_path), imagined("1x80")
    learner = {"dtype": "bfloat16", "gradient_checkpointing": True}
    made = plan(card, model, learner=learner, producer={"dtype": "bfloat16"})
    needed = total(learner_parts(model, Config(learner=learner).learner))
    assert (made.learner, made.producers) == (("0",), (("0",),))
    assert made.utilization == pytest.approx(1 - RESERVE - needed / (80 * GIB), abs=0.01)
    assert any(line.startswith("the learner needs about") for line in made.lines)
    assert f"{made.utilization:.0%} of its card" in made.lines[-1]


@pytest.mark.parametrize("num_gpus", range(2, 9))
def test_more_cards_are_the_learners_first_and_then_the_producers(num_gpus: int) -> None:
    made = plan(imagined(f"{num_gpus}x80"))
    assert made.learner == ("0",)
    assert made.producers == tuple((str(index),) for index in range(1, num_gpus))
    assert made.utilization is None


def test_eight_cards_with_four_ranks() -> None:
    made = plan(imagined("8x80"), learner={"ranks": 4}, producer={"replicas": 4})
    assert (made.learner, made.producers) == (("0", "1", "2", "3"), (("4",), ("5",), ("6",), ("7",)))
    pairs = plan(imagined("8x80"), learner={"ranks": 4}, producer={"tensor_parallel_size": 2})
    assert pairs.producers == (("4", "5"), ("6", "7"))


def test_keys_name_the_cards_and_may_share_one(tmp_path: Path) -> None:
    cards = [Gpu("MIG-a", "", 40 * GIB, 40 * GIB), Gpu("GPU-b", "", 80 * GIB, 80 * GIB)]
    made = plan(cards, learner={"gpus": ["GPU-b"]}, producer={"gpus": ["MIG-a", "GPU-b"]})
    assert (made.learner, made.producers) == (("GPU-b",), (("MIG-a",), ("GPU-b",)))
    assert plan(cards, learner={"device": "cpu"}).producers == (("MIG-a",), ("GPU-b",))


@pytest.mark.parametrize(
    ("num_gpus", "tables", "error"),
    [
        (2, {"producer": {"replicas": 2}}, "2 producers need 2 GPUs beside the learner's 1; there are 1"),
        (2, {"learner": {"ranks": 2}}, "1 producers need 1 GPUs beside the learner's 2; there are 0"),
        (1, {"learner": {"ranks": 2}}, "learner.ranks is 2; this machine shows 1 GPUs"),
        (1, {"producer": {"tensor_parallel_size": 2}}, "1 producers need 2 GPUs"),
        (2, {"learner": {"gpus": ["4"]}}, "learner.gpus names '4'; this machine shows 0, 1"),
        (2, {"learner": {"gpus": ["0", "1"]}}, "learner.gpus names 2 GPUs; want learner.ranks, which is 1"),
        (2, {"producer": {"gpus": ["1", "1"]}}, "producer.gpus names a GPU twice"),
        (0, {"producer": {"gpus": ["0"]}}, "this machine shows none"),
    ],
)
def test_what_cannot_be_placed_is_said(num_gpus: int, tables: dict[str, Any], error: str) -> None:
    with pytest.raises(UserError, match=error):
        plan(imagined(f"{num_gpus}x80") if num_gpus else [], **tables)


def test_a_model_that_does_not_fit_is_refused_with_the_sum_and_what_would_fit(tmp_path: Path) -> None:
    with pytest.raises(
        UserError, match=r"the learner needs .* GiB = weights, float32 5.8 \+ .*What would fit: "
    ) as found:
        plan(imagined("1x40"), facts(tmp_path), producer={"dtype": "bfloat16"})
    offered = str(found.value).split("What would fit: ")[1].split(" or ")[0]
    assert offered.startswith("learner.gradient_checkpointing = true")
    changes = dict(part.split(" = ") for part in offered.replace("learner.", "").split(" with "))
    learner = {key: json.loads(value) for key, value in changes.items()}
    assert plan(imagined("1x40"), facts(tmp_path), producer={"dtype": "bfloat16"}, learner=learner).utilization
    with pytest.raises(UserError, match="no setting here does"):
        plan(imagined("1x8"), facts(tmp_path))
    with pytest.raises(UserError, match=r"an engine needs .* raise producer.tensor_parallel_size"):
        plan([*imagined("1x80"), Gpu("1", "", 3 * GIB, 3 * GIB)], facts(tmp_path),
             learner={"gradient_checkpointing": True})  # fmt: skip


def test_a_share_that_is_given_is_kept_if_it_fits(tmp_path: Path) -> None:
    model, learner = facts(tmp_path), {"dtype": "bfloat16", "gradient_checkpointing": True}
    made = plan(imagined("1x80"), model, learner=learner, producer={"gpu_memory_utilization": 0.3})
    assert made.utilization == 0.3
    with pytest.raises(UserError, match=r"is 0.85, and the learner leaves 0\.\d\d of GPU 0"):
        plan(imagined("1x80"), model, learner=learner, producer={"gpu_memory_utilization": 0.85})


@given(st.integers(1, 8), st.integers(1, 4), st.integers(1, 4), st.integers(12, 160))
def test_no_card_gets_more_than_it_has(num_gpus: int, ranks: int, size: int, gib: int) -> None:
    model = ModelFacts(parameters=10**9, layers=16, width=2048, inner=8192, vocabulary=32000, kv_width=1024,
                       weight_bytes=2, linear_width=40000)  # fmt: skip
    tables = {"learner": {"ranks": ranks}, "producer": {"tensor_parallel_size": size, "dtype": "bfloat16"}}
    config = Config(**tables)
    try:
        made = plan_gpus(config, imagined(f"{num_gpus}x{gib}"), model)
    except UserError:
        return
    learner, engine = total(learner_parts(model, config.learner)), total(engine_parts(model, config))
    used = [name for names in made.producers for name in names]
    assert len(made.learner) == ranks and len(set(used)) == len(used)
    for name in {*made.learner, *used}:
        share = (made.utilization or config.producer.gpu_memory_utilization) * gib * GIB if name in used else 0
        assert share + (learner if name in made.learner else 0) <= gib * GIB
        assert share >= engine or name not in used
