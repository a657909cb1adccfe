"""Where deliveries may go. The first two tables are appendices A and B of the threat model, whole.

Appendix A's `None` and `int` are missing: a protobuf string is neither.
"""

from __future__ import annotations

import socket
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_network
from urllib.parse import urlsplit

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from webhook_grpc.domain.egress import (
    URL_CHARACTERS_MAX,
    BlockReason,
    EgressPolicy,
    Network,
    host_of,
    policy_for,
    punycode_of,
    why_address_blocked,
    why_bad_allowed_host,
    why_url_blocked,
)

STRICT = EgressPolicy()
HTTP_TOO = EgressPolicy(allow_http=True)

HOSTS_REFUSED = [
    "127.0.0.1",
    "127.0.0.1:8443",
    "127.1",
    "127.0.1",
    "2130706433",
    "017700000001",
    "0x7f000001",
    "0x7f.0.0.1",
    "0177.0.0.1",
    "127.0.0.1.",
    "0",
    "0.0.0.0",  # noqa: S104 - a URL's host
    "localhost",
    "LocalHost",
    "localhost.",
    "foo.localhost",
    "localhost.localdomain",
    "metadata.google.internal",
    "metadata",
    "kubernetes.default.svc",
    "redis.prod.svc.cluster.local",
    "vault.service.consul",
    "printer.local",
    "intranet",
    "router.lan",
    "x.corp",
    "169.254.169.254",
    "169.254.170.2",
    "168.63.129.16",
    "2852039166",
    "0xa9fea9fe",
    "10.0.0.1",
    "172.16.0.1",
    "172.31.255.255",
    "192.168.1.1",
    "100.64.0.1",
    "198.18.0.1",
    "192.0.2.10",
    "198.51.100.10",
    "203.0.113.10",
    "224.0.0.1",
    "239.255.255.250:1900",
    "240.0.0.1",
    "255.255.255.255",
    "[::1]",
    "[0:0:0:0:0:0:0:1]",
    "[::]",
    "[::127.0.0.1]",
    "[::ffff:127.0.0.1]",
    "[::ffff:7f00:1]",
    "[::ffff:169.254.169.254]",
    "[::ffff:8.8.8.8]",  # a mapped literal is refused even where its address is public
    "[64:ff9b::7f00:1]",
    "[64:ff9b::a9fe:a9fe]",
    "[2002:7f00:1::]",
    "[2001:0:7f00:1::]",
    "[2001:db8::1]",
    "[fd00:ec2::254]",
    "[fc00::1]",
    "[fe80::1]",
    "[fe80::1%25eth0]",
    "[fe80::1%eth0]",
    "[ff02::1]",
    "[100::1]",
    "[127.0.0.1]",
    "[::1]x",
]
PARSER_TRICKS_REFUSED = [
    "https://user:pw@example.com/",
    "https://example.com@127.0.0.1/",
    "https://127.0.0.1@example.com/",
    "https://example.com\\@127.0.0.1/",
    "https://127.0.0.1\\@example.com/",
    "https:\\\\127.0.0.1\\",
    "https:///127.0.0.1/",
    "https:127.0.0.1/",
    "//127.0.0.1/",
    "https://example.com#@127.0.0.1",
    "https://example.com/#frag",
    "https://127.0.0.1%00.example.com/",
    "https://%6c%6f%63%61%6c%68%6f%73%74/",
    "https://\uff11\uff12\uff17.0.0.1/",  # full-width digits
    "https://127\u30020\u30020\u30021/",  # ideographic full stops
    "https://ex\u0430mple.com/",  # a Cyrillic letter
    "https://example.com /",
    " https://example.com/",
    "https://exam\tple.com/",
    "https://example.com/\r\nX: y",
    "https://example.com/\n",
    "https://example.com/\0",
    "https://example.com/\ud800",
    "https://example.com:443:443/",
    "https://example.com:443@127.0.0.1:443/",
    "https://[2606:4700:4700::1111/",
    "https://2606:4700:4700::1111/",
    "https://[[2606:4700:4700::1111]]/",
    "https://[2606:4700:4700::1111]x:443/",
    "https://[v1.x]/",
]
PORTS_REFUSED = [
    *(0, 22, 25, 6379, 5432, 11211, 9200, 2375, 10250, 65536, -1),
    *(1, 21, 23, 53, 80, 110, 143, 389, 442, 444, 445, 465, 587, 993, 1023),
    *(1719, 1720, 1723, 2049, 3659, 4045, 4190, 5060, 5061, 6000, 6566, 6665, 6669, 6697, 10080),  # WHATWG bad ports
    *(2376, 2379, 2380, 3306, 5672, 5984, 6443, 9092, 9300, 10255, 27017),
]
NAMES_REFUSED = [
    "-bad.example.com",
    "bad-.example.com",
    "a..b.com",
    ".example.com",
    "example..com",
    "example.com..",
    "*.example.com",
    "exa_mple!.com",
    "a" * 64 + ".example.com",
    ".".join(["a" * 60] * 4) + ".example.com",  # 255 characters
    "example.1",  # WHATWG: a name that ends in a number is an IPv4 address, or an attempt at one
    "example.0x1f",
    "1.2.3.4.5",
    "1.2.3",
    "1.2.3.999",
    "08.8.8.8",
    "example.com.8.",
]
RESERVED_SUFFIXES = [
    *("localhost", "local", "internal", "localdomain", "intranet", "lan", "home", "corp", "private", "arpa"),
    *("onion", "test", "invalid", "example", "svc", "consul", "kubernetes"),
]
NO_URLS = ["", "https://", "https:///", "https", "example.com", "/hook", "?", "#", ":", "://example.com/"]
SCHEMES_REFUSED = [
    "http://example.com/",
    "HTTP://127.0.0.1/",
    "ftp://example.com/",
    "file:///etc/passwd",
    "gopher://127.0.0.1:6379/_SET",
    "dict://127.0.0.1:11211/stats",
    "unix:///var/run/docker.sock",
    "ws://example.com/",
    "wss://example.com/",
    "data:text/plain,x",
    "javascript:alert(1)",
    "httpss://example.com/",
    "xhttps://example.com/",
    "tcp://example.com:443/",
]
ACCEPTED = [
    "https://example.com/",
    "https://example.com",
    "https://example.com:443/hook",
    "https://hooks.example.com:8443/a/b?x=1&y=%7B%22a%22%3A1%7D",
    "https://EXAMPLE.com/Hook",
    "https://example.com./hook",
    "https://xn--bcher-kva.example.net/",
    "https://a-b_c.example.org/",
    "https://8.8.8.8/hook",
    "https://1.1.1.1:8443/",
    "https://126.255.255.255/",
    "https://172.32.0.1/",
    "https://192.169.0.1/",
    "https://100.128.0.1/",
    "https://[2606:4700:4700::1111]/hook",
    "https://[2001:4860:4860::8888]:8443/x",
    "https://[2a00:1450:4001:81c::200e]/",
    "https://hooks.slack.com/services/T000/B000/XXXX",
    (
        "https://prod-00.westeurope.logic.azure.com:443/workflows/ab/triggers/manual/paths/invoke"
        "?api-version=2016-10-01&sp=%2Ftriggers&sig=aB_c-1"
    ),
    "https://outlook.office.com/webhook/a@b/IncomingWebhook/c/d",
    "https://example.com/path;v=1/~user/(x)!*'$,",
    "https://127.0.0.1.example.com/",
    "https://localhost.example.com/",
    "https://internal.example.com/",
    "https://example.com/?url=http://127.0.0.1/",
    "https://0x7f000001.example.com/",
    "https://abc123.execute-api.us-east-1.amazonaws.com/prod/hook",
    "https://example.co.uk/",
]

