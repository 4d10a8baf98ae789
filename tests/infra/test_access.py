"""Logins and rights on a real broker with SASL_SSL, SCRAM and ACLs: each role may do what the table says, nothing else."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path

import pytest
from secured_kafka import SecuredKafka

from infra.acls import ALL_ROLES, commands
from infra.cli import main
from localkafka.ports import choose_ports
from stream.errors import BrokerUnavailable, UserError
from stream.kafka import KafkaBroker
from stream.topics import (
    CONSUMER_GROUPS,
    HEARTBEATS,
    JOBS,
    ROLES,
    TOPICS,
    TRAJECTORIES,
    TRANSACTIONAL_IDS,
    UPDATES,
    WEIGHTS,
    reads,
    topics_of,
    writes,
)

pytestmark = pytest.mark.kafka
ROOT = Path(__file__).parents[2]
RUN = "guarded"


def password_of(role: str) -> str:
    return f"the-{role}-password"


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SecuredKafka]:
    """A broker with a user for each role, their rights as `rucksack broker acls` prints them, and one without rights."""
    ports = choose_ports([1, 2], None, None)
    with SecuredKafka(tmp_path_factory.mktemp("guarded"), ports[1].broker, ports[2].broker) as kafka:
        kafka.add_users({role: password_of(role) for role in (*ALL_ROLES, "stranger")})
        kafka.allow(commands(RUN, ALL_ROLES, "User:{role}", kafka.bootstrap_servers, "none"))
        broker = logged_in(kafka, "up")
        broker.create_topics(RUN, TOPICS, 2)
        broker.close()
        everyone = KafkaBroker(kafka.bootstrap_servers)
        assert all(may_write(everyone, topic.of(RUN)) for topic in TOPICS)  # something to read
        everyone.close()
        yield kafka


def logged_in(kafka: SecuredKafka, role: str, password: str = "") -> KafkaBroker:
    return KafkaBroker(kafka.secured, kafka.settings(role, password or password_of(role)), timeout_s=30)


def may_write(broker: KafkaBroker, topic: str) -> bool:
    writer = broker.writer(name="w")
    try:
        writer.send(topic, b"k", b"v")
        writer.flush()
    except UserError as error:
        return "TopicAuthorizationFailedError" not in str(error)
    finally:
        writer.close()
    return True


def may_read(broker: KafkaBroker, topic: str, consumer_group: str | None = None) -> bool:
    try:
        reader = broker.reader([topic], consumer_group=consumer_group)
        while not reader.poll(1.0):
            pass
    except UserError as error:
        return "AuthorizationFailedError" not in str(error)
    reader.close()
    return True


@pytest.mark.parametrize("role", ROLES)
def test_a_role_may_do_what_the_table_says_and_nothing_else(guarded, role):
    broker = logged_in(guarded, role)
    broker.create_topics(RUN, topics_of(role), 2)
    assert {topic.name for topic in TOPICS if may_write(broker, topic.of(RUN))} == {
        topic.name for topic in TOPICS if writes(role, topic)
    }
    assert {topic.name for topic in TOPICS if may_read(broker, topic.of(RUN))} == {
        topic.name for topic in TOPICS if reads(role, topic)
    }
    for other, transactional_id in TRANSACTIONAL_IDS.items():
        expected = nullcontext() if other == role else pytest.raises(UserError, match="TransactionalIdAuthorization")
        with expected:
            broker.writer(name=f"{RUN}.{transactional_id}", transactional=True).close()
    broker.close()


def test_a_consumer_group_is_joined_only_by_its_role(guarded):
    broker = logged_in(guarded, "verifier")
    assert may_read(broker, TRAJECTORIES.of(RUN), f"{RUN}.{CONSUMER_GROUPS['verifier']}")
    assert not may_read(broker, TRAJECTORIES.of(RUN), f"{RUN}.{CONSUMER_GROUPS['tracker']}")
    broker.close()


def test_only_the_learner_deletes_weights(guarded):
    for role in ("learner", "producer"):
        broker = logged_in(guarded, role)
        expected = nullcontext() if role == "learner" else pytest.raises(UserError, match="TopicAuthorization")
        with expected:
            broker.delete_records({(WEIGHTS.of(RUN), 0): 1})
        broker.close()


def test_a_scaler_sees_lag_and_no_records(guarded):
    broker = logged_in(guarded, "scaler")
    assert set(broker.end_offsets(JOBS.of(RUN))) == {0, 1}
    broker.group_offsets(f"{RUN}.producers")
    assert not may_read(broker, JOBS.of(RUN))
    broker.close()


def test_a_wrong_password_is_a_users_mistake_and_is_not_shown(guarded):
    with pytest.raises(UserError, match=r"the broker refuses the login \(.*SCRAM-SHA-256\); correct sasl_\*") as error:
        KafkaBroker(guarded.secured, guarded.settings("producer", "wrong-password"), timeout_s=6)
    assert "wrong-password" not in str(error.value)


def test_a_certificate_that_is_not_trusted_is_named(guarded):
    settings = guarded.settings("producer", password_of("producer")) | {"ssl_cafile": None}
    with pytest.raises(BrokerUnavailable, match=r"certificate verify failed"):
        KafkaBroker(guarded.secured, settings, timeout_s=6)


def recipe(guarded: SecuredKafka, folder: Path, user: str) -> Path:
    settings = guarded.settings(user, None) | {"sasl_plain_password": {"env": "BROKER_PASSWORD"}}
    lines = [f'{key} = {{ env = "{value["env"]}" }}' if isinstance(value, dict) else f'{key} = "{value}"'
             for key, value in settings.items()]  # fmt: skip
    file = folder / f"{user}.toml"
    file.write_text(
        f'[run]\nname = "{RUN}"\ndir = "{folder / "runs"}"\n[prompts]\nsource = "codes"\nnum_prompts = 64\n'
        f'num_heldout = 16\n[broker]\nbootstrap_servers = "{guarded.secured}"\npartitions = 2\n[broker.settings]\n'
        + "\n".join(lines)
    )
    return file


def start(package: str, file: Path, user: str) -> "subprocess.Popen[str]":
    environment = os.environ | {"BROKER_PASSWORD": password_of(user), "RUCKSACK_WORKER": f"{user}-0"}
    return subprocess.Popen(
        [sys.executable, "-m", package, str(file)], env=environment, cwd=ROOT, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip


def test_a_producer_without_rights_says_so_in_one_line_and_the_others_go_on(guarded, tmp_path):
    verifier = start("verifier", recipe(guarded, tmp_path, "verifier"), "verifier")
    watch = logged_in(guarded, "replay")
    reader = watch.reader([HEARTBEATS.of(RUN)], from_end=True)

    def heartbeat_of_the_verifier() -> bool:
        return any(b"verifier-0" in record.key for record in reader.poll(1.0))

    while not heartbeat_of_the_verifier():
        assert verifier.poll() is None
    stranger = start("producers", recipe(guarded, tmp_path, "stranger"), "stranger")
    output, _ = stranger.communicate(timeout=300)
    assert stranger.returncode == 2
    lines = output.splitlines()
    assert len(lines) == 1, output
    assert lines[0].startswith("rucksack producer: the broker does not allow this user what its role needs: ")
    assert f"{RUN}.jobs" in lines[0] and "`rucksack broker acls RUN`" in lines[0]
    topic = HEARTBEATS.of(RUN)
    reader.seek({(topic, partition): end for partition, end in watch.end_offsets(topic).items()})
    while not heartbeat_of_the_verifier():
        assert verifier.poll() is None
    verifier.terminate()
    output, _ = verifier.communicate(timeout=60)
    assert verifier.returncode == 143, output
    assert password_of("verifier") not in output
    assert [file for file in (tmp_path / "runs").rglob("*") if file.is_file()] == []
    reader.close()
    watch.close()


def test_topics_are_created_by_the_command_and_only_by_who_may(guarded, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("BROKER_PASSWORD", password_of("up"))
    up = recipe(guarded, tmp_path, "up")
    assert main(["broker", "topics", str(up)]) == 0
    assert f"run {RUN} has its {len(TOPICS)} topics" in capsys.readouterr().out
    monkeypatch.setenv("BROKER_PASSWORD", password_of("learner"))
    learner = recipe(guarded, tmp_path, "learner")
    assert main(["broker", "topics", str(learner)]) == 2
    error = capsys.readouterr().err
    assert error.startswith("rucksack broker: the broker does not allow") and password_of("learner") not in error
    broker = logged_in(guarded, "learner")
    with pytest.raises(UserError, match=r"other\.updates"):  # what it may not see it cannot miss
        broker.create_topics("other", [UPDATES], 2)
    broker.close()


def test_a_missing_topic_that_a_role_may_not_create_is_waited_for(guarded):
    guarded.allow(commands("new", ["learner"], "User:{role}", guarded.bootstrap_servers, "none"))
    broker = logged_in(guarded, "learner")
    with pytest.raises(BrokerUnavailable, match=r"topics new\.updates do not exist.*`rucksack broker topics CONFIG`"):
        broker.create_topics("new", [UPDATES], 2)
    broker.close()
