"""Kafka and Milvus as a careful operator starts them: TLS, users, and no more rights than needed.

Kafka: SASL_SSL for clients, between brokers and to the controller; StandardAuthorizer, nothing allowed that no ACL
allows. `admin` (PLAIN) is a super user; the workers' user comes in over SCRAM-SHA-512. Milvus: TLS (one-way) and
authorization; `root` is its super user.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import trustme
from confluent_kafka.admin import (
    AclBinding,
    AclBindingFilter,
    AclOperation,
    AclPermissionType,
    AdminClient,
    NewTopic,
    ResourcePatternType,
    ResourceType,
    ScramCredentialInfo,
    ScramMechanism,
    UserScramCredentialUpsertion,
)
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key
from pymilvus import MilvusClient
from pymilvus.exceptions import MilvusException

from ops.local.kafka import KafkaServer
from ops.local.milvus import MilvusServer
from ops.local.ports import LOOPBACK
from stream.config import TopicSettings
from tests.support.deployment import until

ADMIN = "admin"
WORKER = "dejaview"
ROOT_TOKEN = "root:Milvus"  # what a new Milvus begins with
_ADMIN_PASSWORD = "admin-7Hq2"
_TIMEOUT_S = 30.0

Resource = Literal["topic", "group", "transactional id"]


@dataclass(frozen=True, slots=True)
class Right:
    """One ACL of Kafka: `name` is a setting of `topics`, or what follows `kafka.group_prefix`."""

    resource: Resource
    name: str
    operation: Literal["READ", "WRITE", "DESCRIBE"]
    stages: str

    @property
    def label(self) -> str:
        return f"{self.operation} {self.resource} {self.name}".replace(" ", "-")

    def named(self, topics: TopicSettings, group_prefix: str) -> str:
        """The resource's name in a deployment."""
        return str(getattr(topics, self.name)) if self.resource == "topic" else f"{group_prefix}-{self.name}"


# What `dejaview run` needs, and nothing else; SECURITY.md shows this list. READ and WRITE include DESCRIBE.
KAFKA_RIGHTS = (
    Right("topic", "uploads", "READ", "encode"),
    Right("topic", "fingerprints", "WRITE", "encode"),
    Right("topic", "fingerprints", "READ", "decide"),
    Right("topic", "ledger", "READ", "decide, index"),
    Right("topic", "ledger", "WRITE", "decide"),
    Right("topic", "unique", "WRITE", "decide"),
    Right("topic", "duplicate", "WRITE", "decide"),
    Right("topic", "review", "WRITE", "decide"),
    Right("topic", "deadletters", "WRITE", "decide"),
    Right("group", "encode", "READ", "encode"),
    Right("group", "decide", "READ", "decide"),
    Right("group", "index", "READ", "index"),
    Right("transactional id", "decide-", "WRITE", "decide"),
)


# Object and privileges of a Milvus role that suffices; SECURITY.md shows them. The collection's own name does, too.
MILVUS_RIGHTS = (
    ("Global", "CreateCollection"),
    ("Collection", "CreateIndex"),
    ("Collection", "Load"),
    ("Collection", "Insert"),
    ("Collection", "Delete"),
    ("Collection", "Query"),
    ("Collection", "Search"),
)


@dataclass(frozen=True, slots=True)
class Certificates:
    """An authority and what it issued for this machine's servers, as PEM files."""

    ca: Path
    chain: Path
    key: Path
    both: Path

    @classmethod
    def issue(cls, folder: Path) -> Certificates:
        """A new authority, and a certificate of it for loopback."""
        folder.mkdir(parents=True, exist_ok=True)
        authority = trustme.CA()
        issued = authority.issue_cert("localhost", LOOPBACK)
        chain = b"".join(pem.bytes() for pem in issued.cert_chain_pems)
        # Kafka reads no other form of key.
        key = load_pem_private_key(issued.private_key_pem.bytes(), None).private_bytes(
            Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()
        )
        made = cls(*(folder / name for name in ("ca.pem", "chain.pem", "key.pem", "both.pem")))
        authority.cert_pem.write_to_path(str(made.ca))
        made.chain.write_bytes(chain)
        made.key.write_bytes(key)
        made.both.write_bytes(key + chain)
        return made