# Each with its first and last address; the lists of the threat model's `why_blocked`.
IPV4_BLOCKED = [
    *("0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "168.63.129.16/32", "169.254.0.0/16"),
    *("172.16.0.0/12", "192.0.0.0/24", "192.0.2.0/24", "192.31.196.0/24", "192.52.193.0/24", "192.88.99.0/24"),
    *("192.168.0.0/16", "192.175.48.0/24", "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/4"),
    *("240.0.0.0/4",),
]
IPV4_EDGES = [
    IPv4Network(network)[position]
    for network in IPV4_BLOCKED
    for position in ([0, -1] if "/32" not in network else [0])
]
IPV6_BLOCKED = [
    *("2001::", "2001:1ff:ffff:ffff:ffff:ffff:ffff:ffff", "2001:db8::1", "2002::1", "2002:808:808::1"),
    *("2620:4f:8000::1", "3fff::1", "3fff:fff:ffff:ffff:ffff:ffff:ffff:ffff"),
    *("::", "::1", "::8.8.8.8", "::ffff:0:808:808", "64:ff9b::808:808", "64:ff9b:1::1", "100::1", "1fff::1"),
    *("4000::1", "5f00::1", "fc00::1", "fd00:ec2::254", "fe80::1", "fec0::1", "ff02::1", "ff0e::1"),
    *("2606:4700::5efe:808:808", "2606:4700::200:5efe:7f00:1"),  # ISATAP carries an IPv4 address
]
PUBLIC = [
    *("1.0.0.0", "8.8.8.8", "9.255.255.255", "11.0.0.0", "100.63.255.255", "100.128.0.0", "126.255.255.255"),
    *("128.0.0.0", "168.63.129.15", "168.63.129.17", "169.253.255.255", "169.255.0.0", "172.15.255.255"),
    *("172.32.0.0", "192.0.1.0", "192.167.255.255", "192.169.0.0", "198.17.255.255", "198.20.0.0"),
    *("223.255.255.255", "2001:200::1", "2001:4860:4860::8888", "2003::1", "2606:4700:4700::1111", "3ffe::1"),
    *("2606:4700::5eff:808:808", "::ffff:8.8.8.8"),
]


# --- URLs ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("host", HOSTS_REFUSED)
@pytest.mark.parametrize("policy", [STRICT, HTTP_TOO], ids=["https only", "http too"])
def test_no_internal_host_is_accepted_in_any_spelling(host: str, policy: EgressPolicy) -> None:
    assert why_url_blocked(f"https://{host}/", policy) is not None
    assert why_url_blocked(f"https://{host}", policy) is not None
    assert why_url_blocked(f"http://{host}/hook?x=1", policy) is not None


@pytest.mark.parametrize("url", PARSER_TRICKS_REFUSED)
def test_no_url_that_parsers_read_differently_is_accepted(url: str) -> None:
    assert why_url_blocked(url, HTTP_TOO) is not None


@pytest.mark.parametrize("port", PORTS_REFUSED)
def test_no_port_of_another_service_is_accepted(port: int) -> None:
    assert why_url_blocked(f"https://example.com:{port}/", STRICT) is BlockReason.PORT
    assert why_url_blocked(f"https://8.8.8.8:{port}/", STRICT) is BlockReason.PORT
    assert why_url_blocked(f"https://[2606:4700:4700::1111]:{port}/", STRICT) is BlockReason.PORT


@pytest.mark.parametrize("port", ["", "+443", " 443", "4_43", "٤٤٣", "0x1bb", "443.", "https", "000443", "4430000"])
def test_a_port_is_one_to_five_digits(port: str) -> None:
    assert why_url_blocked(f"https://example.com:{port}/", STRICT) is not None


@pytest.mark.parametrize("host", NAMES_REFUSED)
def test_no_host_that_is_no_valid_name_is_accepted(host: str) -> None:
    assert why_url_blocked(f"https://{host}/", STRICT) is not None


def test_a_name_may_have_253_characters() -> None:
    longest = ".".join(["a" * 60] * 3) + "." + "b" * 58 + ".example.net"
    assert len(longest) == 253
    assert why_url_blocked(f"https://{longest}/", STRICT) is None
    assert why_url_blocked(f"https://a{longest}/", STRICT) is BlockReason.HOST


@pytest.mark.parametrize("suffix", RESERVED_SUFFIXES)
def test_no_name_below_a_reserved_suffix_is_accepted(suffix: str) -> None:
    for host in (suffix, f"a.{suffix}", f"a.{suffix.upper()}.", f"a.b.{suffix}:8443"):
        assert why_url_blocked(f"https://{host}/", STRICT) is BlockReason.INTERNAL_NAME


@pytest.mark.parametrize("url", NO_URLS)
def test_what_is_no_absolute_url_is_not_accepted(url: str) -> None:
    assert why_url_blocked(url, HTTP_TOO) is not None


@pytest.mark.parametrize("url", SCHEMES_REFUSED)
def test_no_scheme_but_https_is_accepted(url: str) -> None:
    assert why_url_blocked(url, STRICT) is BlockReason.SCHEME


@pytest.mark.parametrize("url", ACCEPTED)
def test_what_customers_really_have_is_accepted(url: str) -> None:
    assert why_url_blocked(url, STRICT) is None
    assert why_url_blocked(url.replace("https://", "HTTPS://", 1), STRICT) is None


@pytest.mark.parametrize("port", [443, 1024, 3000, 8080, 8443, 9443, 49152, 65535])
def test_https_may_use_its_own_port_and_the_others_from_1024(port: int) -> None:
    assert why_url_blocked(f"https://example.com:{port}/", STRICT) is None


def test_a_url_may_have_512_characters() -> None:
    url = "https://example.com/"
    longest = url + "x" * (URL_CHARACTERS_MAX - len(url))
    assert URL_CHARACTERS_MAX == 512, "the column's width in the specification"
    assert why_url_blocked(longest, STRICT) is None
    assert why_url_blocked(longest + "x", STRICT) is BlockReason.LENGTH
    assert why_url_blocked(url + "x" * 2048, STRICT) is BlockReason.LENGTH


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("https://exämple.com/", BlockReason.INTERNATIONAL),
        ("example.com/hook", BlockReason.NOT_ABSOLUTE),
        ("ftp://example.com/", BlockReason.SCHEME),
        ("http://example.com/", BlockReason.SCHEME),
        ("https://user:pw@example.com/", BlockReason.CREDENTIALS),
        ("https://example.com/#x", BlockReason.FRAGMENT),
        ("https:///hook", BlockReason.HOST),
        ("https://a..b.com/", BlockReason.HOST),
        ("https://2130706433/", BlockReason.HOST),
        ("https://intranet/", BlockReason.INTERNAL_NAME),
        ("https://printer.local/", BlockReason.INTERNAL_NAME),
        ("https://example.com:22/", BlockReason.PORT),
        ("https://10.0.0.1/", BlockReason.ADDRESS),
        ("https://[::1]/", BlockReason.ADDRESS),
    ],
)
def test_the_reason_says_what_to_change(url: str, reason: BlockReason) -> None:
    assert why_url_blocked(url, STRICT) is reason


