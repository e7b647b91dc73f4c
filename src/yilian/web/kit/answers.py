"""Answers kept for repeats: the same `Idempotency-Key` gives the same answer, another request under it a conflict."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable
from typing import Protocol

import msgspec

from yilian.errors import ConflictError, SettingsError

DAY_MS = 86_400_000
MAX_KEY = 128


class Kept(msgspec.Struct, frozen=True, kw_only=True):
    """An answer as it was given."""

    request: bytes
    """SHA-256 of the request."""
    status: int
    body: bytes


class Memory(Protocol):
    """Where answers are kept for a day; the caller's institution and key are part of `key_hash`."""

    def find_answer(self, key_hash: bytes) -> Kept | None:
        """Give the answer kept under a key, or None."""
        ...

    def keep_answer(self, key_hash: bytes, kept: Kept) -> None:
        """Keep an answer, durably."""
        ...


class Once:
    """Does each request under one key once, also when it comes twice at the same time."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._at_work: set[bytes] = set()

    def answer(
        self, memory: Memory, *, key: str | None, owner: bytes, request: bytes, work: Callable[[], tuple[int, bytes]]
    ) -> tuple[int, bytes]:
        """Give the kept answer of a repeat, else do the work and keep what it answers; errors are not kept.

        Raises:
            ConflictError: the key stands for another request, or for one at work right now.
            SettingsError: the key is empty or longer than 128 characters.
        """
        if key is None:
            return work()
        if not 1 <= len(key) <= MAX_KEY:
            raise SettingsError(f"Idempotency-Key has {len(key)} characters, expected 1 to {MAX_KEY}: shorten it")
        name = hashlib.sha256(owner + b"\0" + key.encode()).digest()
        digest = hashlib.sha256(request).digest()
        with self._lock:
            if name in self._at_work:
                raise ConflictError("a request with this Idempotency-Key is at work: wait for its answer")
            self._at_work.add(name)
        try:
            kept = memory.find_answer(name)
            if kept is not None:
                if kept.request != digest:
                    raise ConflictError(
                        "this Idempotency-Key was used for another request: take a new key for a new request"
                    )
                return kept.status, kept.body
            status, body = work()
            memory.keep_answer(name, Kept(request=digest, status=status, body=body))
            return status, body
        finally:
            with self._lock:
                self._at_work.discard(name)
