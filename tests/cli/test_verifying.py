"""`verify` finds the mistake behind a wrong signature: each of those that people make, and never one that is none."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from webhook_grpc.domain import signing
from webhook_grpc.domain.envelope import render_body
from webhook_grpc_cli.verifying.findings import Clock, Finding, findings, is_right
from webhook_grpc_cli.verifying.requests import HeaderMalformed, Received, parsed_headers
from webhook_grpc_cli.verifying.sent import difference, hint_of, secret_difference, sent_body
from webhook_grpc_client import SignatureInvalid, verify_body_signature, verify_signature

pytestmark = pytest.mark.fast

NEW, OLD = "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=", "free text of a customer"
SLASHES = signing.secret_from_key(b"\xff\xfe\xfb" * 10)
AT = 1_764_450_000
ID, OTHER_ID = "evt_01jd8zq4v6e3m0k9x2h7t5n8cw", "evt_01jd8zr1m2p5b8s0v3x6n9q4tk"
DELIVERY = "dlv_01jd8zq4v6e3m0k9x2h7t5n8cw_12"
BODY = render_body("job.done", AT, '{"name": "Zoë", "lines": [1, 2]}'.encode())[0]
TIGHT = render_body("job.done", AT, '{"name":"Zoë","lines":[1,2]}'.encode())[0]


def signed(*secrets: str, body: bytes = BODY) -> dict[str, str]:
    headers = signing.signature_headers(list(map(signing.SigningKey, secrets)), ID, AT, body)
    return {name.lower(): value for name, value in headers.items()} | {"x-webhook-delivery": DELIVERY}


def both(
    headers: Mapping[str, str], *secrets: str, body: bytes = BODY, age: float = 12, tolerance: float = 300
) -> tuple[Finding, Finding]:
    standard, of_body = findings(Received(headers, body), secrets or (NEW,), Clock(AT + age, tolerance))
    return standard, of_body


def test_a_genuine_request_is_right_and_its_age_is_said() -> None:
    for secret in (NEW, OLD):
        standard, of_body = both(signed(secret), secret)
        assert (standard.state, standard.detail, of_body.state) == ("right", "12 s old", "right")
        assert not standard.causes
        assert is_right((standard, of_body))


@pytest.mark.parametrize(
    ("changed", "sent", "cause"),
    [
        (BODY + b"\n", BODY, "final newline was added"),
        (BODY, BODY + b"\n", "lost its final newline"),
        (json.dumps(json.loads(TIGHT)).encode(), TIGHT, "parsed and written again"),
        (json.dumps(json.loads(BODY), indent=2, sort_keys=True).encode(), BODY, "parsed and written again"),
        (json.dumps(json.loads(BODY), separators=(",", ":")).encode(), BODY, "parsed and written again"),
        (b'{"a":1,\r\n"b":2}', b'{"a":1,\n"b":2}', "changed to CRLF"),
        (b'{"a":1,\n"b":2}', b'{"a":1,\r\n"b":2}', "changed from CRLF"),
        (b"\xef\xbb\xbf" + BODY, BODY, "BOM"),
        (b"\xef\xbb\xbf" + BODY + b"\r\n", BODY, "BOM"),
        (base64.b64encode(BODY), BODY, "in base64"),
    ],
)
def test_a_changed_body_is_explained_by_both_signatures(changed: bytes, sent: bytes, cause: str) -> None:
    for finding in both(signed(NEW, body=sent), body=changed):
        assert finding.state == "wrong"
        assert cause in " ".join(finding.causes)


def test_json_whose_bytes_cannot_be_found_again_is_still_named() -> None:
    sent = render_body("job.done", AT, b'{"price":1.50,"n":1}')[0]
    for finding in both(signed(NEW, body=sent), body=json.dumps(json.loads(sent)).encode()):
        assert "parsed and written again" in " ".join(finding.causes)


@pytest.mark.parametrize(
    ("used", "registered", "cause"),
    [
        (f" {NEW}\n", NEW, "blanks"),
        (f'"{NEW}"', NEW, "quotes"),
        (f"{OLD}  ", OLD, "blanks"),
        (NEW.removeprefix("whsec_"), NEW, "lost its first characters, `whsec_`"),
        (SLASHES.replace("+", "-").replace("/", "_"), SLASHES, "URL-safe"),
        (NEW.rstrip("="), NEW, "lost the `=`"),
        (f"v1,{NEW}", NEW, "belongs to signatures"),
        (base64.b64encode(OLD.encode()).decode(), OLD, "text in base64"),
    ],
)
def test_a_secret_that_was_copied_wrongly_is_recognized(used: str, registered: str, cause: str) -> None:
    for finding in both(signed(registered), used):
        assert finding.state == "wrong"
        assert cause in " ".join(finding.causes)


def test_a_body_and_a_secret_that_are_both_wrong_are_both_named() -> None:
    standard, _ = both(signed(NEW), NEW.removeprefix("whsec_"), body=BODY + b"\n")
    assert "`whsec_`" in standard.causes[0]
    assert "final newline" in standard.causes[1]


def test_the_secret_before_a_rotation_is_recognized() -> None:
    standard, of_body = both(signed(NEW, OLD), OLD)
    assert (standard.state, of_body.state) == ("right", "right")
    assert "the one before the rotation" in standard.causes[0]
    standard, of_body = both(signed(NEW, OLD), NEW)
    assert (standard.state, of_body.state) == ("right", "wrong")
    assert "the one before the rotation" in of_body.causes[0]
    standard, of_body = both(signed(OLD), NEW, OLD)
    assert (standard.state, of_body.state) == ("right", "right")
    assert "Secret 2" in standard.causes[0]


def test_an_id_or_a_time_or_a_signature_of_another_request_is_recognized() -> None:
    standard, of_body = both({**signed(NEW), "webhook-id": OTHER_ID})
    assert "webhook-id is that of another request" in standard.causes[0]
    assert of_body.state == "right"
    standard, _ = both({**signed(NEW), "webhook-timestamp": str(AT + 1800)})
    assert standard.causes == (f"The webhook-timestamp is that of another request: {AT} was signed, 30 min earlier.",)
    standard, _ = both({**signed(NEW), "webhook-signature": signed(NEW, body=b"{}")["webhook-signature"]})
    assert standard.causes[0].startswith("Body and secret are right")


def test_milliseconds_are_recognized_whatever_was_signed() -> None:
    headers = {**signed(NEW), "webhook-timestamp": f"{AT}000"}
    assert "milliseconds" in both(headers)[0].causes[0]
    made = signing.SigningKey(NEW).standard(f"{ID}.{AT}123.".encode() + BODY)
    assert "milliseconds" in both({**headers, "webhook-timestamp": f"{AT}123", "webhook-signature": made})[0].causes[0]


def test_what_is_genuine_but_old_or_from_the_future_is_said_to_be_genuine() -> None:
    standard, of_body = both(signed(NEW), age=420)
    assert (standard.state, standard.detail) == ("old", "7 min old")
    assert standard.causes[0].startswith("Genuine, but older")
    assert not is_right((standard, of_body))
    assert both(signed(NEW), age=420, tolerance=600)[0].state == "right"
    assert "clock of this machine" in both(signed(NEW), age=-301)[0].causes[0]


def test_a_value_that_was_made_with_the_wrong_form_of_the_key_is_explained() -> None:
    whole, bare = f"whsec_{base64.b64encode(NEW.encode()).decode()}", NEW.removeprefix("whsec_")
    made = signed(whole)["webhook-signature"]
    assert "the whole text as key" in both({**signed(NEW), "webhook-signature": made})[0].causes[0]
    made = signing.SigningKey(bare).of_body(BODY)
    assert (
        "`whsec_` included: this value was made without it"
        in both({**signed(NEW), "x-webhook-signature": made})[1].causes[0]
    )


@pytest.mark.parametrize(
    ("headers", "cause"),
    [
        ({"webhook-id": ""}, "has no webhook-id"),
        ({"webhook-id": "", "webhook-timestamp": ""}, "no webhook-id and no webhook-timestamp"),
        ({"webhook-timestamp": "soon"}, "not a number"),
        ({"webhook-timestamp": "9" * 5000}, "not a number"),
        ({"webhook-signature": "v2,AAAA v1a,AAAA"}, "of version v2"),
        ({"webhook-signature": "sha256=00"}, "value of X-Webhook-Signature"),
        ({"webhook-signature": "t=1,v1=00"}, "not `v1,` and base64"),
        ({"webhook-signature": "v1,ä"}, "Body and secret are right"),
    ],
)
def test_headers_that_are_missing_or_malformed_are_named(headers: dict[str, str], cause: str) -> None:
    standard, of_body = both({**signed(NEW), **headers})
    assert (standard.state, of_body.state) == ("wrong", "right")
    assert cause in standard.causes[0]


def test_one_signature_is_enough_and_none_is_not() -> None:
    headers = signed(NEW)
    del headers["x-webhook-signature"]
    assert is_right(both(headers))
    assert not is_right(both({}))
    with pytest.raises(ValueError, match="no secret"):
        findings(Received(headers, BODY), [], Clock(AT))


def test_another_secret_is_said_to_be_another() -> None:
    for secret in ("whsec_" + base64.b64encode(bytes(24)).decode(), f"{NEW[:12]}…{NEW[-5:]}"):
        for finding in both(signed(NEW), secret):
            assert finding.causes[0].startswith("Another secret, or another body")


@settings(max_examples=30)
@given(
    secret=st.sampled_from([NEW, OLD, SLASHES, NEW[:-1], f"{NEW} ", "whsec_!", f"{NEW[:12]}…"]),
    body=st.sampled_from([BODY, BODY + b"\n", b"", b"[]", b"\xff{"]),
    change=st.dictionaries(
        st.sampled_from(["webhook-id", "webhook-timestamp", "webhook-signature", "x-webhook-signature"]),
        st.text(max_size=20) | st.sampled_from([str(AT + 400), f"{AT}000", "v1,AAAA", "sha256=00"]),
        max_size=2,
    ),
)
def test_right_means_that_the_client_accepts_it(secret: str, body: bytes, change: dict[str, str]) -> None:
    headers = {**signed(NEW), **change}
    standard, of_body = both(headers, secret, body=body)
    try:
        verify_signature(headers, body, secrets=[secret], now=AT + 12)
        is_genuine = True
    except (SignatureInvalid, ValueError):
        is_genuine = False
    assert (standard.state == "right") == is_genuine
    try:
        verify_body_signature(headers, body, secrets=[secret])
        is_genuine = True
    except (SignatureInvalid, ValueError):
        is_genuine = secret == "whsec_!" and of_body.state == "right"
    assert (of_body.state == "right") == is_genuine


def test_headers_are_read_from_what_people_save() -> None:
    saved = "> POST /hook HTTP/1.1\r\n> Webhook-Id: evt_1\r\n>\r\nX-Webhook-Signature:sha256=0\n\nhost: a:80\n"
    assert parsed_headers(saved.splitlines()) == {
        "webhook-id": "evt_1",
        "x-webhook-signature": "sha256=0",
        "host": "a:80",
    }
    with pytest.raises(HeaderMalformed, match="is no header"):
        parsed_headers(["webhook-id evt_1"])


def test_the_first_byte_that_differs_from_what_was_sent_is_named() -> None:
    sent = sent_body("job.done", AT, '{"name": "Zoë", "lines": [1, 2]}')
    assert sent == BODY
    assert difference(BODY, sent) == ""
    assert difference(BODY.replace(b"done", b"d\x1bne"), sent).startswith("The body differs from byte 15 on: you have ")
    assert "1 more bytes" in difference(BODY + b"\x1b", sent)
    assert "\x1b" not in difference(BODY + b"\x1b", sent)
    assert f"ends at byte {len(BODY) - 2}" in difference(BODY[:-2], sent)


@pytest.mark.parametrize("secret", [NEW, OLD, "x", "four", "seven77", "äöü" * 40])
def test_the_end_of_a_secret_is_shown_as_the_service_shows_it(secret: str) -> None:
    assert hint_of(secret) == signing.hint_of(secret)


def test_a_secret_is_compared_by_its_end() -> None:
    assert secret_difference(NEW, 12, hint_of(NEW)) == ""
    assert secret_difference(OLD, 12, hint_of(NEW)) == "Another secret: you use …omer, webhook 12 has …Hh8=."