# --- the operator's exceptions ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("url", ["http://example.com/", "HTTP://example.com:80/x", "http://8.8.8.8:8080/"])
def test_plain_http_is_accepted_where_the_operator_allows_it(url: str) -> None:
    assert why_url_blocked(url, HTTP_TOO) is None
    assert why_url_blocked(url, STRICT) is BlockReason.SCHEME


def test_each_scheme_has_its_own_privileged_port() -> None:
    assert why_url_blocked("http://example.com:443/", HTTP_TOO) is BlockReason.PORT
    assert why_url_blocked("https://example.com:80/", HTTP_TOO) is BlockReason.PORT


@pytest.mark.parametrize("url", ["ftp://example.com/", "ws://example.com/", "http://127.0.0.1/", "http://localhost/"])
def test_allowing_http_allows_nothing_else(url: str) -> None:
    assert why_url_blocked(url, HTTP_TOO) is not None


def policy_of(allowed: str = "", denied: str = "") -> EgressPolicy:
    """A policy with comma-separated networks."""

    def networks(text: str) -> tuple[Network, ...]:
        return tuple(ip_network(part) for part in text.split(",") if part)

    return EgressPolicy(allowed_networks=networks(allowed), denied_networks=networks(denied))


@pytest.mark.parametrize(
    ("address", "allowed", "denied", "accepted"),
    [
        ("10.1.2.3", "", "", False),
        ("10.1.2.3", "10.1.0.0/16", "", True),
        ("10.2.2.3", "10.1.0.0/16", "", False),
        ("10.1.2.3", "10.1.0.0/16", "10.1.2.0/24", False),  # the narrower denial
        ("10.1.2.3", "10.1.2.3/32", "10.0.0.0/8", False),  # and the wider one
        ("10.1.2.3", "0.0.0.0/0", "", True),
        ("8.8.8.8", "", "8.8.0.0/16", False),
        ("8.8.8.8", "8.8.8.8/32", "8.8.0.0/16", False),
        ("8.8.8.8", "10.0.0.0/8", "", True),  # permissions narrow nothing
        ("8.8.8.8", "", "::/0", True),  # of the other family
        ("::1", "::1/128", "", True),
        ("::1", "127.0.0.0/8", "", False),
        ("fd00::1", "fc00::/7", "fd00::/64", False),
        ("2606:4700:4700::1111", "", "2606:4700::/32", False),
        ("::ffff:10.1.2.3", "10.1.0.0/16", "", True),  # a mapped address is the IPv4 address that is dialled
        ("::ffff:10.1.2.3", "10.1.0.0/16", "10.1.2.0/24", False),
        ("::ffff:8.8.8.8", "", "8.8.8.8/32", False),
        ("::ffff:8.8.8.8", "", "::/0", True),
        ("64:ff9b::a01:203", "10.1.0.0/16", "", False),  # but other forms that carry one are not
        ("2002:a01:203::1", "10.1.0.0/16", "", False),
    ],
)
def test_denials_win_over_permissions_and_permissions_over_the_table(
    address: str, allowed: str, denied: str, *, accepted: bool
) -> None:
    verdict = why_address_blocked(address, policy_of(allowed, denied))
    assert verdict is (None if accepted else BlockReason.ADDRESS)


