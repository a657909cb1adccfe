"""A receiver to try things with: prints each request, and whether both of its signatures are right.

python examples/receiver.py [port] [secret]
"""

from __future__ import annotations

import hashlib
import hmac
import sys

from aiohttp import web
from standardwebhooks.webhooks import Webhook, WebhookVerificationError

PORT = int(sys.argv[1]) if len(sys.argv) > 1 else 8090
SECRET = sys.argv[2] if len(sys.argv) > 2 else "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="


def verify_body_signature(headers: dict[str, str], body: bytes) -> bool:
    """X-Webhook-Signature: an HMAC over the body, compared in constant time."""
    expected = "sha256=" + hmac.new(SECRET.encode(), body, hashlib.sha256).hexdigest()
    return hmac.compare_digest(expected.encode(), headers.get("X-Webhook-Signature", "").encode())


def verify_standard_signature(headers: dict[str, str], body: bytes) -> bool:
    """Standard Webhooks: id, time and body are signed together, and the time must be recent."""
    try:
        Webhook(SECRET if SECRET.startswith("whsec_") else SECRET.encode()).verify(body, headers)
    except WebhookVerificationError:
        return False
    return True


async def receive(request: web.Request) -> web.Response:
    """Answers 200 if the request is genuine, 401 otherwise."""
    body, headers = await request.read(), dict(request.headers)
    is_genuine = verify_body_signature(headers, body) and verify_standard_signature(headers, body)
    verdict = "both signatures are right" if is_genuine else "NOT GENUINE"
    print(f"{request.path} {headers.get('webhook-id')} {body.decode()} ({verdict})", flush=True)
    return web.Response(status=200 if is_genuine else 401)


if __name__ == "__main__":
    app = web.Application()
    app.router.add_post("/{path:.*}", receive)
    try:
        web.run_app(app, host="127.0.0.1", port=PORT)
    except OSError as error:
        sys.exit(f"receiver: {error.strerror}")