class SecuredKafka(KafkaServer):
    """A broker that nobody uses without TLS, a password and an ACL."""

    def __init__(self, data: Path, certificates: Certificates) -> None:
        super().__init__(data)
        self.certificates = certificates
        self._admin: AdminClient | None = None

    def options(self, user: str = ADMIN) -> dict[str, str]:
        """librdkafka options of a user, but for a worker's password."""
        common = {"security.protocol": "SASL_SSL", "ssl.ca.location": str(self.certificates.ca), "sasl.username": user}
        if user != ADMIN:
            return common | {"sasl.mechanism": "SCRAM-SHA-512"}
        return common | {"sasl.mechanism": "PLAIN", "sasl.password": _ADMIN_PASSWORD}

    def warm_up(self) -> None:
        """Wait until a topic that was created is known: on a busy machine a new broker takes its time."""
        (future,) = self._client().create_topics([NewTopic("warm-up", 1, 1)]).values()
        future.result(_TIMEOUT_S)
        until(lambda: "warm-up" in self._client().list_topics(timeout=_TIMEOUT_S).topics, _TIMEOUT_S)

    def add_user(self, user: str, password: str) -> None:
        """A SCRAM user without any right."""
        credential = ScramCredentialInfo(ScramMechanism.SCRAM_SHA_512, 4096)
        change = UserScramCredentialUpsertion(user, credential, password.encode())
        for future in self._client().alter_user_scram_credentials([change]).values():
            future.result(_TIMEOUT_S)

    def allow(self, user: str, rights: Iterable[Right], topics: TopicSettings, group_prefix: str) -> None:
        """Give a user these rights."""
        acls = [_acl(user, right, topics, group_prefix) for right in rights]
        for future in self._client().create_acls(acls, request_timeout=_TIMEOUT_S).values():
            future.result(_TIMEOUT_S)

    def forbid(self, user: str) -> None:
        """Take all rights of a user away."""
        anything: Any = None
        kinds = (ResourceType.ANY, anything, ResourcePatternType.ANY)
        every = AclBindingFilter(*kinds, f"User:{user}", anything, AclOperation.ANY, AclPermissionType.ANY)
        for future in self._client().delete_acls([every], request_timeout=_TIMEOUT_S).values():
            future.result(_TIMEOUT_S)

    def _client(self) -> AdminClient:
        if self._admin is None:
            self._admin = AdminClient({"bootstrap.servers": self.bootstrap, "log_level": 0, **self.options()})
        return self._admin

    def _settings(self) -> str:
        plain = "org.apache.kafka.common.security.plain.PlainLoginModule required"
        scram = "org.apache.kafka.common.security.scram.ScramLoginModule required"
        login = f'{plain} username="{ADMIN}" password="{_ADMIN_PASSWORD}" user_{ADMIN}="{_ADMIN_PASSWORD}";'
        controller = f"{LOOPBACK}:{self.ports['controller']}"
        settings = {
            "listeners": f"SASL_SSL://{self.address},CONTROLLER://{controller}",
            "advertised.listeners": f"SASL_SSL://{self.address}",
            "listener.security.protocol.map": "SASL_SSL:SASL_SSL,CONTROLLER:SASL_SSL",
            "inter.broker.listener.name": "SASL_SSL",
            "sasl.mechanism.inter.broker.protocol": "PLAIN",
            "sasl.mechanism.controller.protocol": "PLAIN",
            "sasl.enabled.mechanisms": "PLAIN,SCRAM-SHA-512",
            "listener.name.sasl_ssl.plain.sasl.jaas.config": login,
            "listener.name.sasl_ssl.scram-sha-512.sasl.jaas.config": f"{scram};",
            "listener.name.controller.sasl.enabled.mechanisms": "PLAIN",
            "listener.name.controller.plain.sasl.jaas.config": login,
            "ssl.keystore.type": "PEM",
            "ssl.keystore.location": self.certificates.both,
            "ssl.truststore.type": "PEM",
            "ssl.truststore.location": self.certificates.ca,
            "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
            "super.users": f"User:{ADMIN}",
            "allow.everyone.if.no.acl.found": "false",
        }
        # Of a name that stands there twice, Java takes the second.
        return super()._settings() + "".join(f"{name}={value}\n" for name, value in settings.items())


class SecuredMilvus(MilvusServer):
    """Milvus that nobody uses without TLS and a password."""

    def __init__(self, data: Path, certificates: Certificates) -> None:
        super().__init__(data)
        self.certificates = certificates
        self._root: MilvusClient | None = None

    @property
    def uri(self) -> str:
        return f"https://localhost:{self.port}"

    def add_user(self, user: str, password: str) -> None:
        """A user with an empty role of its own. A server knows ten roles at most."""
        client = self.client()
        client.create_user(user, password)
        client.create_role(user)
        client.grant_role(user, user)

    def allow(self, user: str, collection: str, rights: Iterable[tuple[str, str]]) -> None:
        """Give a user these rights on one collection."""
        for kind, privilege in rights:
            self.client().grant_privilege(user, kind, privilege, collection if kind == "Collection" else "*")

    def forbid(self, user: str, collection: str, right: tuple[str, str]) -> None:
        """Take a right away."""
        kind, privilege = right
        self.client().revoke_privilege(user, kind, privilege, collection if kind == "Collection" else "*")

    def client(self) -> MilvusClient:
        """The super user's. Waits: on a busy machine /healthz says OK before the proxy takes connections."""
        if self._root is None:
            until(self._connects, 2 * _TIMEOUT_S)
        assert self._root is not None
        return self._root

    def _connects(self) -> bool:
        pem = str(self.certificates.ca)
        try:
            self._root = MilvusClient(self.uri, token=ROOT_TOKEN, secure=True, server_pem_path=pem, timeout=_TIMEOUT_S)
        except MilvusException:
            return False
        return True

    def _settings(self, template: str) -> dict[str, Any]:
        settings = super()._settings(template)
        settings["common"]["security"] = {"authorizationEnabled": True, "tlsMode": 1}
        settings["tls"] = {
            "serverPemPath": str(self.certificates.chain),
            "serverKeyPath": str(self.certificates.key),
            "caPemPath": str(self.certificates.ca),
        }
        return settings


def _acl(user: str, right: Right, topics: TopicSettings, group_prefix: str) -> AclBinding:
    kind, pattern = {
        "topic": (ResourceType.TOPIC, ResourcePatternType.LITERAL),
        "group": (ResourceType.GROUP, ResourcePatternType.LITERAL),
        "transactional id": (ResourceType.TRANSACTIONAL_ID, ResourcePatternType.PREFIXED),
    }[right.resource]
    name = right.named(topics, group_prefix)
    operation = AclOperation[right.operation]
    return AclBinding(kind, name, pattern, f"User:{user}", "*", operation, AclPermissionType.ALLOW)