@pytest.mark.parametrize(
    ("url", "accepted"),
    [
        ("https://127.0.0.1:8443/", True),
        ("https://[::1]:8443/", True),
        ("https://10.0.0.1/", False),
        ("https://127.0.0.2/", False),
        ("https://127.1/", False),  # no other spelling of what is allowed
        ("https://0x7f000001/", False),
        ("https://[::ffff:127.0.0.1]/", False),
        ("https://localhost/", False),  # a name is not an address
        ("https://127.0.0.1:22/", False),
        ("http://127.0.0.1/", False),
    ],
)
def test_permissions_and_denials_hold_for_literals_in_urls(url: str, *, accepted: bool) -> None:
    policy = policy_of("127.0.0.0/8,::1/128", "127.0.0.2/32")
    assert (why_url_blocked(url, policy) is None) is accepted


# --- addresses that are about to be dialled --------------------------------------------------------------------------


@pytest.mark.parametrize("address", IPV4_EDGES, ids=str)
def test_no_internal_ipv4_address_is_dialled_in_any_form(address: IPv4Address) -> None:
    number = int(address)
    forms = [
        address,
        IPv6Address(0xFFFF << 32 | number),  # mapped
        IPv6Address(number),  # compatible
        IPv6Address(0xFFFF << 48 | number),  # translated, RFC 2765
        IPv6Address(0x64_FF9B << 96 | number),  # NAT64
        IPv6Address(0x64_FF9B_0001 << 80 | number),  # NAT64 for local use
        IPv6Address(0x2002 << 112 | number << 80 | 1),  # 6to4
        IPv6Address(0x2001 << 112 | number << 64),  # Teredo, as the server
        IPv6Address(0x2001 << 112 | number ^ 0xFFFFFFFF),  # Teredo, as the client
        IPv6Address(0x2606_4700 << 96 | 0x5EFE << 32 | number),  # ISATAP
        IPv6Address(0x2606_4700 << 96 | 0x0200_5EFE << 32 | number),
    ]
    for form in forms:
        assert why_address_blocked(str(form), STRICT) is BlockReason.ADDRESS, form


