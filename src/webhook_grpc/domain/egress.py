"""Where deliveries may go: verdicts on URLs and addresses.

A URL is judged when it is registered and again before each attempt; the address behind it is judged each time it is
dialled, because a name may lead anywhere by then (DNS rebinding, OWASP SSRF prevention). Python's `is_global` is not
used: on 3.11 it calls cloud metadata addresses, NAT64 and 6to4 forms of 127.0.0.1 and multicast public.
"""

from __future__ import annotations

import functools
import re
from dataclasses import replace
from enum import StrEnum
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import Final

import idna
from yarl import URL

from .record import record

URL_CHARACTERS_MAX: Final = 512
_HOSTS_MAX: Final = 10_000  # remembered

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

DENIED_IPV4: Final = tuple(
    IPv4Network(text)
    for text in (
        "0.0.0.0/8",
        "10.0.0.0/8",
        "100.64.0.0/10",  # carrier-grade NAT
        "127.0.0.0/8",
        "168.63.129.16/32",  # Azure's platform address
        "169.254.0.0/16",  # link-local, cloud metadata
        "172.16.0.0/12",
        "192.0.0.0/24",  # protocol assignments; Oracle's metadata address
        "192.0.2.0/24",
        "192.31.196.0/24",
        "192.52.193.0/24",
        "192.88.99.0/24",
        "192.168.0.0/16",
        "192.175.48.0/24",
        "198.18.0.0/15",
        "198.51.100.0/24",
        "203.0.113.0/24",
        "224.0.0.0/4",
        "240.0.0.0/4",
    )
)
GLOBAL_IPV6: Final = IPv6Network("2000::/3")
DENIED_IPV6: Final = tuple(
    IPv6Network(text)
    for text in (
        "2001::/23",  # Teredo, ORCHID and other protocol assignments
        "2001:db8::/32",
        "2002::/16",  # 6to4 carries any IPv4 address
        "2620:4f:8000::/48",
        "3fff::/20",
    )
)
# What a host name that the operator allows may lead to: private use, not this machine and not the link.
_PRIVATE: Final[tuple[Network, ...]] = (
    IPv4Network("10.0.0.0/8"),
    IPv4Network("100.64.0.0/10"),
    IPv4Network("172.16.0.0/12"),
    IPv4Network("192.168.0.0/16"),
    IPv6Network("fc00::/7"),
)
# Metadata of clouds that lies within private use; 169.254.169.254 does not.
_METADATA: Final[tuple[Network, ...]] = (
    IPv4Network("100.100.100.200/32"),  # Alibaba
    IPv6Network("fd00:ec2::/32"),  # Amazon
    IPv6Network("fd20:ce::254/128"),  # Google
    IPv6Network("fd00:c1::/32"),  # Oracle
    IPv6Network("fd00:42::42/128"),  # Scaleway
    IPv6Network("fd00:a9fe:a9fe::/48"),  # Linode
    IPv6Network("fd00:100::/32"),  # Alibaba
)
_ISATAP: Final = frozenset({0x00005EFE, 0x02005EFE})

# Services that speak something else than HTTP but can be talked to through it.
_DENIED_PORTS: Final = frozenset(
    [
        *(1719, 1720, 1723, 2049, 2375, 2376, 2379, 2380, 3306, 3659, 4045, 4190, 5060, 5061, 5432, 5672, 5984, 6000),
        *(6379, 6443, 6566, 6665, 6666, 6667, 6668, 6669, 6679, 6697, 9092, 9200, 9300, 10080, 10250, 10255, 11211),
        *(27017,),
    ]
)
_RESERVED_SUFFIXES: Final = frozenset(
    [
        *("localhost", "local", "internal", "localdomain", "intranet", "lan", "home", "corp", "private", "arpa"),
        *("onion", "test", "invalid", "example", "svc", "consul", "kubernetes"),
    ]
)
_RAW: Final = re.compile(r"[\x21-\x7e]+")
_AUTHORITY: Final = re.compile(r"(https?)://([^/?#]*)", re.IGNORECASE)
_ANY_HOST: Final = re.compile(r"https?://([^/?#@:\s\\]{1,255})(?::[0-9]*)?(?:[/?#]|$)", re.IGNORECASE)
_HOST_CHARACTERS_MAX: Final = 253
_LABEL: Final = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?")
_NUMERIC_LABEL: Final = re.compile(r"[0-9]+|0[xX][0-9A-Fa-f]*")
_IPV4: Final = re.compile(r"(?:0|[1-9][0-9]{0,2})(?:\.(?:0|[1-9][0-9]{0,2})){3}")


