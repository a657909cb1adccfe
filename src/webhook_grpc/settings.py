"""Every setting, from the environment with the prefix `WEBHOOK_`: meaning, unit and default. Read once, then frozen."""

from __future__ import annotations

import base64
import binascii
import os
import re
from collections.abc import Mapping
from datetime import datetime
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self, TypeVar

import orjson
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_core import ErrorDetails

from webhook_grpc.domain import (
    breaker,
    disabling,
    egress,
    pace,
    progress,
    proxy,
    ramp,
    restarts,
    retention,
    retry,
    sealing,
)
from webhook_grpc.domain.access import Permission, Role, name_of
from webhook_grpc.domain.crowds import Spacing
from webhook_grpc.domain.fair_shares import RateLimits, ShareLimits
from webhook_grpc.domain.ids import INT64_MAX
from webhook_grpc.domain.tokens import CUSTOMERS_MAX

_Kind = TypeVar("_Kind", bound="FromEnvironment")
PREFIX: Final = "WEBHOOK_"
_CustomerId = Annotated[int, Field(gt=0, le=INT64_MAX)]
_CallerName = Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[^\x00]*$")]  # the database keeps it
_BREAKER: Final = breaker.BreakerPolicy()  # policies have their numbers; settings say how far they may be moved
_DISABLE: Final = disabling.DisablePolicy()
_PACE: Final = pace.PacePolicy()
_SCHEMA: Final = re.compile(r"[a-z][a-z0-9_]{0,62}")
_NO_SCHEMAS: Final = frozenset({"information_schema"})
_SAN: Final = re.compile(r"(URI:[!-~]{1,2048}|DNS:[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*)")


class SettingsError(Exception):
    """The settings can't be used; the message names everything that is wrong."""


class Token(BaseModel):
    """A caller's credential. Only its hash is configured; `webhook-grpc token` makes both."""

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)

    name: _CallerName
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    customer_id: _CustomerId | None = None  # None: all customers
    permissions: tuple[Permission, ...] = ("read", "publish", "manage")  # not "admin": nobody gets that by an upgrade
    expires: datetime | None = None

    @field_validator("expires")
    @classmethod
    def _with_time_zone(cls, value: datetime | None) -> datetime | None:
        if value is not None and value.tzinfo is None:
            raise ValueError("needs a time zone, for example 2027-01-31T00:00:00Z")
        return value


class ClientSan(BaseModel):
    """A caller that a name in the certificate of its connection stands for (mTLS)."""

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)

    name: _CallerName  # in the log and in the audit
    san: str  # a subject alternative name, as openssl prints it
    role: Role
    customer_ids: Annotated[tuple[_CustomerId, ...], Field(min_length=1, max_length=CUSTOMERS_MAX)] | None = None
    """None: all customers."""

    @field_validator("san")
    @classmethod
    def _one_name(cls, value: str) -> str:
        if not _SAN.fullmatch(value):
            raise ValueError(
                "must be one whole name as `openssl x509 -noout -ext subjectAltName` prints it: "
                "URI:spiffe://example.org/shop or DNS:shop.example.org"
            )
        kind, _, name = value.partition(":")
        return name_of(kind, name)


class FromEnvironment(BaseModel):
    """Takes from the environment what it is not given. Variables that are empty are as if they were not set."""

    # The schema is made for the kind of settings that is wanted, not for each class on the way to it.
    model_config = ConfigDict(frozen=True, extra="ignore", validate_default=True, defer_build=True)

    def __init__(self, **given: Any) -> None:
        texts = {name.upper(): text for name, text in os.environ.items() if text}
        found = {name: text for name in type(self).model_fields if (text := texts.get(f"{PREFIX}{name.upper()}"))}
        super().__init__(**found | given)


class DatabaseSettings(FromEnvironment):
    """Where the database is: all that `migrate` needs."""

    # --- where the database is ---------------------------------------------------------------------------------------
    database_url: SecretStr | None = None
    """A libpq connection string or URI, Postgres 15 or newer. Unset: the embedded Postgres in `data_dir`."""
    database_schema: str | None = None
    """The schema of the service's tables; `migrate` makes it. Unset: where the tables are; for a new installation
    `webhook_grpc`, or the schema that search_path of the role or the URL names, unless that is `public`."""
    database_pooler: Literal["none", "session", "transaction"] = "none"
    """What kind of pooler stands before Postgres. `transaction`: nothing rests on the session, hints become polling."""
    data_dir: Path = Field(default_factory=lambda: _default_data_dir(os.geteuid()))
    """Where the embedded Postgres and its secret key live: save both."""

    @field_validator("database_url", mode="before")
    @classmethod
    def _strip(cls, value: Any) -> Any:
        """A secret that was made with `echo` has a line end."""
        return value.strip() or None if isinstance(value, str) else value

    @field_validator("database_schema")
    @classmethod
    def _plain_schema(cls, value: str | None) -> str | None:
        """A name that is the same with quotes and without, so that it can be written into statements as it is."""
        if value is not None and (not _SCHEMA.fullmatch(value) or value.startswith("pg_") or value in _NO_SCHEMAS):
            raise ValueError(
                "must be 1 to 63 lower-case letters, digits and _, beginning with a letter, not pg_, and no name of "
                "Postgres' own"
            )
        return value

    @field_validator("data_dir", mode="after")
    @classmethod
    def _expand(cls, value: Path) -> Path:
        try:
            return value.expanduser().resolve()
        except RuntimeError:  # a user without a home, as in containers; fatal only to the embedded database
            return value


