"""What who checks a receipt believes: the chain, its sequencer's keys, its witnesses and how many must have signed.

Written by `yilian network trust`, read by `yilian-verify`. A receipt's checkpoint must carry exactly the sequencer's
line and k lines of witnesses under k distinct operators, none of them the sequencer's.
"""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from yilian.errors import VerificationError
from yilian.ledger.checkpoint import (
    CLOCK_TOLERANCE,
    Note,
    SignatureKind,
    SignatureLine,
    origin,
    signed_at,
    verify_line,
)
from yilian.values import MAX_INT, UnixMillis, public_key, unix_millis

FORMAT = 1
_Hex32 = Annotated[str, Meta(pattern="^[0-9a-f]{64}$", max_length=64)]


class TrustedKey(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A public key (Ed25519, hexadecimal) of an institution, who operates it, and how the key is held."""

    institution: _Hex32
    operator: _Hex32
    public_key: _Hex32
    held_by: str


class Trust(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is believed. `chain` is the digest of the genesis, which every founding CA signed."""

    format: Annotated[int, Meta(ge=FORMAT, le=FORMAT)]
    name: str
    chain: _Hex32
    sequencer: tuple[TrustedKey, ...]
    witnesses: tuple[TrustedKey, ...]
    needed: Annotated[int, Meta(ge=0, le=256)]
    """k: distinct operators, without the sequencer's, that must have cosigned."""


class Cosigner(msgspec.Struct, frozen=True, kw_only=True):
    """A witness whose line holds. `time` is its own clock, in milliseconds."""

    key: TrustedKey
    kind: SignatureKind
    time: UnixMillis


class Believed(msgspec.Struct, frozen=True, kw_only=True):
    """Who stands behind a checkpoint. Below one operator besides the sequencer a split view is not excluded."""

    sequencer: TrustedKey
    cosigners: tuple[Cosigner, ...]

    @property
    def split_view_excluded(self) -> bool:
        """Whether somebody besides the sequencer's operator has signed."""
        return bool(self.cosigners)


def parse_trust(data: bytes) -> Trust:
    """Decode a trust file; VerificationError where it is none, or says something twice (readers differ in that)."""
    try:
        trust = msgspec.json.decode(data, type=Trust)
        if len(msgspec.json.format(data, indent=-1)) != len(msgspec.json.encode(msgspec.json.decode(data))):
            raise ValueError("a name stands twice, or a character is escaped without need")
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise VerificationError(
            f"{len(data)} bytes are no trust file ({error}): write one with `yilian network trust`"
        ) from None
    return trust


def believe(
    note: Note, trust: Trust, *, executed: bool, now: UnixMillis | None = None, max_age: int | None = None
) -> Believed:
    """Make sure that a note carries exactly the signatures that the policy asks for.

    Args:
        note: the checkpoint's.
        trust: what is believed.
        executed: what rests on it is state or time, so that every witness must have executed.
        now: the reader's clock; with `max_age` (milliseconds) the oldest cosignature may be no older.
        max_age: as above; needs `now`.

    Raises:
        VerificationError: another chain; the sequencer's line is missing or not first; a line of an unknown key,
            a second one of an operator, one of the sequencer's operator, of the wrong kind, too many, too few, too old.
    """
    checkpoint, lines = note.checkpoint, note.lines
    if checkpoint.chain.hex() != trust.chain:
        raise VerificationError(
            f"the checkpoint is of chain {checkpoint.chain.hex()}, trusted is {trust.chain}: refuse"
        )
    sequencer = next((key for key in trust.sequencer if lines and _signed(note, lines[0], key, by_log=True)), None)
    if sequencer is None:
        raise VerificationError("the first signature line is not of a trusted sequencer key: refuse the checkpoint")
    cosigners: list[Cosigner] = []
    operators = [sequencer.operator]
    for number, line in enumerate(lines[1:], start=2):
        cosigner = _cosigner(note, line, trust)
        if cosigner is None:
            raise VerificationError(f"signature line {number} is of no trusted witness: exactly the policy's may stand")
        if cosigner.key.operator in operators:
            raise VerificationError(f"signature line {number} is of an operator that signed before: it counts once")
        if executed and cosigner.kind != SignatureKind.EXECUTED:
            raise VerificationError(
                f"signature line {number} says `log`, expected `executed` under a claim about state"
            )
        if cosigner.kind == SignatureKind.EXECUTED and cosigner.time + CLOCK_TOLERANCE + 999 < checkpoint.time:
            raise VerificationError(f"signature line {number} is older than the block time: a clock is off, refuse")
        operators.append(cosigner.key.operator)
        cosigners.append(cosigner)
    if len(cosigners) != trust.needed:
        raise VerificationError(
            f"{len(cosigners)} witnesses signed, the policy asks for exactly {trust.needed}: refuse"
        )
    if now is not None and max_age is not None:
        times = [cosigner.time for cosigner in cosigners] or [checkpoint.time]
        if min(times) < now - max_age:
            raise VerificationError(
                f"the oldest signature is {now - min(times)} ms old, at most {max_age}: get a new one"
            )
    return Believed(sequencer=sequencer, cosigners=tuple(cosigners))


def _signed(note: Note, line: SignatureLine, key: TrustedKey, *, by_log: bool) -> SignatureKind | None:
    if line.name != (origin(note.checkpoint.chain) if by_log else key.institution):
        return None
    kind = verify_line(note.checkpoint, line, public_key(bytes.fromhex(key.public_key)))
    return kind if kind is not None and (kind == SignatureKind.LOG_KEY) == by_log else None


def _cosigner(note: Note, line: SignatureLine, trust: Trust) -> Cosigner | None:
    for key in trust.witnesses:
        kind = _signed(note, line, key, by_log=False)
        if kind is not None:
            time = signed_at(line) * 1000
            if time > MAX_INT:
                raise VerificationError(f"a witness signed at second {signed_at(line)}: no clock says that, refuse")
            return Cosigner(key=key, kind=kind, time=unix_millis(time))
    return None
