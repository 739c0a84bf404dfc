"""The settings: one model for the YAML file, the environment (`DEJAVIEW_*`) and the flags.

Later wins: defaults, YAML file, environment, flags. Units are last in a name. Relations between
settings are checked here, at start, and the message names both settings and the fix.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from stream.uris import is_address

Positive = Annotated[int, Field(gt=0)]
Seconds = Annotated[float, Field(gt=0)]
Share = Annotated[float, Field(ge=-1, le=2)]

_OWNED_OPTIONS = {
    "bootstrap.servers": "kafka.bootstrap_servers",
    "enable.auto.commit": "nothing: dejaview commits what is judged",
    "isolation.level": "nothing: the log is read committed",
    "transactional.id": "instance_id",
    "enable.idempotence": "nothing: it is always on",
    "group.id": "kafka.group_prefix",
    "auto.offset.reset": "first_start",
}


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


class KafkaSettings(Section):
    bootstrap_servers: str = Field("127.0.0.1:9092", description="brokers, host:port, comma-separated")
    group_prefix: str = Field("dejaview", description="consumer groups are PREFIX-encode, PREFIX-decide, PREFIX-index")
    # Not in a repr: options hold passwords.
    options: dict[str, str] = Field(
        default={}, repr=False, description="any librdkafka option, for all clients (TLS, SASL, …)"
    )
    consumer_options: dict[str, str] = Field(default={}, repr=False, description="librdkafka options for consumers")
    producer_options: dict[str, str] = Field(default={}, repr=False, description="librdkafka options for producers")
    option_files: dict[str, Path] = Field(
        default={}, description="librdkafka options whose value is a file's content (secrets), e.g. sasl.password"
    )
    session_timeout_s: Seconds = Field(10.0, description="a silent worker loses its partitions after this")
    transaction_timeout_s: Seconds = Field(10.0, description="an abandoned transaction holds readers back this long")
    request_timeout_s: Seconds = Field(30.0, description="one deadline for a flush, commit or admin call")

    @model_validator(mode="after")
    def _owned(self) -> KafkaSettings:
        for name in (*self.options, *self.consumer_options, *self.producer_options, *self.option_files):
            if name in _OWNED_OPTIONS:
                raise ValueError(f"kafka options: {name!r} is dejaview's own; set {_OWNED_OPTIONS[name]} instead")
        if "@" in self.bootstrap_servers:
            raise ValueError(
                "kafka.bootstrap_servers takes host:port only; a user and a password are sasl.username and "
                "sasl.password in kafka.options and kafka.option_files"
            )
        return self


class TopicSettings(Section):
    uploads: str = "dejaview.uploads"
    fingerprints: str = "dejaview.fingerprints"
    ledger: str = "dejaview.ledger"
    unique: str = "dejaview.verdicts.unique"
    duplicate: str = "dejaview.verdicts.duplicate"
    review: str = "dejaview.verdicts.review"
    deadletters: str = "dejaview.deadletters"
    backfill: str = Field("dejaview.backfill", description="`dejaview backfill`: an existing library's uploads")
    backfilled: str = Field("dejaview.backfilled", description="`dejaview backfill`: their verdicts and dead letters")
    partitions: Annotated[int, Field(gt=0, le=96)] = Field(12, description="`topics create`: partitions of every topic")
    replication_factor: Positive = Field(1, description="`topics create`: copies of every partition; 3 in production")
    message_bytes_max: Positive = Field(21_000_000, description="`topics create`: max.message.bytes of uploads")

    @property
    def verdicts(self) -> tuple[str, ...]:
        """The verdict topics, each once (the three names may be one topic)."""
        return tuple(dict.fromkeys((self.unique, self.duplicate, self.review)))

    @model_validator(mode="after")
    def _apart(self) -> TopicSettings:
        if self.backfill in {self.uploads, self.fingerprints, self.ledger, self.backfilled}:
            raise ValueError(
                "topics.backfill must be a topic of its own: whatever comes from it is answered on topics.backfilled, "
                "not where users look; give it another name"
            )
        return self


class IndexSettings(Section):
    # Not in a repr: an address may hold a password.
    uri: str = Field(
        "http://127.0.0.1:19530", repr=False, description="Milvus address; a path ending in .db is Milvus Lite"
    )
    token: SecretStr = Field(SecretStr(""), description="Milvus token or user:password")
    token_file: Path | None = Field(None, description="file that holds the token")
    server_pem: Path | None = Field(None, description="CA certificate for TLS to Milvus")
    collection: str = Field("dejaview", pattern=r"^[A-Za-z][A-Za-z0-9_]{0,99}$", description="the model id is appended")
    index_type: Literal["HNSW", "FLAT", "IVF_FLAT", "AUTOINDEX"] = "HNSW"
    hnsw_m: Annotated[int, Field(ge=4, le=64)] = Field(
        32, description="neighbours of a row in the graph; 16 loses rows of segments of 250,000 and more"
    )
    hnsw_ef_construction: Annotated[int, Field(ge=8, le=1024)] = 200
    search_ef: Annotated[int, Field(ge=8, le=4096)] = 64
    neighbours_max: Annotated[int, Field(ge=1, le=100)] = Field(10, description="nearest rows asked for")
    timeout_s: Seconds = Field(10.0, description="one call to Milvus")
    retry_wait_max_s: Seconds = Field(5.0, description="longest pause between two tries")

    @property
    def embedded(self) -> bool:
        return self.uri.endswith(".db")

    @model_validator(mode="after")
    def _possible(self) -> IndexSettings:
        if not self.embedded and not is_address(self.uri):
            raise ValueError(
                "index.uri must be http://host:port or https://host:port; a user and a password belong in index.token "
                "or index.token_file"
            )
        if self.embedded and self.index_type == "HNSW":
            raise ValueError(
                "index.index_type HNSW is not available with index.uri of Milvus Lite (.db); "
                "set index.index_type to FLAT, IVF_FLAT or AUTOINDEX"
            )
        if self.search_ef < self.neighbours_max:
            raise ValueError(
                f"index.search_ef ({self.search_ef}) is below index.neighbours_max ({self.neighbours_max}); "
                "raise search_ef"
            )
        return self


class ModelSettings(Section):
    runtime: Literal["auto", "tensorrt", "torch-cuda", "openvino", "torch"] = "auto"
    weights: Path | None = Field(None, description="folder of a model; the built-in one if not set")
    threads: Annotated[int, Field(ge=0)] = Field(
        0, description="threads of a CPU runtime, bound to no core; 0 is one per core"
    )
    engine_cache: Path | None = Field(None, description="TensorRT's engines; ~/.cache/dejaview/engines if not set")


class IntakeSettings(Section):
    bytes_max: Positive = Field(20_000_000, description="largest image")
    pixels_max: Positive = Field(40_000_000, description="width x height, read from the header before decoding")
    side_max: Positive = Field(16_384, description="longest side in pixels")
    decoders: Positive = Field(2, description="decoder processes")
    decode_cpu_s: Seconds = Field(5.0, description="CPU time one image may take (40 MP with alpha takes 4 s)")
    decode_wall_s: Seconds = Field(
        15.0, description="wall time one image may take (a starved machine is not the image's fault)"
    )
    decode_memory_bytes: Positive = Field(1_500_000_000, description="address space of a decoder process")
    fetchers: Positive = Field(8, description="references fetched at the same time")
    fetch_timeout_s: Seconds = Field(10.0, description="one fetch, from connect to the last byte")
    fetch_retry_max_s: Seconds = Field(900.0, description="a store may be away this long, then store_unavailable")
    file_roots: list[Path] = Field(default=[], description="folders that file:// references may name")
    s3_buckets: list[str] = Field(default=[], description="buckets that s3:// references may name")
    s3_endpoint: str | None = Field(None, repr=False, description="S3 endpoint URL; AWS if not set")
    s3_region: str = "us-east-1"
    s3_access_key_id: SecretStr = SecretStr("")
    s3_secret_access_key: SecretStr = SecretStr("")
    s3_secret_access_key_file: Path | None = None
    https_enabled: bool = Field(False, description="fetch https:// references")
    https_hosts: list[str] = Field(default=[], description="host names that https:// references may name")

    @model_validator(mode="after")
    def _possible(self) -> IntakeSettings:
        if self.s3_endpoint is not None and not is_address(self.s3_endpoint):
            raise ValueError("intake.s3_endpoint must be http://host or https://host, with a port if it has another")
        if self.https_enabled and not self.https_hosts:
            raise ValueError("intake.https_enabled is set and intake.https_hosts is empty; list the hosts")
        if self.decode_wall_s < self.decode_cpu_s:
            raise ValueError("intake.decode_wall_s is below intake.decode_cpu_s; raise decode_wall_s")
        if self.pixels_max > self.side_max**2:
            raise ValueError("intake.pixels_max is above intake.side_max squared; lower pixels_max")
        return self


class EncodeSettings(Section):
    batch_items_max: Positive = Field(32, description="pictures in one encoder batch")
    batch_wait_s: Seconds = Field(0.002, description="the oldest picture waits at most this long for company")
    batch_wait_late_s: Seconds = Field(
        0.05, description="and when uploads are late, a tenth of what exceeds 0.25 s, this long at most"
    )
    in_flight_items_max: Positive = Field(256, description="uploads taken from Kafka and not yet published")
    in_flight_bytes_max: Positive = Field(256_000_000, description="bytes of images in flight")


class DecideSettings(Section):
    batch_items_max: Positive = Field(256, description="fingerprints in one transaction")
    batch_wait_s: Seconds = Field(0.002, description="time to fill a batch")
    batch_wait_late_s: Seconds = Field(
        0.1, description="and when uploads are late, a tenth of what exceeds 0.25 s, this long at most"
    )
    window_rows_max: Positive = Field(50_000, description="representatives the index does not hold yet, per partition")
    memory_entries_max: Positive = Field(
        200_000, description="ledger entries remembered against repeats, per partition"
    )
    progress_interval_s: Seconds = Field(0.2, description="how often the index's progress is read")
    pin_age_s: Seconds = Field(0.4, description="age from which a guaranteed timestamp costs no wait")
    foreign_model_pause_s: Seconds = Field(900.0, description="then a fingerprint of another model is a dead letter")


class LedgerIndexSettings(Section):
    batch_items_max: Positive = Field(512, description="ledger entries per insert")
    batch_wait_s: Seconds = Field(0.5, description="time to fill a batch; DECIDE's window holds what the index lacks")
    check_interval_s: Seconds = Field(
        1.0, description="an idle index stage looks this often whether the index was emptied"
    )
    links_deleted_at_once: Positive = Field(50, description="needless links are deleted when there are more")


class Thresholds(Section):
    duplicate: Share
    review: Share

    @model_validator(mode="after")
    def _ordered(self) -> Thresholds:
        if self.review > self.duplicate:
            raise ValueError("thresholds: review is above duplicate; lower review")
        return self


class TenantSettings(Section):
    allowed: list[str] | None = Field(None, description="the closed list of tenants; open if not set")
    thresholds: dict[str, Thresholds] = Field(default={}, description="scores per tenant; the model's if not listed")


class HealthSettings(Section):
    host: str = Field("127.0.0.1", description="address of /livez, /readyz and /metrics; 0.0.0.0 in a container")
    port: Annotated[int, Field(ge=0, le=65535)] = Field(9464, description="0 picks a free one")
    loop_stall_s: Seconds = Field(60.0, description="/livez fails when a loop has not turned for this long")


class Settings(BaseSettings):
    """Everything dejaview can be told."""

    model_config = SettingsConfigDict(
        env_prefix="DEJAVIEW_",
        env_nested_delimiter="__",
        extra="forbid",
        frozen=True,
        hide_input_in_errors=True,
        nested_model_default_partial_update=True,
    )

    instance_id: str = Field(
        "", description="stable name of this worker, for its transactional id; host name and process id if not set"
    )
    delivery: Literal["exactly_once", "at_least_once"] = "exactly_once"
    first_start: Literal["earliest", "latest"] = Field("earliest", description="where a new consumer group begins")
    drain_s: Seconds = Field(20.0, description="time for work in hand at shutdown")
    kafka: KafkaSettings = KafkaSettings()
    topics: TopicSettings = TopicSettings()
    index: IndexSettings = IndexSettings()
    model: ModelSettings = ModelSettings()
    intake: IntakeSettings = IntakeSettings()
    encode: EncodeSettings = EncodeSettings()
    decide: DecideSettings = DecideSettings()
    ledger_index: LedgerIndexSettings = LedgerIndexSettings()
    tenants: TenantSettings = TenantSettings()
    health: HealthSettings = HealthSettings()

    @model_validator(mode="after")
    def _consistent(self) -> Settings:
        if self.intake.bytes_max > self.encode.in_flight_bytes_max:
            raise ValueError(
                f"intake.bytes_max ({self.intake.bytes_max}) is above encode.in_flight_bytes_max "
                f"({self.encode.in_flight_bytes_max}); one image would never fit: raise in_flight_bytes_max"
            )
        largest = self.topics.message_bytes_max + self.intake.bytes_max
        if largest > self.encode.in_flight_bytes_max:
            raise ValueError(
                f"topics.message_bytes_max and intake.bytes_max ({largest} in all) exceed encode.in_flight_bytes_max "
                f"({self.encode.in_flight_bytes_max}); no record would ever be taken: raise in_flight_bytes_max"
            )
        if self.encode.batch_items_max > self.encode.in_flight_items_max:
            raise ValueError("encode.batch_items_max is above encode.in_flight_items_max; raise in_flight_items_max")
        if self.decide.batch_items_max > self.decide.window_rows_max:
            raise ValueError("decide.batch_items_max is above decide.window_rows_max; raise window_rows_max")
        if self.kafka.transaction_timeout_s > self.kafka.request_timeout_s:
            raise ValueError("kafka.transaction_timeout_s is above kafka.request_timeout_s; raise request_timeout_s")
        return self
