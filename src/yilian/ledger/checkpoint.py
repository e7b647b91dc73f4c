"""Checkpoints: what the newest block says of log and state, as a signed note that witnesses cosign. Pure.

Text (C2SP tlog-checkpoint; the last three lines are extension lines)::

    yilian/<chain, 64 hexadecimal digits>
    <log size>
    <log root, base64>
    app <app hash, base64>
    height <height>
    time <block time, milliseconds>

A note is the text, an empty line and signature lines `— <name> <base64 of 4-byte key hash ‖ signature>` (C2SP
signed-note). The sequencer signs the text itself under the origin as name; a witness signs, under its institution's id
as name, the time of its own clock and the text: as LOG (C2SP tlog-cosignature: it saw only consistent extensions) or
as EXECUTED (it executed every block up to this app hash, and its clock was within 30 s of the block time).
"""

from __future__ import annotations

import base64
import binascii
import re
from enum import IntEnum
from hashlib import sha256
from typing import Final

import msgspec

from yilian.crypto.suite import Signer, SuiteId, verify
from yilian.errors import VerificationError
from yilian.values import MAX_INT, Digest, InstitutionId, PublicKey, UnixMillis, digest, unix_millis

MAX_NOTE: Final = 64 << 10
CLOCK_TOLERANCE: Final = 30_000
"""Milliseconds that a block time may be off the clock of a witness that cosigns as EXECUTED."""
_NUMBER = re.compile(r"0|[1-9][0-9]{0,18}")
_EXECUTED_ID = b"yilian/executed/v1"


class SignatureKind(IntEnum):
    """What a signature line says; the numbers are C2SP's signature types, 0xff stands for types with a name."""

    LOG_KEY = 0x01
    """The sequencer: this is the checkpoint of my log (Ed25519)."""
    LOG = 0x04
    """A witness: consistent with everything that I have seen (cosignature/v1)."""
    EXECUTED = 0xFF
    """A witness: I executed it, and its time is right (yilian/executed/v1)."""


class Checkpoint(msgspec.Struct, frozen=True, kw_only=True):
    """Where a chain stands after a block."""

    chain: Digest
    log_size: int
    log_root: Digest
    app_hash: Digest
    height: int
    time: UnixMillis

    def text(self) -> str:
        """Give the text that is signed."""
        return (
            f"{origin(self.chain)}\n{self.log_size}\n{_base64(self.log_root)}\n"
            f"app {_base64(self.app_hash)}\nheight {self.height}\ntime {self.time}\n"
        )


class SignatureLine(msgspec.Struct, frozen=True):
    """One signature line. `body` is the signature; a witness's begins with 8 bytes of its time in seconds."""

    name: str
    key_hash: bytes
    body: bytes


class Note(msgspec.Struct, frozen=True):
    """A checkpoint with its signature lines."""

    checkpoint: Checkpoint
    lines: tuple[SignatureLine, ...]

    def encode(self) -> bytes:
        """Give the bytes of the note."""
        lines = "".join(f"— {line.name} {_base64(line.key_hash + line.body)}\n" for line in self.lines)
        return f"{self.checkpoint.text()}\n{lines}".encode()


def origin(chain: Digest) -> str:
    """Give the first line of every checkpoint of a chain, under which its sequencer signs."""
    return f"yilian/{chain.hex()}"


def parse_note(data: bytes) -> Note:
    """Decode a note strictly: the only encoding of what it says.

    Raises:
        VerificationError: too long, no note of a checkpoint, or another encoding of one.
    """
    if len(data) > MAX_NOTE:
        raise VerificationError(f"a note of {len(data)} bytes, expected at most {MAX_NOTE}: ask for a shorter one")
    try:
        text, _, signatures = data.decode().partition("\n\n")
        first, size, root, app, height, time = text.split("\n")
        checkpoint = Checkpoint(
            chain=digest(bytes.fromhex(first.removeprefix("yilian/"))),
            log_size=_number(size),
            log_root=digest(_bytes(root)),
            app_hash=digest(_bytes(app.removeprefix("app "))),
            height=_number(height.removeprefix("height ")),
            time=unix_millis(_number(time.removeprefix("time "))),
        )
        note = Note(checkpoint, tuple(_line(line) for line in signatures.split("\n")[:-1]))
    except (ValueError, UnicodeDecodeError) as error:
        raise VerificationError(f"{len(data)} bytes are no checkpoint note ({error}): fetch it again") from error
    if note.encode() != data:
        raise VerificationError(f"a note of {len(data)} bytes is not in its only encoding: fetch it again")
    return note


def sign(checkpoint: Checkpoint, sequencer: Signer) -> SignatureLine:
    """Sign as the sequencer."""
    name = origin(checkpoint.chain)
    hashed = key_hash(name, SignatureKind.LOG_KEY, sequencer.public_key)
    return SignatureLine(name, hashed, sequencer.sign(checkpoint.text().encode()))


def cosign(
    checkpoint: Checkpoint, kind: SignatureKind, witness: Signer, *, institution: InstitutionId, now: UnixMillis
) -> SignatureLine:
    """Sign as a witness, with the time of its clock. Whether it may is `witnessing`'s to judge."""
    seconds = now // 1000
    name = institution.hex()
    signature = witness.sign(cosigned(checkpoint, kind, seconds))
    return SignatureLine(name, key_hash(name, kind, witness.public_key), seconds.to_bytes(8, "big") + signature)


def cosigned(checkpoint: Checkpoint, kind: SignatureKind, seconds: int) -> bytes:
    """Give the bytes that a witness signs."""
    head = "cosignature/v1" if kind == SignatureKind.LOG else _EXECUTED_ID.decode()
    return f"{head}\ntime {seconds}\n{checkpoint.text()}".encode()


def key_hash(name: str, kind: SignatureKind, public_key: bytes) -> bytes:
    """Give the 4 bytes by which a line names its key and what it says (C2SP signed-note)."""
    identifier = bytes((kind,)) + (_EXECUTED_ID if kind == SignatureKind.EXECUTED else b"")
    return sha256(name.encode() + b"\n" + identifier + public_key).digest()[:4]


def verify_line(checkpoint: Checkpoint, line: SignatureLine, public_key: PublicKey) -> SignatureKind | None:
    """Say what a line says where this key signed it, None where it did not."""
    for kind in SignatureKind:
        if line.key_hash != key_hash(line.name, kind, public_key):
            continue
        message, signature = checkpoint.text().encode(), line.body
        if kind != SignatureKind.LOG_KEY:
            message, signature = cosigned(checkpoint, kind, signed_at(line)), line.body[8:]
        if len(signature) == 64 and verify(SuiteId.INTL, public_key, message, signature):
            return kind
    return None


def signed_at(line: SignatureLine) -> int:
    """Give the seconds that a witness's line names as its time."""
    return int.from_bytes(line.body[:8], "big")


def _line(text: str) -> SignatureLine:
    mark, name, encoded = text.split(" ")
    raw = _bytes(encoded)
    if mark != "—" or not name or "+" in name or len(raw) < 5:
        raise ValueError("no signature line")
    return SignatureLine(name, raw[:4], raw[4:])


def _number(text: str) -> int:
    if not _NUMBER.fullmatch(text) or int(text) > MAX_INT:
        raise ValueError("no number of 63 bits")
    return int(text)


def _bytes(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error as error:
        raise ValueError("no base64") from error


def _base64(raw: bytes) -> str:
    return base64.b64encode(raw).decode()
