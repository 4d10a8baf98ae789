from pathlib import Path

import pytest

from infra.gpu_plan import GpuPlan
from infra.placement import Placement
from stream.config import Config
from stream.errors import UserError


def placement(gpus=None, **tables) -> Placement:
    return Placement(Config(**tables), Path("r.toml"), ["--run.seed", "1"], gpus)


def test_every_role_of_the_recipe_gets_a_worker():
    specs = placement(producer={"replicas": 2}, verifier={"replicas": 3}).initial()
    assert sorted(spec.name for spec in specs) == [
        "allocator-0", "evaluator-0", "learner-0", "producer-0", "producer-1", "verifier-0", "verifier-1", "verifier-2",
    ]  # fmt: skip
    assert "evaluator-0" not in [spec.name for spec in placement(evaluator={"enabled": False}).initial()]


def test_a_worker_runs_its_package_with_the_recipe_and_its_threads():
    spec = placement(producer={"threads": 3}).spec("producer", 1)
    assert spec.command[1:] == ("-m", "producers", "r.toml", "--run.seed", "1")
    assert spec.environment["OMP_NUM_THREADS"] == "3"
    assert spec.environment["RUCKSACK_WORKER"] == "producer-1"
    assert spec.log == Path("runs/demo/logs/producer-1.log")
    assert "CUDA_VISIBLE_DEVICES" not in spec.environment
    assert "RUCKSACK_METRICS_PORT" not in spec.environment


def test_no_two_workers_share_a_metrics_port():
    made = placement(up={"metrics_port": 9000}, producer={"replicas": 3}, verifier={"replicas": 2})
    ports = [int(spec.environment["RUCKSACK_METRICS_PORT"]) for spec in made.initial()]
    assert len(set(ports)) == len(ports) == 8
    assert min(ports) == 9000


def test_workers_see_the_gpus_of_the_plan_and_an_engine_its_share_of_one():
    made = placement(gpus=GpuPlan(("0", "1"), (("2", "3"), ("4", "5"))), producer={"replicas": 7})
    seen = {spec.name: spec.environment["CUDA_VISIBLE_DEVICES"] for spec in made.initial()}
    assert seen["learner-0"] == "0,1"
    assert (seen["producer-0"], seen["producer-1"]) == ("2,3", "4,5")
    assert "producer-2" not in seen
    assert seen["verifier-0"] == seen["allocator-0"] == ""
    shared = placement(gpus=GpuPlan(("0",), (("0",),), 0.61))
    assert shared.spec("producer", 0).command[-1] == "--producer.gpu_memory_utilization=0.61"
    assert shared.spec("learner", 0).command[-1] == "1"


def test_a_producer_more_than_there_are_gpus_for_is_a_users_mistake():
    with pytest.raises(UserError, match="there is no GPU for producer-1: this run has 1 producers on GPUs"):
        placement(gpus=GpuPlan(("0",), (("1",),))).spec("producer", 1)