@pytest.mark.parametrize("address", IPV6_BLOCKED)
def test_no_special_ipv6_address_is_dialled(address: str) -> None:
    assert why_address_blocked(address, STRICT) is BlockReason.ADDRESS
    assert why_url_blocked(f"https://[{address}]/", STRICT) is BlockReason.ADDRESS


@pytest.mark.parametrize("address", PUBLIC)
def test_a_public_address_is_dialled(address: str) -> None:
    assert why_address_blocked(address, STRICT) is None


@pytest.mark.parametrize(
    "text",
    ["", "example.com", "127.1", "0x7f.0.0.1", "8.8.8.8 ", "8.8.8", "08.8.8.8", "[2606:4700:4700::1111]", "8.8.8.8/32"],
)
def test_what_is_no_address_is_not_dialled(text: str) -> None:
    assert why_address_blocked(text, policy_of("0.0.0.0/0,::/0")) is BlockReason.ADDRESS


@pytest.mark.parametrize("text", ["fe80::1%eth0", "2606:4700:4700::1111%1", "::ffff:8.8.8.8%1"])
def test_an_address_with_a_zone_is_not_dialled_even_where_all_are_allowed(text: str) -> None:
    assert why_address_blocked(text, policy_of("0.0.0.0/0,::/0")) is BlockReason.ADDRESS


