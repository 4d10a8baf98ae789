"""The rights that are printed are those that the table of topics says: no more, no less."""

import shlex

import pytest

from infra.acls import ALL_ROLES, Acl, acls_of, commands
from infra.cli import main
from infra.placement import PACKAGES
from stream.topics import ROLES, TOPICS, reads, writes


@pytest.mark.parametrize("role", ROLES)
def test_a_worker_reads_and_writes_the_topics_of_its_role_and_no_others(role):
    allowed = {(operation, name) for acl in acls_of(role, "r") if acl.resource == "topic"
               for operation in acl.operations for name in acl.names}  # fmt: skip
    assert allowed == {("Read", topic.of("r")) for topic in TOPICS if reads(role, topic)} | {
        ("Write", topic.of("r")) for topic in TOPICS if writes(role, topic)
    } | ({("Delete", "r.weights")} if role == "learner" else set())
    assert not any(acl.prefixed for acl in acls_of(role, "r"))


def test_the_table_names_roles_that_there_are():
    named = {name for topic in TOPICS for text in (topic.writers, topic.readers) for name in text.split(", ") if name}
    assert named == {*ROLES, "up", "every role"}
    assert set(ROLES) == set(PACKAGES)


def test_groups_and_transactions_are_for_the_roles_that_have_them():
    kinds = {role: {(acl.resource, acl.names) for acl in acls_of(role, "r")} for role in ROLES}
    assert ("group", ("r.producers",)) in kinds["producer"]
    assert ("transactional-id", ("r.learner.lineage",)) in kinds["learner"]
    assert ("transactional-id", ("r.allocator.rounds",)) in kinds["allocator"]
    assert [role for role in ROLES if any(kind == "group" for kind, _ in kinds[role])] == [
        "producer", "verifier", "tracker",
    ]  # fmt: skip
    assert all(("cluster", ()) in kinds[role] for role in ROLES)


def test_a_scaler_may_look_at_lag_and_read_nothing():
    assert {operation for acl in acls_of("scaler", "r") for operation in acl.operations} == {"Describe"}
    assert Acl(("Read",), "topic", ("r.",), prefixed=True) in acls_of("replay", "r")


def test_commands_are_shell_words_with_the_principal_put_in():
    lines = commands("r", ["verifier"], "User:CN={run} {role}", "b:9092", "my admin.properties")
    assert lines[0] == "# verifier"
    words = shlex.split(lines[1])
    assert words[:7] == [
        "kafka-acls.sh", "--bootstrap-server", "b:9092", "--command-config", "my admin.properties", "--add",
        "--allow-principal",
    ]  # fmt: skip
    assert words[7:] == ["User:CN=r verifier", "--operation", "Read", "--topic", "r.trajectories"]


def test_the_command_prints_all_roles_and_names_mistakes(capsys):
    assert main(["broker", "acls", "demo"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line[2:] for line in lines if line.startswith("# ")] == list(ALL_ROLES)
    assert main(["broker", "acls", "de mo"]) == 2
    assert "RUN is 'de mo'; want a run's name" in capsys.readouterr().err
    assert main(["broker", "acls", "demo", "--role", "actor"]) == 2
    assert "--role is 'actor'; want one of allocator, producer" in capsys.readouterr().err
