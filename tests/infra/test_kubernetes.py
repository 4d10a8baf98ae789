"""The manifests of infra/kubernetes: rendered by kustomize, checked against schemas, and against what the code says."""

import copy
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from infra.acls import ALL_ROLES, strimzi_users
from infra.placement import Placement
from stream.config import load
from stream.topics import CONSUMER_GROUPS, JOBS, TRAJECTORIES

FOLDER = Path(__file__).parents[2] / "infra" / "kubernetes"
RECIPE = FOLDER / "base" / "recipe.toml"
WORKERS = {"allocator", "producer", "verifier", "learner", "evaluator"}


@pytest.fixture(scope="module", params=["base", "gpu"])
def objects(request: pytest.FixtureRequest) -> list[dict[str, Any]]:
    kubectl = shutil.which("kubectl")
    if kubectl is None:
        pytest.skip("no kubectl here, whose kustomize renders the manifests")
    done = subprocess.run([kubectl, "kustomize", FOLDER / request.param], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return list(yaml.safe_load_all(done.stdout))


def of_kind(objects: list[dict[str, Any]], kind: str) -> dict[str, dict[str, Any]]:
    return {each["metadata"]["name"]: each for each in objects if each["kind"] == kind}


def pods(objects: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    workers = of_kind(objects, "Job") | of_kind(objects, "Deployment")
    return {name: each["spec"]["template"]["spec"] for name, each in workers.items()}


def test_every_role_has_a_worker_that_runs_it(objects):
    found = pods(objects)
    assert found.keys() == WORKERS | {"topics"}
    for role in WORKERS:
        (container,) = found[role]["containers"]
        assert container["args"] == [role, "/etc/rucksack/recipe/recipe.toml"]
        assert container["image"] in ("rucksack:cpu", "rucksack:gpu")
        assert {mount["name"] for mount in container["volumeMounts"]} == {
            each["name"] for each in found[role]["volumes"]
        }
        assert container["livenessProbe"]["httpGet"] == container["startupProbe"]["httpGet"] == {
            "path": "/alive", "port": "metrics",
        }  # fmt: skip
        gpus = container["resources"]["limits"].get("nvidia.com/gpu")
        assert gpus == ("1" if container["image"] == "rucksack:gpu" and role in ("learner", "producer") else None)


def test_workers_have_the_environment_that_up_gives_them(objects):
    made = Placement(load(RECIPE, ["--up.metrics_port", "9400"]), RECIPE, [])
    for role in WORKERS:
        (container,) = pods(objects)[role]["containers"]
        given = {each["name"] for each in container["env"]}
        assert given == set(made.spec(role, 0).environment) | {"KAFKA_USER", "KAFKA_PASSWORD"}


def test_each_role_logs_in_as_itself_with_a_password_from_its_secret(objects):
    users = of_kind(objects, "KafkaUser")
    for role, pod in pods(objects).items():
        user = "demo-up" if role == "topics" else f"demo-{role}"
        given = {each["name"]: each for each in pod["containers"][0]["env"]}
        assert given["KAFKA_USER"]["value"] == user and user in users
        assert given["KAFKA_PASSWORD"]["valueFrom"] == {"secretKeyRef": {"name": user, "key": "password"}}


def test_users_are_those_of_the_table_of_topics():
    assert list(yaml.safe_load_all((FOLDER / "base" / "users.yaml").read_text())) == strimzi_users(
        "demo", ALL_ROLES, "rucksack"
    )


def test_producers_and_verifiers_scale_on_their_lag_up_to_the_partitions(objects):
    config = load(RECIPE)
    scaled = of_kind(objects, "ScaledObject")
    for role, topic in (("producer", JOBS), ("verifier", TRAJECTORIES)):
        spec = scaled[role]["spec"]
        assert spec["scaleTargetRef"]["name"] == role and role in of_kind(objects, "Deployment")
        assert spec["maxReplicaCount"] == config.broker.partitions
        metadata = spec["triggers"][0]["metadata"]
        assert metadata["topic"] == topic.of(config.run.name)
        assert metadata["consumerGroup"] == f"{config.run.name}.{CONSUMER_GROUPS[role]}"
        assert metadata["bootstrapServers"].split(".")[0] == config.broker.bootstrap_servers.split(":")[0]
        assert of_kind(objects, "PodDisruptionBudget")[role]["spec"]["maxUnavailable"] == 1


def test_objects_of_kubernetes_are_valid(objects):
    validator = pytest.importorskip(
        "kubernetes_validate", reason="pip install kubernetes-validate has the API's schemas"
    )
    checked = 0
    for each in objects:
        if "." not in each["apiVersion"].split("/")[0]:  # the others belong to Strimzi and KEDA
            validator.validate(each, "1.32", strict=True)
            checked += 1
    assert checked >= 12


def strict(schema: Any) -> Any:
    """The schema with unknown keys refused wherever it lists the known ones."""
    if isinstance(schema, dict):
        made = {key: strict(value) for key, value in schema.items()}
        if isinstance(made.get("properties"), dict) and not made.get("x-kubernetes-preserve-unknown-fields"):
            made.setdefault("additionalProperties", False)
        return made
    return [strict(each) for each in schema] if isinstance(schema, list) else copy.copy(schema)


def test_objects_of_strimzi_and_keda_are_valid(objects):
    folder = os.environ.get("RUCKSACK_CRDS")
    if folder is None:
        pytest.skip("RUCKSACK_CRDS names no folder with the CustomResourceDefinitions of Strimzi and KEDA")
    jsonschema = pytest.importorskip("jsonschema")
    schemas = {}
    for file in Path(folder).glob("*.yaml"):
        for definition in yaml.safe_load_all(file.read_text()):
            spec = definition["spec"]
            for version in spec["versions"]:
                schemas[f"{spec['group']}/{version['name']}", spec["names"]["kind"]] = version["schema"][
                    "openAPIV3Schema"
                ]
    checked = set()
    for each in objects:
        if "." in (group := each["apiVersion"].split("/")[0]) and not group.endswith(".k8s.io"):
            schema = strict(schemas[each["apiVersion"], each["kind"]])
            schema["properties"]["metadata"] = {"type": "object"}
            jsonschema.Draft7Validator(schema).validate(each)
            checked.add(each["kind"])
    assert checked == {"Kafka", "KafkaNodePool", "KafkaUser", "ScaledObject", "TriggerAuthentication"}
