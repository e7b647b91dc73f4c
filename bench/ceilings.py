"""L0: what this machine can do at all. Measured before and after everything else: it may change under our feet."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

from bench.report import Measurement, measured, rate
from bench.world import World
from yilian.crypto import cose
from yilian.crypto.suite import SuiteId, verify
from yilian.ledger import envelope

SECONDS = 1.0
BATCH = 200


def verify_rate(world: World, seconds: float = SECONDS) -> float:
    """Measure Ed25519 verifications a second of a transaction's envelope, on this core, as the ledger does them."""
    parsed = envelope.parse(world.transaction([world.publication(0)]), world.registry.command_types)
    message = cose.to_be_signed(parsed.sign1.protected, parsed.sign1.payload, envelope.TX_TAG)
    key, signature = world.party.gateway.public_key, parsed.sign1.signature

    def step() -> int:
        for _ in range(BATCH):
            if not verify(SuiteId.INTL, key, message, signature):
                raise AssertionError("the signature holds")
        return BATCH

    return rate(step, seconds)


def hash_rate(seconds: float = SECONDS) -> float:
    """Measure SHA-256 of 65 bytes a second, on this core."""
    node = bytes(65)

    def step() -> int:
        for _ in range(BATCH):
            sha256(node).digest()
        return BATCH

    return rate(step, seconds)


def sync_rate(seconds: float = SECONDS) -> float:
    """Measure writes of 4 KiB with fdatasync a second, in the temporary folder."""
    with tempfile.TemporaryDirectory() as folder:
        descriptor = os.open(Path(folder) / "sync", os.O_WRONLY | os.O_CREAT, 0o600)
        try:

            def step() -> int:
                os.pwrite(descriptor, bytes(4096), 0)
                os.fdatasync(descriptor)
                return 1

            return rate(step, seconds)
        finally:
            os.close(descriptor)


def measure(moment: str) -> Iterator[Measurement]:
    """Give the ceilings at one moment, `before` or `after`."""
    world = World(10)
    yield measured(f"L0 Ed25519 verify, one core, {moment}", verify_rate(world), "verify/s")
    yield measured(f"L0 SHA-256 of 65 bytes, one core, {moment}", hash_rate(), "hash/s")
    yield measured(f"L0 write + fdatasync of 4 KiB, {moment}", sync_rate(), "sync/s")