@given(st.ip_addresses(v=4))
def test_every_ipv4_address_is_either_in_the_table_or_dialled(address: IPv4Address) -> None:
    in_table = any(address in IPv4Network(network) for network in IPV4_BLOCKED)
    assert (why_address_blocked(str(address), STRICT) is not None) is in_table
    assert why_url_blocked(f"https://{address}/", STRICT) is why_address_blocked(str(address), STRICT)


@given(st.ip_addresses(v=6))
def test_no_ipv6_address_outside_of_2000_3_is_dialled(address: IPv6Address) -> None:
    if address not in IPv6Network("2000::/3") and address.ipv4_mapped is None:
        assert why_address_blocked(str(address), STRICT) is BlockReason.ADDRESS


# --- whatever is accepted --------------------------------------------------------------------------------------------

octets = st.one_of(
    st.integers(0, 300).map(str), st.integers(0, 255).map(hex), st.integers(0, 255).map(lambda number: f"0{number:o}")
)
public_hosts = st.one_of(
    st.sampled_from(["example.com", "EXAMPLE.com.", "xn--bcher-kva.example.net", "8.8.8.8", "[2606:4700:4700::1111]"]),
    st.lists(st.text("aZ0", min_size=1, max_size=4), min_size=2, max_size=4).map(".".join),
    st.ip_addresses(v=4).map(str),
    st.ip_addresses(v=6, network="2600::/12").map(lambda address: f"[{address}]"),
)
odd_hosts = st.one_of(
    st.sampled_from([*HOSTS_REFUSED, *NAMES_REFUSED]),
    st.lists(octets, min_size=1, max_size=5).map(".".join),
    st.lists(st.text("aZ0-_xX1", min_size=1, max_size=4), min_size=1, max_size=4).map(".".join),
    st.ip_addresses(v=6).map(lambda address: f"[{address}]"),
    st.integers(0, 2**32).map(str),
)
noise = st.sampled_from(
    ["@", ":", ".", "%", "\\", "#", "?", "/", "[", "]", "//", ":443", ":8443", "@8.8.8.8", "0x", "\t"]
)
ports = st.sampled_from(["", "", ":443", ":8443", ":0443", ":80", ":22", ":99999"])
paths = st.sampled_from(["", "/", "/a@b", "/?x=@127.0.0.1", "?x", "/:80/", "//127.0.0.1/", "/%2e%2e/"])
urls = st.one_of(
    st.builds("https://{}{}{}".format, public_hosts, ports, paths),
    st.builds("HTTPS://{}{}{}".format, odd_hosts, ports, paths),
    st.builds("https://{}{}{}{}{}".format, noise, public_hosts, ports, noise, paths),
    st.builds("https://{}{}{}{}".format, public_hosts, noise, odd_hosts, paths),
)


