"""API keys: what a caller shows, and how it is recognised. The token itself is nowhere kept, only its SHA-256."""

from __future__ import annotations

import hashlib
import hmac
import secrets

from yilian.web.kit.problems import Unauthenticated

PREFIX = "yk_"
SCHEME = "bearer "


def new_token() -> str:
    """Draw a token of 256 random bits; it is shown once."""
    return PREFIX + secrets.token_urlsafe(32)


def token_hash(token: str) -> bytes:
    """Give what is kept of a token: SHA-256 of its bytes."""
    return hashlib.sha256(token.encode()).digest()


def is_same(shown: bytes, kept: bytes) -> bool:
    """Compare two hashes in a time that says nothing about them."""
    return hmac.compare_digest(shown, kept)


def bearer(header: str | None) -> bytes:
    """Give the hash of the token in an `Authorization: Bearer …` header.

    Raises:
        Unauthenticated: there is none, or it has another form.
    """
    if header is None or not header.lower().startswith(SCHEME):
        raise Unauthenticated("no API key came along, expected `Authorization: Bearer <token>`: send one")
    token = header[len(SCHEME) :].strip()
    if not 16 <= len(token) <= 256 or not token.isascii():
        raise Unauthenticated("the API key has another form than a token: send the one you were given")
    return token_hash(token)