class Settings(DatabaseSettings):
    """The settings of one process. Durations end in `_seconds`, sizes in `_bytes`, upper bounds in `_max`."""

    # --- where it is served ------------------------------------------------------------------------------------------
    grpc_address: str = "127.0.0.1:50051"
    """Where gRPC is served: host:port, [ipv6]:port. Port 0 takes a free one."""
    grpc_connections_max: Annotated[int, Field(ge=1, le=1_000_000)] = 2000
    """gRPC connections at once; each takes a file descriptor. Further ones are closed at once. Both doors take fewer
    where the limit of descriptors would leave too few for deliveries; the log then says `fewer connections than
    configured`."""
    grpc_streams_per_connection_max: Annotated[int, Field(ge=1, le=1_000_000)] = 1000
    """Calls and streams at once on one gRPC connection. Some clients wait with more, others (Python, C++) get
    UNAVAILABLE."""
    grpc_idle_seconds_max: Annotated[float, Field(ge=1, le=86_400)] = 300.0
    """How long a gRPC connection may have no call before it is closed; clients open another when they need it."""
    grpc_read_seconds_max: Annotated[float, Field(ge=0.1, le=300)] = 10.0
    """How long a gRPC request may take to come whole."""
    grpc_plaintext: bool = False
    """Whether gRPC without TLS is meant on an address that other machines can reach: a mesh or a proxy does TLS. Else
    the start warns of it."""
    grpc_client_ca_file: Path | None = None
    """Certificates of authorities, PEM: a gRPC connection needs a certificate of one of them (mTLS)."""
    http_address: str = "127.0.0.1:8080"
    """Where HTTP is served: host:port, [ipv6]:port; empty for no HTTP. If the default is taken, the service starts
    without HTTP, and warns."""
    http_plaintext: bool = False
    """Whether HTTP may be served without TLS on an address that other machines can reach, because a mesh or a proxy
    does TLS."""
    http_client_ca_file: Path | None = None
    """Certificates of authorities, PEM: an HTTP connection needs a certificate of one of them (mTLS)."""
    tls_certificate_file: Path | None = None
    """The certificate that gRPC and HTTP are served with, then those that it rests on, PEM; with `tls_key_file`. Unset:
    plain text."""
    tls_key_file: Path | None = None
    """The private key of the certificate, PEM, without a password."""
    tls_look_seconds: Annotated[float, Field(ge=0.05, le=3600)] = 5.0
    """How often to look whether a file of TLS has changed."""
    http_allow_origins: tuple[str, ...] = ()
    """Comma-separated origins whose pages may call the HTTP API, such as https://console.example.com."""
    http_connections_max: Annotated[int, Field(ge=1, le=1_000_000)] = 2000
    """HTTP connections at once; each takes a file descriptor."""
    http_read_seconds_max: Annotated[float, Field(ge=0.1, le=300)] = 10.0
    """How long the body of an HTTP request may take to arrive."""
    metrics_address: str | None = None
    """Where /metrics, /healthz and /readyz are served to whoever reaches it, without tokens: host:port, [ipv6]:port.
    Unset: /metrics is on the address for HTTP, for callers of all customers."""
    metrics_poll_seconds: Annotated[float, Field(ge=0.1, le=300)] = 10.0
    """How often figures are read that take a look at the tables; /metrics itself never reads any."""
    reflection: bool | Literal["auto", "callers"] = "auto"
    """Who gets the API's description by reflection, as grpcurl, buf and ghz do: everybody (`true`), nobody (`false`),
    `callers` with a token, or `auto`: callers if there are tokens, otherwise everybody."""

    # --- processes ---------------------------------------------------------------------------------------------------
    processes: Annotated[int, Field(ge=1, le=64)] | Literal["auto"] = 1
    """How many processes share the addresses and the work; `auto`: as many as there are cores to use. What is said of
    one process holds for each."""
    process_restart_seconds_min: Annotated[float, Field(ge=0.01, le=60)] = restarts.SECONDS_MIN
    """How long a process that ended stays away the first time. Doubled each time that it does not last
    for a minute."""
    process_restart_seconds_max: Annotated[float, Field(ge=0.01, le=3600)] = restarts.SECONDS_MAX
    """The longest time that it stays away."""
    process_starts_max: Annotated[int, Field(ge=1, le=1000)] = restarts.STARTS_MAX
    """After how many starts in a row that failed, while no other process serves, the service ends."""

    # --- who may call ------------------------------------------------------------------------------------------------
    tokens: tuple[Token, ...] = ()
    """JSON list of {"name", "sha256", "customer_id" (absent: all), "permissions", "expires"}: `webhook-grpc token`
    prints it with one entry."""
    tokens_file: Path | None = None
    """The list of tokens in a file."""
    client_sans: tuple[ClientSan, ...] = ()
    """JSON list of {"name", "san", "role", "customer_ids" (absent: all)}: callers by a name in the certificate of their
    connection, where no token is sent. With `grpc_client_ca_file` or `http_client_ca_file`."""
    tokens_max: Annotated[int, Field(ge=1, le=1_000_000)] = 10_000
    """How many tokens the database may keep, beside those that are configured."""
    tokens_per_customer_max: Annotated[int, Field(ge=1, le=1_000_000)] = 100
    """How many of these may be for a customer alone, where its own tokens make them; operators may make more."""
    tokens_kept_seconds: Annotated[float, Field(ge=0, le=86_400)] = 900.0
    """How long tokens of the database that a process knows go on working while the database is away."""
    allow_anonymous: bool | None = None
    """Whether calls without a token may do everything. Unset: only on a loopback address with no tokens configured.
    `false`: never, though the only tokens may be those in the database."""
    default_customer_id: Annotated[int, Field(ge=0, le=INT64_MAX)] | None = None
    """The customer of calls that name none, by callers that are not of one customer; 0: they have to name one. Unset:
    1 on loopback addresses without tokens, otherwise 0."""
    secret_keys: tuple[SecretStr, ...] = ()
    """base64 of the 32 bytes that webhook secrets are sealed with; several, comma-separated: the first seals, all open.
    Needed with `database_url`; the embedded database keeps one in `data_dir`."""
    secret_keys_file: Path | None = None
    """The secret keys in a file, one a line."""
    secret_keys_lost: tuple[str, ...] = ()
    """Ids of keys that nobody has any more, comma-separated: without them the service starts all the same, and
    deliveries whose secrets are sealed with them wait until RotateWebhookSecret has given their webhooks others."""

    # --- where deliveries may go -------------------------------------------------------------------------------------
    egress_allow_http: bool = False
    """Whether webhooks may use plain http."""
    egress_allow_cidrs: tuple[egress.Network, ...] = ()
    """Comma-separated networks that may be called although they are internal."""
    egress_allow_hosts: tuple[str, ...] = ()
    """Comma-separated host names that webhooks may have although they are internal, and suffixes like
    *.svc.cluster.local; they may lead to private addresses."""
    egress_deny_cidrs: tuple[egress.Network, ...] = ()
    """Comma-separated networks that may not be called although they are public: your own. Wins over what is allowed."""

    egress_proxy_url: SecretStr | None = None
    """A forward proxy, like http://user:password@proxy.example:3128, that all requests to receivers go through
    (CONNECT). It looks up and dials what webhooks name."""

    # --- delivery policy ---------------------------------------------------------------------------------------------
    retry_delays_seconds: tuple[float, ...] = retry.DEFAULT_DELAYS_SECONDS
    """Comma-separated delays before each further attempt, for webhooks without their own: the most attempts that a
    delivery has are one more than there are delays."""
    overload_delay_seconds_min: Annotated[float, Field(ge=0, le=3600)] = retry.OVERLOAD_DELAY_SECONDS_MIN
    """The least delay after a timeout, 429, 502, 503 or 504."""
    retry_jitter: Annotated[float, Field(ge=0, le=1)] = retry.JITTER_SHARE
    """By which share a delay is varied, up and down; after a Retry-After only up."""
    retry_after_seconds_max: Annotated[float, Field(ge=0, le=604_800)] = retry.RETRY_AFTER_SECONDS_MAX
    """The longest Retry-After that is honoured."""
    attempt_timeout_seconds: Annotated[float, Field(ge=1, le=30)] = 15.0
    """How long an attempt may take in all, for webhooks without their own."""
    connect_seconds_max: Annotated[float, Field(ge=0.1, le=30)] = 5.0
    """How long each connection may take to be made."""
    response_body_seconds_max: Annotated[float, Field(ge=0.1, le=30)] = 1.0
    """How long the body of an answer is read after its status has decided."""
    breaker_failures: Annotated[int, Field(ge=1, le=1000)] = _BREAKER.consecutive_failures
    """After how many failures in a row (no answer, no connection, bad TLS, 5xx) a webhook's breaker opens."""
    breaker_failure_share: Annotated[float, Field(gt=0, le=1)] = _BREAKER.failure_share
    """The breaker also opens when such a share of what was sent in the window failed."""
    breaker_window_seconds: Annotated[float, Field(ge=1, le=3600)] = _BREAKER.window_seconds
    """The window that the breaker looks at."""
    breaker_window_attempts_min: Annotated[int, Field(ge=1, le=10_000)] = _BREAKER.window_attempts_min
    """How many attempts the window must have seen before the share opens the breaker."""
    breaker_probe_seconds_min: Annotated[float, Field(ge=0.05, le=3600)] = _BREAKER.probe_seconds_min
    """When an open breaker lets the first probe through. Doubled after each that fails."""
    breaker_probe_seconds_max: Annotated[float, Field(ge=0.05, le=86_400)] = _BREAKER.probe_seconds_max
    """The longest time between two probes."""
    breaker_successes_per_step: Annotated[int, Field(ge=1, le=1000)] = _BREAKER.successes_per_step
    """After how many answers a half-open breaker lets twice as many requests through; failures among them
    are subtracted, by the share above."""
    hold_seconds_max: Annotated[float, Field(ge=0, le=86_400)] = _PACE.hold_seconds_max
    """For how long at most the Retry-After of a 429 or 503 holds everything that goes to the webhook."""
    throttle_seconds: Annotated[float, Field(ge=1, le=86_400)] = _PACE.throttle_seconds
    """How long it takes after a 429, which halves a webhook's rate, until the rate is as before."""
    disable_after_seconds: Annotated[float, Field(ge=1, le=31_536_000)] = _DISABLE.failing_seconds
    """After how long of nothing but failures a webhook is disabled."""
    disable_failures_min: Annotated[int, Field(ge=1)] = _DISABLE.failures_min
    """How many failures it takes at least to disable a webhook."""
    blocked_disable_after: Annotated[int, Field(ge=1, le=1000)] = _DISABLE.blocked_count
    """How many times in a row an address that may not be called disables its webhook."""
    blocked_apart_seconds: Annotated[float, Field(ge=0, le=86_400)] = _DISABLE.blocked_apart_seconds
    """How far apart those times have to be to count."""
    ramp_in_flight: Annotated[int, Field(ge=1)] = ramp.FIRST
    """Requests at once with which a process begins that has just taken over work."""
    ramp_doubling_seconds: Annotated[float, Field(ge=0.01, le=60)] = ramp.DOUBLING_SECONDS
    """After how long a process that has just taken over work may have twice as many requests at once."""
    webhook_in_flight_max: Annotated[int, Field(ge=1, le=100)] = _PACE.in_flight_max
    """Requests at once to one webhook, for webhooks without their own."""
    customer_in_flight_max: Annotated[int, Field(ge=1)] = 200
    """Requests at once to all webhooks of one customer, from one process."""
    host_in_flight_max: Annotated[int, Field(ge=1)] = 50
    """Requests at once to one host, whoever's webhooks lead there, from one process."""
    host_share_per_customer: Annotated[float, Field(gt=0, le=1)] = 0.8
    """Which share of the requests to a host one customer may have, so that slow answers to one do not keep the host
    from others. 1: all of them, for a service with one customer."""
    process_in_flight_max: Annotated[int, Field(ge=1)] = 2000
    """Requests at once from one process. Each takes a file descriptor."""
    idle_connections_max: Annotated[int, Field(ge=0)] = 1000
    """Connections that are kept open for the next request, in one process. Each takes a file descriptor, and they take
    at most a quarter of those."""
    idle_connections_per_host_max: Annotated[int, Field(ge=0)] = 250
    """How many of the kept connections lead to one host, whoever's webhooks these are."""
    idle_connections_per_webhook_max: Annotated[int, Field(ge=0, le=100)] = 25
    """How many of the kept connections one webhook may have. 0: every request has a connection of its own."""
    idle_connection_seconds_max: Annotated[float, Field(ge=0.1, le=600)] = 20.0
    """How long a connection is kept without a request; a receiver that says less in its Keep-Alive gets less."""
    connection_age_seconds_max: Annotated[float, Field(ge=1, le=86_400)] = 300.0
    """How old a connection may be when it is used again: so long a name that moves is not followed."""
    webhooks_per_customer_max: Annotated[int, Field(ge=1, le=1000)] = 100
    """How many webhooks a customer may have."""
    replays_per_customer_max: Annotated[int, Field(ge=1, le=1000)] = 10
    """How many replays of a customer may be running."""
    replay_pending_max: Annotated[int, Field(ge=1, le=10_000)] = 100
    """How many deliveries of one replay to one webhook may wait to be sent, before it begins more."""
    event_types_max: Annotated[int, Field(ge=7, le=10_000)] = 1000
    """How many event types there may be, of all customers together. Each process holds their schemas in memory."""

    # --- engine ------------------------------------------------------------------------------------------------------
    lease_seconds: Annotated[float, Field(ge=1, le=60)] = 4.0
    """How long a process that stopped renewing its lease keeps its shards. Renewed four times in that time."""
    poll_seconds: Annotated[float, Field(ge=0.02, le=10)] = 0.2
    """How often the outbox is looked at when no hint comes."""
    replay_poll_seconds: Annotated[float, Field(ge=0.02, le=60)] = 0.25
    """How often replays are attended to. Those that can move nowhere, up to every 5 s."""
    lane_prefetch_max: Annotated[int, Field(ge=1)] = 100
    """Deliveries of one webhook that are held in memory, from its backlog, and as many just published; the rest stays
    in the table."""
    prefetch_bytes_max: Annotated[int, Field(ge=1_000_000)] = 64_000_000
    """Bodies of all deliveries that are held in memory."""
    settle_batch_max: Annotated[int, Field(ge=1, le=5000)] = 500
    """Results of attempts in one statement."""
    settle_wait_seconds: Annotated[float, Field(ge=0, le=1)] = 0.005
    """How long the first result of a statement waits for others."""
    settle_wait_seconds_max: Annotated[float, Field(ge=0, le=1)] = 0.025
    """How long it waits if nobody is held up by that: a success, of a webhook that has no backlog, while nobody watches
    deliveries in this process."""
    stall_seconds: Annotated[float, Field(ge=0.1, le=3600)] = progress.STALLED_SECONDS
    """For how long something may fail or stand still before health says NOT_SERVING."""
    drain_seconds: Annotated[float, Field(ge=0, le=600)] = 20.0
    """How long requests in flight may finish after SIGTERM."""
    shutdown_delay_seconds: Annotated[float, Field(ge=0, le=300)] = 0.0
    """How long calls are still served after SIGTERM while health checks already say NOT_SERVING."""
    response_body_bytes_max: Annotated[int, Field(ge=0, le=16_384)] = 16_384
    """How much of a receiver's answer is kept."""

    # --- what is kept for how long -----------------------------------------------------------------------------------
    events_retention_days: Annotated[int, Field(ge=1, le=3650)] = 30
    """For how many days events are kept at least. What is not delivered by then ends as EXPIRED."""
    attempts_retention_days: Annotated[int, Field(ge=1, le=3650)] = 30
    """For how many days the log of deliveries is kept: history, and how far back a watcher may resume. At least as long
    as events."""
    idempotency_keys_retention_hours: Annotated[int, Field(ge=1, le=87_600)] = 168
    """For how many hours a request_id is remembered."""
    audit_retention_days: Annotated[int, Field(ge=30, le=3650)] = 400
    """For how many days the audit keeps who changed what, and who was refused."""

    # --- calls -------------------------------------------------------------------------------------------------------
    publish_batch_max: Annotated[int, Field(ge=1, le=5000)] = 1000
    """Events that are stored by one statement."""
    publish_waiting_max: Annotated[int, Field(ge=500)] = 20_000
    """Events that may wait for a statement, alone and in batches each; more are refused with BACKLOG_FULL."""
    publish_waiting_bytes_max: Annotated[int, Field(ge=10_000_000)] = 64_000_000
    """The bytes of events that may wait for a statement; likewise."""
    publish_rate_per_customer: Annotated[float, Field(ge=0, le=1_000_000)] = 0.0
    """Events a second that a customer may publish through one process, with a burst of a second. 0: no limit."""
    publish_rate_per_token: Annotated[float, Field(ge=0, le=1_000_000)] = 0.0
    """Events a second that one token may publish through one process, at both doors together, for whichever customers,
    with a burst of a second. 0: no limit."""
    calls_max: Annotated[int, Field(ge=1)] = 3000
    """Calls in progress, those that wait included; more are refused with RATE_LIMITED, whoever makes them."""
    calls_at_once: Annotated[int, Field(ge=1)] = 200
    """Calls carried out at a time, of those that publish and of the others each; more wait in turn, by customer."""
    calls_waiting_max: Annotated[int, Field(ge=0)] = 1000
    """Calls that wait for their turn, of those that publish and of the others each; beyond that the newest of the
    customer with the most is refused with RATE_LIMITED."""
    calls_waiting_bytes_max: Annotated[int, Field(ge=6_000_000)] = 32_000_000
    """The bytes of the requests of calls that wait, of each of the two kinds; likewise. The largest request has 5 MiB;
    in memory a request takes 0.6 to 12 times its bytes (JSON text; a Struct of very small values)."""
    calls_waiting_seconds_max: Annotated[float, Field(ge=0.1, le=300)] = 5.0
    """How long a call waits for its turn before it is refused with RATE_LIMITED."""
    streams_max: Annotated[int, Field(ge=1)] = 1000
    """WatchDeliveries in progress; more are refused with TOO_MANY_STREAMS. A customer that has none gets one by a
    token of its own: the newest of whoever has most ends with TOO_MANY_STREAMS, and may resume with its cursor."""
    calls_per_token_max: Annotated[int, Field(ge=1)] = 2400
    """Calls in progress of one token, through one process; more are refused with RATE_LIMITED. Fewer while others have
    many, so that the next one finds some: what one has stays in the proportion to what is free that it has alone."""
    streams_per_token_max: Annotated[int, Field(ge=1)] = 800
    """WatchDeliveries in progress of one token, through one process; more are refused with TOO_MANY_STREAMS. Fewer
    while others have many; likewise."""
    calls_per_customer_max: Annotated[int, Field(ge=1)] = 1500
    """Calls in progress of one customer, with whichever token, through one process; likewise."""
    streams_per_customer_max: Annotated[int, Field(ge=1)] = 500
    """WatchDeliveries in progress of one customer, with whichever token, through one process; likewise."""
    audit_refusals_per_minute_max: Annotated[int, Field(ge=0, le=10_000)] = 20
    """Refused calls of one caller, through one process, that the audit keeps in a minute; all are in the log."""
    calls_rate_per_token: Annotated[float, Field(ge=0, le=1_000_000)] = 0.0
    """Calls a second that one token may begin through one process, at both doors together, with a burst of a second;
    more are refused with RATE_LIMITED. 0: no limit."""
    calls_rate_per_customer: Annotated[float, Field(ge=0, le=1_000_000)] = 0.0
    """Calls a second that one customer may begin through one process, with whichever token; likewise. 0: no limit."""
    streams_unsent_bytes_max: Annotated[int, Field(ge=1_000_000)] = 64_000_000
    """Messages that are on their way to watchers, of all together; of one customer half, and less as others come.
    Further ones wait."""
    answers_unread_bytes_max: Annotated[int, Field(ge=1_000_000)] = 64_000_000
    """Answers that the clients of one customer do not read, those to calls that publish apart; further such calls are
    refused with RATE_LIMITED. Over HTTP a client, but a watcher, that takes less than 16 KiB in 10 s is dropped."""
    answers_unread_total_bytes_max: Annotated[int, Field(ge=1_000_000)] = 256_000_000
    """The same of all customers together: beyond that whoever has an equal part of it unread is refused, too."""
    stream_buffer_max: Annotated[int, Field(ge=100)] = 5000
    """Changes that are buffered for one watcher before it has to read them from the log; all that keep up share
    them."""
    stream_history_bytes_max: Annotated[int, Field(ge=0)] = 16_000_000
    """What is kept, while watchers catch up, of the log that was read for one of them: others then need not read it."""
    stream_spacing_turns: Annotated[int, Field(ge=1, le=100)] = 8
    """Turns of the event loop from one message to watchers to the next, of whichever customers, so that calls, which
    need several turns each, do not wait for a message in each of them. 1: a message in each turn. Customers whose
    watchers got none lately do not wait for those of others."""
    stream_spacing_seconds_max: Annotated[float, Field(ge=0.001, le=1)] = 0.05
    """The longest time from one such message to the next, where turns take long. Of a thousand watchers that a change
    wakes the last one gets it at most a thousand times so much later, and what came meanwhile in the same message."""
    stream_write_seconds_max: Annotated[float, Field(ge=0.1, le=300)] = 10.0
    """How long a watcher may take for one message before it is let go."""
    call_seconds_max: Annotated[float, Field(ge=1, le=300)] = 30.0
    """The deadline of calls that bring none, and the longest that is granted."""

    # --- database ----------------------------------------------------------------------------------------------------
    database_pool_size: Annotated[int, Field(ge=1, le=1000)] = 8
    """Connections for calls and housekeeping; each process has eleven more (hub/connections.py)."""
    database_timeout_seconds: Annotated[float, Field(ge=0.1, le=300)] = 10.0
    """The deadline of one statement."""

    # --- logs --------------------------------------------------------------------------------------------------------
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """The least level of lines that are written."""
    log_format: Literal["auto", "json", "console"] = "auto"
    """`auto`: console on a terminal, otherwise one JSON object a line."""
    log_lines_waiting_max: Annotated[int, Field(ge=1, le=1_000_000)] = 10_000
    """How many lines may wait for stderr to take them; further ones are dropped and counted."""

    # --- traces ------------------------------------------------------------------------------------------------------
    traces: Literal["off", "otlp"] = "off"
    """Whether attempts are recorded as spans of OpenTelemetry and exported, as its own variables (OTEL_*) say."""
    traceparent_to_receivers: bool = False
    """Whether receivers get a `traceparent`: that of the attempt's span, or with traces off the producer's trace."""

    @field_validator("retry_delays_seconds", "secret_keys", "secret_keys_lost", "http_allow_origins", mode="before")
    @classmethod
    def _split(cls, value: Any) -> Any:
        return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value

    @field_validator("client_sans")
    @classmethod
    def _each_san_once(cls, value: tuple[ClientSan, ...]) -> tuple[ClientSan, ...]:
        sans = [client.san for client in value]
        if twice := sorted({san for san in sans if sans.count(san) > 1}):
            raise ValueError(f"must have each name once: {', '.join(twice)}")
        return value

    @field_validator("tokens", "client_sans", mode="before")
    @classmethod
    def _parse(cls, value: Any) -> Any:
        try:
            parsed = orjson.loads(value) if isinstance(value, str) else value
        except orjson.JSONDecodeError as error:
            raise ValueError(f"must be a JSON list: {error}") from None
        if isinstance(parsed, dict):
            raise ValueError("must be a JSON list: put the entry into brackets")  # noqa: TRY004 - pydantic's own
        return parsed

    @field_validator("grpc_address", "http_address", "metrics_address")
    @classmethod
    def _address(cls, value: str | None, info: ValidationInfo) -> str | None:
        if value is None or (not value and info.field_name == "http_address"):
            return value
        match = re.fullmatch(r"(?:\[[0-9A-Fa-f:.]+\]|[^:\[\]]+):([0-9]{1,5})", value)
        if match is None or int(match[1]) > 65535:
            raise ValueError("must be host:port, for example 127.0.0.1:50051")
        return value

    @field_validator("http_allow_origins")
    @classmethod
    def _origins(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for origin in value:
            if not re.fullmatch(r"https?://[^/\s*]+", origin):
                raise ValueError(f"must be origins like https://console.example.com, without a path: {origin}")
        return value

    @field_validator("retry_delays_seconds")
    @classmethod
    def _delays(cls, value: tuple[float, ...]) -> tuple[float, ...]:
        if not 0 <= len(value) <= 20 or not all(0 < delay <= 86_400 for delay in value):
            raise ValueError("must be at most 20 delays of at most 86400 seconds")
        return value

    @field_validator("secret_keys")
    @classmethod
    def _keys(cls, value: tuple[SecretStr, ...]) -> tuple[SecretStr, ...]:
        for key in value:
            decode_secret_key(key.get_secret_value())
        return value

    @field_validator("egress_proxy_url")
    @classmethod
    def _proxy(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None:
            proxy.parse_proxy(value.get_secret_value())
        return value

    @field_validator("egress_allow_cidrs", "egress_deny_cidrs", mode="before")
    @classmethod
    def _networks(cls, value: Any) -> Any:
        parts = [part.strip() for part in value.split(",")] if isinstance(value, str) else map(str, value)
        networks, problems = list[Any](), list[str]()
        for part in filter(None, parts):
            try:
                networks.append(ip_network(part))
            except ValueError as error:
                problems.append(str(error))
        if problems:
            raise ValueError(f"must be networks like 10.1.0.0/16, separated by commas: {', '.join(problems)}")
        return tuple(networks)

    @field_validator("egress_allow_hosts", mode="before")
    @classmethod
    def _hosts(cls, value: Any) -> Any:
        parts = value.split(",") if isinstance(value, str) else map(str, value)
        hosts = tuple(part.strip().removesuffix(".").lower() for part in parts if part.strip())
        if problems := [f"{host} {why}" for host in hosts if (why := egress.why_bad_allowed_host(host))]:
            raise ValueError(", ".join(problems))
        return hosts

    @model_validator(mode="after")
    def _together(self) -> Self:
        problems: list[str] = []
        if self.database_url is not None and not self.secret_keys and self.secret_keys_file is None:
            problems.append(
                "WEBHOOK_DATABASE_URL needs WEBHOOK_SECRET_KEYS or WEBHOOK_SECRET_KEYS_FILE, "
                "the same for every process; `webhook-grpc keys new` makes one"
            )
        reachable = [name for name, address in self._addresses if address and not _is_loopback(address)]
        problems += self._tls_problems
        with_mtls = {"WEBHOOK_GRPC_ADDRESS"} if self.grpc_client_ca_file else set[str]()
        with_mtls |= {"WEBHOOK_HTTP_ADDRESS"} if self.http_client_ca_file else set()
        without_mtls = [name for name in reachable if name not in with_mtls]
        if self.client_sans and not with_mtls:
            problems.append(
                "WEBHOOK_CLIENT_SANS needs WEBHOOK_GRPC_CLIENT_CA_FILE or WEBHOOK_HTTP_CLIENT_CA_FILE: without mTLS no "
                "client shows a certificate"
            )
        if self.allow_anonymous is None and not self.has_callers and without_mtls:
            problems.append(
                f"{' and '.join(without_mtls)} is reachable from other machines, so WEBHOOK_TOKENS or "
                "WEBHOOK_TOKENS_FILE is needed (`webhook-grpc token` makes one), or WEBHOOK_ALLOW_ANONYMOUS=false and "
                "tokens in the database (`webhook-grpc tokens create`), or mTLS (WEBHOOK_GRPC_CLIENT_CA_FILE, "
                "WEBHOOK_HTTP_CLIENT_CA_FILE), or WEBHOOK_ALLOW_ANONYMOUS=true"
            )
        if "WEBHOOK_HTTP_ADDRESS" in reachable and not self.has_tls and not self.http_plaintext:
            problems.append(
                "WEBHOOK_HTTP_ADDRESS is reachable from other machines and would carry tokens in plain text: set "
                "WEBHOOK_TLS_CERTIFICATE_FILE and WEBHOOK_TLS_KEY_FILE, or put a proxy with TLS before it and set "
                "WEBHOOK_HTTP_PLAINTEXT=true, or set WEBHOOK_HTTP_ADDRESS= for none"
            )
        is_taken = self.metrics_address in {self.http_address, self.grpc_address}
        if is_taken and not (self.metrics_address or "").endswith(":0"):
            problems.append("WEBHOOK_METRICS_ADDRESS must be an address of its own: without it, HTTP has /metrics")
        if self.attempts_retention_days < self.events_retention_days:
            problems.append(
                "WEBHOOK_ATTEMPTS_RETENTION_DAYS must be at least WEBHOOK_EVENTS_RETENTION_DAYS: how the deliveries of "
                "an event stand, for its history and for replays, is in the log of attempts"
            )
        if self.allow_anonymous and self.has_callers:
            problems.append("WEBHOOK_ALLOW_ANONYMOUS=true excludes tokens and WEBHOOK_CLIENT_SANS")
        if problems:
            raise ValueError("; ".join(problems))
        return self

    @property
    def has_tls(self) -> bool:
        """Whether gRPC and HTTP are served with TLS."""
        return self.tls_certificate_file is not None

    @property
    def _tls_problems(self) -> list[str]:
        problems = list[str]()
        if (self.tls_certificate_file is None) != (self.tls_key_file is None):
            problems.append("WEBHOOK_TLS_CERTIFICATE_FILE and WEBHOOK_TLS_KEY_FILE need each other")
        for name, value in (("GRPC", self.grpc_client_ca_file), ("HTTP", self.http_client_ca_file)):
            if value is not None and not self.has_tls:
                problems.append(f"WEBHOOK_{name}_CLIENT_CA_FILE needs WEBHOOK_TLS_CERTIFICATE_FILE: mTLS is TLS")
        return problems

    @property
    def plain_text_warning(self) -> str | None:
        """What to warn of at the start: gRPC in plain text where other machines reach it, unless that is meant."""
        if self.has_tls or self.grpc_plaintext or _is_loopback(self.grpc_address):
            return None
        return (
            "WEBHOOK_GRPC_ADDRESS is reachable from other machines and carries tokens and events in plain text: set "
            "WEBHOOK_TLS_CERTIFICATE_FILE and WEBHOOK_TLS_KEY_FILE, or, if a mesh or a proxy does TLS, "
            "WEBHOOK_GRPC_PLAINTEXT=true"
        )

    @property
    def has_callers(self) -> bool:
        """Whether any caller is configured, by a token or by a name in certificates."""
        return bool(self.tokens) or self.tokens_file is not None or bool(self.client_sans)

    @property
    def _addresses(self) -> tuple[tuple[str, str], ...]:
        return ("WEBHOOK_GRPC_ADDRESS", self.grpc_address), ("WEBHOOK_HTTP_ADDRESS", self.http_address)

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can reach the addresses."""
        return all(not address or _is_loopback(address) for _, address in self._addresses)

    @property
    def is_metrics_loopback(self) -> bool:
        """Whether only this machine can reach the address for metrics."""
        return self.metrics_address is not None and _is_loopback(self.metrics_address)

    @property
    def is_http_address_chosen(self) -> bool:
        """Whether somebody has set the address, so that a start without HTTP would not be what they want."""
        return "http_address" in self.model_fields_set

    @property
    def default_customer(self) -> int | None:
        """The customer of calls that name none; None if they have to name one."""
        if self.default_customer_id is None:
            return 1 if self.anonymous_allowed and self.is_loopback else None
        return self.default_customer_id or None

    @property
    def anonymous_allowed(self) -> bool:
        """Whether calls without a token may do everything."""
        return not self.has_callers if self.allow_anonymous is None else self.allow_anonymous

    @property
    def reflection_access(self) -> Literal["everybody", "callers", "nobody"]:
        """Who gets the API's description."""
        match self.reflection:
            case "auto":
                return "everybody" if self.anonymous_allowed else "callers"
            case "callers":
                return "callers"
            case True:
                return "everybody"
            case False:
                return "nobody"

    @property
    def call_limits(self) -> ShareLimits:
        """How many calls are served at once."""
        return ShareLimits(self.calls_max, self.calls_per_token_max, self.calls_per_customer_max)

    @property
    def rate_limits(self) -> RateLimits:
        """How many calls a second may begin."""
        return RateLimits(self.calls_rate_per_token, self.calls_rate_per_customer)

    @property
    def publish_rates(self) -> RateLimits:
        """How many events a second may be published."""
        return RateLimits(self.publish_rate_per_token, self.publish_rate_per_customer)

    @property
    def stream_limits(self) -> ShareLimits:
        """How many streams are served at once."""
        return ShareLimits(self.streams_max, self.streams_per_token_max, self.streams_per_customer_max)

    @property
    def egress_proxy(self) -> proxy.Proxy | None:
        """Returns where requests go through, if not directly."""
        url = self.egress_proxy_url
        return None if url is None else proxy.parse_proxy(url.get_secret_value())

    @property
    def egress_policy(self) -> egress.EgressPolicy:
        """Where deliveries may go."""
        return egress.EgressPolicy(
            self.egress_allow_http, self.egress_allow_cidrs, self.egress_deny_cidrs, self.egress_allow_hosts
        )

    @property
    def pace_policy(self) -> pace.PacePolicy:
        """When, how fast and how many requests are sent to a webhook."""
        return pace.PacePolicy(
            in_flight_max=self.webhook_in_flight_max,
            breaker=breaker.BreakerPolicy(
                consecutive_failures=self.breaker_failures,
                failure_share=self.breaker_failure_share,
                window_attempts_min=self.breaker_window_attempts_min,
                window_seconds=self.breaker_window_seconds,
                probe_seconds_min=self.breaker_probe_seconds_min,
                probe_seconds_max=self.breaker_probe_seconds_max,
                successes_per_step=self.breaker_successes_per_step,
            ),
            disable=disabling.DisablePolicy(
                failing_seconds=self.disable_after_seconds,
                failures_min=self.disable_failures_min,
                blocked_count=self.blocked_disable_after,
                blocked_apart_seconds=self.blocked_apart_seconds,
            ),
            throttle_seconds=self.throttle_seconds,
            hold_seconds_max=self.hold_seconds_max,
        )

    @property
    def stream_spacing(self) -> Spacing:
        """How far apart messages to watchers are."""
        return Spacing(self.stream_spacing_turns, self.stream_spacing_seconds_max)

    @property
    def retention_policy(self) -> retention.RetentionPolicy:
        """What is kept for how long."""
        return retention.RetentionPolicy(
            self.events_retention_days,
            self.attempts_retention_days,
            self.idempotency_keys_retention_hours,
            self.audit_retention_days,
        )

    @property
    def retry_policy(self) -> retry.RetryPolicy:
        """When failed attempts are repeated."""
        return retry.RetryPolicy(
            self.retry_delays_seconds,
            self.overload_delay_seconds_min,
            self.retry_jitter,
            self.retry_after_seconds_max,
        )


def _is_loopback(address: str) -> bool:
    host = address.rpartition(":")[0].strip("[]")
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _default_data_dir(user_id: int) -> Path:
    """Root's own folder is closed to others, and as root Postgres runs as another user."""
    return Path("~/.local/share/webhook-grpc") if user_id else Path("/var/lib/webhook-grpc")


def load_settings(**overrides: Any) -> Settings:
    """The settings from the environment. Raises SettingsError, which names everything that is wrong with them."""
    if os.environ.get(f"{PREFIX}HTTP_ADDRESS") == "":  # other empty variables are as if they were not set
        overrides.setdefault("http_address", "")
    return _loaded(Settings, overrides)


def load_database_settings() -> DatabaseSettings:
    """Where the database is, whatever else is set. Raises SettingsError."""
    return _loaded(DatabaseSettings, {})


def _loaded(kind: type[_Kind], overrides: Mapping[str, Any]) -> _Kind:
    try:
        return kind(**overrides)
    except ValidationError as error:
        raise SettingsError(problems_of(error)) from None


def decode_secret_key(text: str) -> bytes:
    """The bytes of a secret key. Raises ValueError."""
    try:
        key = base64.b64decode(text, validate=True)
    except binascii.Error:
        raise ValueError("must be base64") from None
    if len(key) != sealing.KEY_BYTES:
        raise ValueError(f"must be base64 of {sealing.KEY_BYTES} bytes")
    return key


def unknown_variables(environment: Mapping[str, str]) -> list[str]:
    """Variables that look like settings and are none: probably misspelt."""
    known = {PREFIX + name.upper() for name in Settings.model_fields}
    return sorted(
        name for name in environment if name.startswith(PREFIX) and name not in known and "_TEST_" not in name
    )


# pydantic's kinds of error that people meet, in words that say what to write. {…} are of the error's context.
_WORDS: Final[Mapping[str, str]] = {
    "bool_parsing": "must be true or false",
    "float_parsing": "must be a number",
    "float_type": "must be a number",
    "int_from_float": "must be a whole number",
    "int_parsing": "must be a whole number",
    "int_type": "must be a whole number",
    "greater_than": "must be more than {gt}",
    "greater_than_equal": "must be at least {ge}",
    "less_than_equal": "must be at most {le}",
    "literal_error": "must be {expected}",
    "missing": "is missing",
    "extra_forbidden": "is not a known field",
    "string_type": "must be text",
    "string_too_short": "must have at least {min_length} character",
    "string_too_long": "must have at most {max_length} characters",
    "string_pattern_mismatch": "must have the form {pattern}",
    "tuple_type": "must be a list",
    "model_type": "must be an object with the fields of a caller",
    "enum": "must be {expected}",
    "too_short": "must have at least {min_length} entry",
    "too_long": "must have at most {max_length} entries",
}


def problems_of(error: ValidationError, setting: str = "") -> str:
    """Everything that is wrong, each with its place, without the values, which may be secrets.

    `setting` is the variable that all of it belongs to, where the error does not say that itself.
    """
    return "; ".join({_place(detail["loc"], setting): _problem(detail, setting) for detail in error.errors()}.values())


def _problem(detail: ErrorDetails, setting: str) -> str:
    where, words = _place(detail["loc"], setting), _WORDS.get(detail["type"])
    context = {name: _number(value) for name, value in detail.get("ctx", {}).items()}
    message = words.format(**context) if words else detail["msg"].removeprefix("Value error, ")
    return f"{where}: {re.sub('^(Input|String) should ', 'must ', message)}" if where else message


def _place(loc: tuple[int | str, ...], setting: str) -> str:
    """The variable, and where in its value: `WEBHOOK_TOKENS, entry 2, sha256`."""
    parts = [part for part in loc if "[" not in str(part)]
    if not setting and parts:
        setting = PREFIX + str(parts.pop(0)).upper()
    return ", ".join([setting, *(f"entry {part + 1}" if isinstance(part, int) else part for part in parts)])


def _number(value: Any) -> Any:
    return int(value) if isinstance(value, float) and value.is_integer() else value
