"""A real broker that asks for logins and rights: SASL_SSL with SCRAM, one user per role, for the tests of access."""

import datetime
import ipaddress
import shlex
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from kafka import KafkaAdminClient
from kafka.admin import (
    ACL,
    ACLOperation,
    ACLPermissionType,
    ACLResourcePatternType,
    ResourcePattern,
    ResourceType,
    ScramMechanism,
    UserScramCredentialUpsertion,
)

from localkafka.local import LocalKafka
from localkafka.ports import is_free
from localkafka.settings import HOST

MECHANISM = "SCRAM-SHA-256"


class SecuredKafka(LocalKafka):
    """Users log in on `secured`; who comes to `bootstrap_servers`, without a login, may do all."""

    def __init__(self, folder: Path, port: int, secured_port: int) -> None:
        assert is_free(secured_port)
        self.secured = f"{HOST}:{secured_port}"
        self.ca_file = folder / "ca.pem"
        folder.mkdir(parents=True, exist_ok=True)
        key_store = folder / "server.pem"
        self.ca_file.write_bytes(certificate := _self_signed(key_store))
        key_store.write_bytes(key_store.read_bytes() + certificate)
        listeners = f"PLAINTEXT://{HOST}:{port},SASL_SSL://{self.secured}"
        jaas = "org.apache.kafka.common.security.scram.ScramLoginModule required;"
        properties = {
            "advertised.listeners": listeners,
            "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,SASL_SSL:SASL_SSL",
            "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
            "super.users": "User:ANONYMOUS",
            "sasl.enabled.mechanisms": MECHANISM,
            "ssl.keystore.type": "PEM",
            "ssl.keystore.location": str(key_store),
            f"listener.name.sasl_ssl.{MECHANISM.lower()}.sasl.jaas.config": jaas,
            "listeners": f"{listeners},CONTROLLER://{HOST}:{_free_beside(port, secured_port)}",
        }
        controller = properties["listeners"].rpartition("://")[2]
        properties["controller.quorum.voters"] = f"1@{controller}"
        super().__init__(folder / "kafka", ports=[port], properties=properties)

    def add_users(self, passwords: dict[str, str]) -> None:
        """Users and their passwords."""
        admin = KafkaAdminClient(bootstrap_servers=[self.bootstrap_servers])
        mechanism = ScramMechanism.SCRAM_SHA_256
        admin.alter_user_scram_credentials(
            [UserScramCredentialUpsertion(user, mechanism, password) for user, password in passwords.items()]
        )
        admin.close()

    def allow(self, commands: Iterable[str]) -> None:
        """Do what these kafka-acls.sh commands say."""
        admin = KafkaAdminClient(bootstrap_servers=[self.bootstrap_servers])
        wanted = [acl for command in commands if not command.startswith("#") for acl in _acls(shlex.split(command))]
        assert not admin.create_acls(wanted)["failed"]
        admin.close()

    def settings(self, user: str, password: Any) -> dict[str, Any]:
        """`broker.settings` of a user."""
        return {
            "security_protocol": "SASL_SSL",
            "ssl_cafile": str(self.ca_file),
            "sasl_mechanism": MECHANISM,
            "sasl_plain_username": user,
            "sasl_plain_password": password,
        }


def _free_beside(*taken: int) -> int:
    return next(port for port in range(max(taken) + 1, max(taken) + 200) if is_free(port))


def _acls(words: list[str]) -> list[ACL]:
    """The rights that one command adds."""
    given: dict[str, list[str]] = {}
    for position, word in enumerate(words):
        if word.startswith("--"):
            following = words[position + 1 : position + 2]
            given.setdefault(word[2:], []).append(following[0] if following and following[0][:2] != "--" else "")
    prefixed = given.get("resource-pattern-type") == ["prefixed"]
    pattern_type = ACLResourcePatternType.PREFIXED if prefixed else ACLResourcePatternType.LITERAL
    kinds = {"topic", "group", "transactional-id", "cluster"} & given.keys()
    (principal,), (kind,) = given["allow-principal"], kinds
    resource_type = ResourceType[kind.upper().replace("-", "_")]
    return [
        ACL(
            principal=principal,
            host="*",
            operation=ACLOperation[_underscored(operation)],
            permission_type=ACLPermissionType.ALLOW,
            resource_pattern=ResourcePattern(resource_type, name or "kafka-cluster", pattern_type),
        )
        for operation in given["operation"]
        for name in given[kind]
    ]


def _underscored(operation: str) -> str:
    """IdempotentWrite -> IDEMPOTENT_WRITE."""
    return "".join(f"_{letter}" if letter.isupper() else letter for letter in operation).lstrip("_").upper()


def _self_signed(key_file: Path) -> bytes:
    """Write a key, and return a certificate for this machine."""
    key = ec.generate_private_key(ec.SECP256R1())
    key_file.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "rucksack tests")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=2))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(HOST))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    return certificate.public_bytes(serialization.Encoding.PEM)
