"""Where a process has its credentials from: the keys that secrets are sealed with, and the tokens of callers."""

from __future__ import annotations

import base64
import os

import orjson
from pydantic import TypeAdapter, ValidationError

from webhook_grpc.domain.sealing import KEY_BYTES
from webhook_grpc.settings import Settings, SettingsError, Token, decode_secret_key, problems_of


def load_tokens(settings: Settings) -> tuple[Token, ...]:
    """Returns the configured tokens. Raises SettingsError."""
    path = settings.tokens_file
    if path is None:
        return settings.tokens
    try:
        parsed = orjson.loads(path.read_bytes())
        return settings.tokens + TypeAdapter(tuple[Token, ...]).validate_python(parsed)
    except OSError as error:
        raise SettingsError(f"WEBHOOK_TOKENS_FILE: {path} cannot be read: {error.strerror or error}") from None
    except orjson.JSONDecodeError as error:
        raise SettingsError(f"WEBHOOK_TOKENS_FILE: {path} must hold a JSON list: {error}") from None
    except ValidationError as error:
        raise SettingsError(problems_of(error, f"WEBHOOK_TOKENS_FILE, {path}")) from None


def load_secret_keys(settings: Settings, embedded: bool) -> list[bytes]:
    """Returns the keys that webhook secrets are sealed with. Raises SettingsError.

    With the embedded database a key is made at the first start, unless one is configured.
    """
    texts = [key.get_secret_value() for key in settings.secret_keys]
    path = settings.secret_keys_file
    if embedded and not texts and path is None:
        path = settings.data_dir / "secret.key"
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch(mode=0o600)
            path.write_text(new_secret_key() + "\n")
    try:
        texts += path.read_text().split() if path is not None else []
        keys = [decode_secret_key(text) for text in texts]
    except (OSError, ValueError) as error:
        raise SettingsError(f"WEBHOOK_SECRET_KEYS_FILE: {path} cannot be used: {error}") from None
    if not keys:
        raise SettingsError(f"WEBHOOK_SECRET_KEYS_FILE: {path} holds no key")
    return keys


def new_secret_key() -> str:
    """Returns a new key in the form of the settings."""
    return base64.b64encode(os.urandom(KEY_BYTES)).decode("ascii")