class BlockReason(StrEnum):
    """Why a destination is refused, in words for the person who registers it."""

    INTERNATIONAL = "must have its host name in ASCII (punycode)"
    CHARACTERS = "must consist of printable ASCII characters without spaces and backslashes"
    LENGTH = f"must have at most {URL_CHARACTERS_MAX} characters"
    NOT_ABSOLUTE = "must be an absolute URL like https://hooks.example.com/path"
    SCHEME = "must start with https:// (or http://, if the operator allows it)"
    CREDENTIALS = "must not contain a user name or a password"
    FRAGMENT = "must not contain a fragment"
    HOST = "must have a valid host name"
    INTERNAL_NAME = "must have a public host name, or one that the operator allows (WEBHOOK_EGRESS_ALLOW_HOSTS)"
    PORT = "must use port 443 (80 for http), or one from 1024 that is not known for another protocol"
    ADDRESS = "must lead to a public address"


@record
class EgressPolicy:
    """The operator's exceptions. The defaults admit only https to public addresses.

    `allowed_hosts` are names in lower case, or suffixes like `*.svc.cluster.local`; see `policy_for`.
    """

    allow_http: bool = False
    allowed_networks: tuple[Network, ...] = ()
    denied_networks: tuple[Network, ...] = ()
    allowed_hosts: tuple[str, ...] = ()
    admits_private: bool = False


def is_host_allowed(host: str, policy: EgressPolicy) -> bool:
    """Returns whether the operator has named this host, exactly or by a suffix."""
    name = host.removesuffix(".").lower()
    return any(
        name.endswith(allowed[1:]) if allowed.startswith("*.") else name == allowed for allowed in policy.allowed_hosts
    )


def policy_for(host: str, policy: EgressPolicy) -> EgressPolicy:
    """Returns the policy for the addresses of one host: a name that the operator allows may lead to private ones.

    Not to this machine, link-local addresses or cloud metadata: whoever can set addresses of the name would reach
    them. Those take an allowed network as well.
    """
    is_allowed = bool(policy.allowed_hosts) and is_host_allowed(host, policy)
    return replace(policy, admits_private=True) if is_allowed else policy


def why_bad_allowed_host(text: str) -> str | None:
    """Returns what is wrong with an entry of `allowed_hosts`, in lower case and without a dot at the end."""
    name = text.removeprefix("*.")
    labels = name.split(".")
    if not name.isascii():
        ascii_name = _in_punycode(name)
        return f"must be in ASCII: {ascii_name}" if ascii_name else "must be in ASCII"
    if _NUMERIC_LABEL.fullmatch(labels[-1]) or ":" in name:
        return "must be a name: addresses belong into WEBHOOK_EGRESS_ALLOW_CIDRS"
    if len(name) > _HOST_CHARACTERS_MAX or not all(_LABEL.fullmatch(label) for label in labels):
        return "must be a host name without scheme and port, or a suffix like *.svc.cluster.local"
    if text != name and len(labels) == 1 and name not in _RESERVED_SUFFIXES:
        return "must not open a whole top-level domain"
    return None


def why_address_blocked(text: str, policy: EgressPolicy) -> BlockReason | None:
    """Returns the verdict on an address that is about to be dialled. The operator's denials win over permissions."""
    try:
        address = ip_address(text)
    except ValueError:
        return BlockReason.ADDRESS
    if isinstance(address, IPv6Address):
        if address.scope_id is not None:
            return BlockReason.ADDRESS
        address = address.ipv4_mapped or address
    if _is_in(address, policy.denied_networks):
        return BlockReason.ADDRESS
    if _is_in(address, policy.allowed_networks):
        return None
    if policy.admits_private and _is_in(address, _PRIVATE):
        return BlockReason.ADDRESS if _is_in(address, _METADATA) or _is_isatap(address) else None
    return BlockReason.ADDRESS if _is_special(address) else None


def why_url_blocked(raw: str, policy: EgressPolicy) -> BlockReason | None:
    """Returns the verdict on a URL as text. None: it may be registered, and dialled if its address may.

    The host is cut out of the text and must be what the HTTP client's own parser sees: two parsers that differ are how
    such checks are passed by.
    """
    if not _RAW.fullmatch(raw) or "\\" in raw:
        return BlockReason.INTERNATIONAL if punycode_of(raw) else BlockReason.CHARACTERS
    if len(raw) > URL_CHARACTERS_MAX:
        return BlockReason.LENGTH
    match = _AUTHORITY.match(raw)
    if match is None:
        return BlockReason.SCHEME if ":" in raw else BlockReason.NOT_ABSOLUTE
    scheme, authority = match[1].lower(), match[2]
    if scheme == "http" and not policy.allow_http:
        return BlockReason.SCHEME
    if "@" in authority:
        return BlockReason.CREDENTIALS
    if "#" in raw:
        return BlockReason.FRAGMENT
    if not authority or "%" in authority:
        return BlockReason.HOST
    return _why_authority_blocked(raw, scheme, authority, policy)


