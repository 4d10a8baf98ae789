from pathlib import Path

import pytest

from infra.placement import Placement, visible_gpus
from stream.config import Config
from stream.errors import UserError


def placement(gpus=(), **tables) -> Placement:
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


def test_the_learner_has_the_first_gpu_and_each_producer_its_own():
    made = placement(gpus=["0", "1", "2", "3", "4"], producer={"replicas": 2, "tensor_parallel_size": 2})
    seen = {spec.name: spec.environment["CUDA_VISIBLE_DEVICES"] for spec in made.initial()}
    assert seen["learner-0"] == "0"
    assert (seen["producer-0"], seen["producer-1"]) == ("1,2", "3,4")
    assert seen["verifier-0"] == seen["allocator-0"] == ""


def test_too_few_gpus_are_a_users_mistake():
    with pytest.raises(UserError, match=r"producer-1 needs 2 GPUs beside the learner's one; this machine shows 4"):
        placement(gpus=["0", "1", "2", "3"], producer={"replicas": 2, "tensor_parallel_size": 2}).initial()


def test_visible_gpus_come_from_the_environment(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2, 5")
    assert visible_gpus() == ["2", "5"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert visible_gpus() == []