@settings(max_examples=500)
@given(urls)
def test_whatever_url_is_accepted_other_parsers_see_the_same_public_host(url: str) -> None:
    if why_url_blocked(url, STRICT) is not None:
        return
    parts = urlsplit(url)
    assert parts.scheme == "https"
    assert parts.username is None
    assert parts.password is None
    assert parts.hostname is not None
    assert url.lower().startswith(f"https://{parts.hostname}") or url.lower().startswith(f"https://[{parts.hostname}]")
    assert parts.port is None or parts.port == 443 or parts.port >= 1024
    try:
        dialled = socket.inet_ntoa(
            socket.inet_aton(parts.hostname)
        )  # the reading of C, which takes 127.1 and 0x7f000001
    except OSError:
        dialled = parts.hostname if ":" in parts.hostname else None
    if dialled is not None:
        assert parts.hostname == dialled, "an address has one spelling"
        assert why_address_blocked(dialled, STRICT) is None


# --- names that the operator allows ----------------------------------------------------------------------------------

ALLOWING = EgressPolicy(allow_http=True, allowed_hosts=("receiver", "hooks.internal", "*.svc.cluster.local"))


@pytest.mark.parametrize(
    ("host", "is_accepted"),
    [
        ("receiver", True),
        ("RECEIVER", True),
        ("receiver.", True),
        ("receiver2", False),
        ("a.receiver.internal", False),
        ("hooks.internal", True),
        ("other.internal", False),
        ("shop.prod.svc.cluster.local", True),
        ("shop.prod.svc.cluster.local.", True),
        ("svc.cluster.local", False),
        ("xsvc.cluster.local", False),
        ("shop.svc.cluster.local.evil.local", False),
        ("hooks.example.com", True),
        ("127.0.0.1", False),
        ("10.0.0.1", False),
    ],
)
def test_an_internal_name_is_accepted_exactly_if_the_operator_allows_it(host: str, *, is_accepted: bool) -> None:
    assert (why_url_blocked(f"http://{host}/", ALLOWING) is None) is is_accepted
    if host != "hooks.example.com":
        assert why_url_blocked(f"http://{host}/", HTTP_TOO) is not None


PRIVATE = ["10.1.2.3", "172.16.0.1", "192.168.1.1", "100.64.0.1", "fd00::1", "::ffff:10.1.2.3"]
NEVER_BY_NAME = [
    *("127.0.0.1", "::1", "169.254.169.254", "fe80::1", "0.0.0.0", "224.0.0.1", "168.63.129.16"),  # noqa: S104
    *("192.0.0.192", "100.100.100.200", "fd00:ec2::254", "fd20:ce::254", "64:ff9b::a9fe:a9fe"),
    *("fd00:c1::a9fe:a9fe", "fd00:42::42", "fd00:a9fe:a9fe::1", "fd00:100::100:200", "fd00::5efe:a9fe:a9fe"),
]