def punycode_of(raw: str) -> str | None:
    """Returns the ASCII form of a URL's international host name (IDNA 2008); None if its host is no such name."""
    match = _ANY_HOST.match(raw)
    return None if match is None or match[1].isascii() else _in_punycode(match[1])


def _in_punycode(name: str) -> str | None:
    try:
        encoded = idna.encode(name, uts46=True).decode("ascii")
    except UnicodeError:  # idna's errors are ones
        return None
    return encoded if "xn--" in encoded else None  # full-width digits, say, become an address


@functools.lru_cache(_HOSTS_MAX)
def host_of(url: str) -> str:
    """Returns the host of a URL, by which webhooks that lead to one host are bounded together; empty if it has none."""
    try:
        return canonical_host(URL(url, encoded=True).raw_host or "")
    except ValueError:
        return ""


def canonical_host(host: str) -> str:
    """Returns the one spelling of a host: in lower case, without a dot at its end; IPv6 addresses as in RFC 5952."""
    try:
        return str(IPv6Address(host)) if ":" in host else host.rstrip(".").lower()
    except ValueError:
        return host.lower()


def _why_authority_blocked(raw: str, scheme: str, authority: str, policy: EgressPolicy) -> BlockReason | None:
    host, colon, port_text = authority.rpartition(":") if not authority.endswith("]") else (authority, "", "")
    if not colon:
        host, port_text = authority, ""
    elif not re.fullmatch(r"[0-9]{1,5}", port_text, re.ASCII) or not 0 < int(port_text) < 65536:
        return BlockReason.PORT
    try:  # yarl parses the port only when it is asked for
        url = URL(raw, encoded=True)
        agrees = url.raw_host is not None and url.raw_host.lower() == host.strip("[]").lower()
        port = url.port
    except ValueError:
        return BlockReason.HOST
    if not agrees or port is None:
        return BlockReason.HOST
    if not _is_allowed_port(port, scheme):
        return BlockReason.PORT
    return _why_host_blocked(host, policy)


def _is_allowed_port(port: int, scheme: str) -> bool:
    if port < 1024:
        return port == (443 if scheme == "https" else 80)
    return port not in _DENIED_PORTS


def _why_host_blocked(host: str, policy: EgressPolicy) -> BlockReason | None:
    if host.startswith("["):
        return _why_ipv6_literal_blocked(host, policy)
    labels = host.removesuffix(".").split(".")
    if _NUMERIC_LABEL.fullmatch(labels[-1]):  # WHATWG URL: such a host is an IPv4 address, or an attempt at one
        return why_address_blocked(host, policy) if _IPV4.fullmatch(host) else BlockReason.HOST
    if len(host) > _HOST_CHARACTERS_MAX or not all(_LABEL.fullmatch(label) for label in labels):
        return BlockReason.HOST
    if is_host_allowed(host, policy):
        return None
    if len(labels) == 1 or labels[-1].lower() in _RESERVED_SUFFIXES:
        return BlockReason.INTERNAL_NAME
    return None


def _why_ipv6_literal_blocked(host: str, policy: EgressPolicy) -> BlockReason | None:
    try:
        address = IPv6Address(host[1:-1])
    except ValueError:
        return BlockReason.HOST
    if not host.endswith("]") or address.ipv4_mapped is not None:
        return BlockReason.ADDRESS
    return why_address_blocked(str(address), policy)


def _is_in(address: Address, networks: tuple[Network, ...]) -> bool:
    return any(address in network for network in networks if network.version == address.version)


def _is_special(address: Address) -> bool:
    if isinstance(address, IPv4Address):
        return _is_in(address, DENIED_IPV4)
    if address not in GLOBAL_IPV6 or _is_in(address, DENIED_IPV6):
        return True
    return _is_isatap(address)


def _is_isatap(address: Address) -> bool:
    """Whether an IPv6 address carries an IPv4 address, whatever network it seems to be of (RFC 5214)."""
    return isinstance(address, IPv6Address) and int(address) >> 32 & 0xFFFFFFFF in _ISATAP