@pytest.mark.parametrize("address", PRIVATE)
def test_a_name_that_is_allowed_may_lead_to_a_private_address_and_others_may_not(address: str) -> None:
    assert why_address_blocked(address, policy_for("receiver", ALLOWING)) is None
    assert why_address_blocked(address, policy_for("hooks.example.com", ALLOWING)) is BlockReason.ADDRESS


@pytest.mark.parametrize("address", NEVER_BY_NAME)
def test_a_name_that_is_allowed_leads_to_metadata_and_this_machine_only_if_their_network_is_too(address: str) -> None:
    assert why_address_blocked(address, policy_for("receiver", ALLOWING)) is BlockReason.ADDRESS
    both = EgressPolicy(allowed_hosts=("receiver",), allowed_networks=(ip_network(address),))
    assert why_address_blocked(address, policy_for("receiver", both)) is None


def test_what_the_operator_denies_stays_denied_to_names_that_are_allowed() -> None:
    policy = EgressPolicy(allowed_hosts=("receiver",), denied_networks=(IPv4Network("10.0.0.0/8"),))
    assert why_address_blocked("10.1.2.3", policy_for("receiver", policy)) is BlockReason.ADDRESS


@pytest.mark.parametrize("entry", ["receiver", "hooks.internal", "*.svc.cluster.local", "*.internal", "a_b", "*.b.com"])
def test_what_may_be_allowed(entry: str) -> None:
    assert why_bad_allowed_host(entry) is None


@pytest.mark.parametrize(
    ("entry", "says"),
    [
        ("10.0.0.1", "WEBHOOK_EGRESS_ALLOW_CIDRS"),
        ("::1", "WEBHOOK_EGRESS_ALLOW_CIDRS"),
        ("0x7f", "WEBHOOK_EGRESS_ALLOW_CIDRS"),
        ("https://receiver", "WEBHOOK_EGRESS_ALLOW_CIDRS"),
        ("receiver/hook", "without scheme"),
        ("*", "without scheme"),
        ("*.", "without scheme"),
        ("a.*.b", "without scheme"),
        ("*.com", "top-level"),
        ("b\u00fccher.internal", "xn--bcher-kva.internal"),
        ("", "without scheme"),
    ],
)
def test_what_may_not_be_allowed_is_said_in_a_sentence(entry: str, says: str) -> None:
    assert says in (why_bad_allowed_host(entry) or "")


# --- international names ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("https://b\u00fccher.example/hook", "xn--bcher-kva.example"),
        ("https://B\u00dcCHER.example:8443", "xn--bcher-kva.example"),
        ("https://stra\u00dfe.de/", "xn--strae-oqa.de"),  # IDNA 2003 made another name of it
        ("https://\u4f8b\u3048.jp?x", "xn--r8jz45g.jp"),
        ("https://example.com/b\u00fccher", None),
        ("https://\uff11\uff12\uff17.0.0.1/", None),
        ("https://user@b\u00fccher.example/", None),
        ("https://\ud800.example/", None),
        ("ftp://b\u00fccher.example/", None),
    ],
)
def test_the_ascii_form_of_an_international_name(url: str, expected: str | None) -> None:
    assert punycode_of(url) == expected
    assert why_url_blocked(url, STRICT) is not None


@pytest.mark.parametrize(
    ("url", "host"),
    [
        ("https://hooks.example.com/", "hooks.example.com"),
        ("https://HOOKS.Example.com.:8443/a?b", "hooks.example.com"),
        ("https://xn--bcher-kva.example/", "xn--bcher-kva.example"),
        ("http://203.0.113.9/", "203.0.113.9"),
        ("https://[2606:2800::1]/", "2606:2800::1"),
        ("https://[2606:2800:0000:0:0:0:0:01]:8443/", "2606:2800::1"),
        ("https://[2606:2800::A]/", "2606:2800::a"),
        ("https://[::ZZ]/", "::zz"),
        ("nowhere", ""),
    ],
)
def test_a_host_has_one_spelling_however_a_url_writes_it(url: str, host: str) -> None:
    assert host_of(url) == host
