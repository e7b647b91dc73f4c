"""Checkpoint notes: one encoding each, what a line says and to whom, and no flipped byte that gets through."""

from __future__ import annotations

import base64

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from yilian.crypto.intl import Ed25519Signer
from yilian.crypto.suite import sha256
from yilian.errors import VerificationError
from yilian.ledger.checkpoint import (
    MAX_NOTE,
    Checkpoint,
    Note,
    SignatureKind,
    SignatureLine,
    cosign,
    cosigned,
    key_hash,
    origin,
    parse_note,
    sign,
    signed_at,
    verify_line,
)
from yilian.values import MAX_INT, digest, institution_id, unix_millis

SEQUENCER, WITNESS, STRANGER = (
    Ed25519Signer.from_seed(sha256(name)) for name in (b"sequencer", b"witness", b"stranger")
)
INSTITUTION = institution_id(sha256(b"institution"))
NOW = unix_millis(1_790_000_000_500)
CHECKPOINT = Checkpoint(
    chain=sha256(b"chain"),
    log_size=12_345,
    log_root=sha256(b"root"),
    app_hash=sha256(b"app"),
    height=678,
    time=unix_millis(1_789_999_999_000),
)
DIGESTS = st.binary(min_size=32, max_size=32).map(digest)
NUMBERS = st.integers(min_value=0, max_value=MAX_INT)
NAMES = st.text(
    st.characters(blacklist_characters=" +\n\r\t\x0b\x0c\x1c\x1d\x1e\x1f\x85\u2028\u2029", codec="utf-8"), min_size=1
)
LINES = st.builds(SignatureLine, NAMES, st.binary(min_size=4, max_size=4), st.binary(min_size=1, max_size=80))
CHECKPOINTS = st.builds(
    Checkpoint,
    chain=DIGESTS,
    log_size=NUMBERS,
    log_root=DIGESTS,
    app_hash=DIGESTS,
    height=NUMBERS,
    time=NUMBERS.map(unix_millis),
)


def _note() -> Note:
    line = cosign(CHECKPOINT, SignatureKind.EXECUTED, WITNESS, institution=INSTITUTION, now=NOW)
    return Note(CHECKPOINT, (sign(CHECKPOINT, SEQUENCER), line))


def test_a_note_is_the_text_that_the_specification_shows() -> None:
    text, signatures = _note().encode().decode().split("\n\n")
    assert text.split("\n") == [
        f"yilian/{sha256(b'chain').hex()}",
        "12345",
        base64.b64encode(sha256(b"root")).decode(),
        f"app {base64.b64encode(sha256(b'app')).decode()}",
        "height 678",
        "time 1789999999000",
    ]
    assert [line.split(" ")[:2] for line in signatures.splitlines()] == [
        ["—", origin(CHECKPOINT.chain)],
        ["—", INSTITUTION.hex()],
    ]


@given(CHECKPOINTS, st.lists(LINES, max_size=4))
def test_parsing_undoes_encoding(checkpoint: Checkpoint, lines: list[SignatureLine]) -> None:
    note = Note(checkpoint, tuple(lines))
    assert parse_note(note.encode()) == note


def test_every_flipped_bit_of_a_note_is_refused_or_breaks_a_signature() -> None:
    whole = _note().encode()
    survived = []
    for at in range(len(whole)):
        for bit in range(8):
            flipped = bytearray(whole)
            flipped[at] ^= 1 << bit
            try:
                note = parse_note(bytes(flipped))
            except VerificationError:
                continue
            kinds = {
                verify_line(note.checkpoint, line, key)
                for line in note.lines
                for key in (SEQUENCER.public_key, WITNESS.public_key)
            }
            names = [line.name for line in note.lines]
            if {SignatureKind.LOG_KEY, SignatureKind.EXECUTED} <= kinds and names == [
                origin(CHECKPOINT.chain),
                INSTITUTION.hex(),
            ]:
                survived.append((at, bit))
    assert survived == []


@given(st.binary(max_size=400))
def test_any_bytes_are_a_note_or_refused(data: bytes) -> None:
    try:
        assert parse_note(data).encode() == data
    except VerificationError as error:
        assert "fetch it again" in str(error)  # noqa: PT017 - either may come


@pytest.mark.parametrize(
    ("old", "new"),
    [
        pytest.param("height 678", "height 0678", id="leading-zero"),
        pytest.param("height 678", "height +678", id="sign"),
        pytest.param("height 678", "height ٦٧٨", id="other-digits"),
        pytest.param("height 678", f"height {MAX_INT + 1}", id="64-bits"),
        pytest.param("height 678", "Height 678", id="other-word"),
        pytest.param("time 1789999999000", "time 1789999999000\nmore", id="another-line"),
        pytest.param("\n12345\n", "\n12345 \n", id="blank"),
        pytest.param("yilian/", "yilian/ ", id="blank-in-hex"),
        pytest.param("— ", "- ", id="hyphen"),
        pytest.param("\n\n", "\n", id="no-empty-line"),
    ],
)
def test_another_spelling_is_refused(old: str, new: str) -> None:
    changed = _note().encode().decode().replace(old, new, 1)
    with pytest.raises(VerificationError):
        parse_note(changed.encode())


def test_what_is_not_whole_or_too_long_is_refused() -> None:
    whole = _note().encode()
    for data in (b"", whole[:-1], whole + b"\n", whole + b"x", whole.replace("—".encode(), b"\xff\xfe", 1)):
        with pytest.raises(VerificationError):
            parse_note(data)
    with pytest.raises(VerificationError, match="ask for a shorter one"):
        parse_note(b"x" * (MAX_NOTE + 1))


@pytest.mark.parametrize(
    "line",
    [
        "— a+b AAAAAAA=",
        "—  AAAAAAA=",
        "— name AAAA",
        "— name AAAAAAA",
        "— name !!!!",
        "— one two AAAAAAA=",
        "— name",
    ],
)
def test_a_malformed_signature_line_is_refused(line: str) -> None:
    with pytest.raises(VerificationError):
        parse_note(f"{CHECKPOINT.text()}\n{line}\n".encode())


@pytest.mark.parametrize("kind", [SignatureKind.LOG, SignatureKind.EXECUTED])
def test_a_witness_signs_its_own_time_and_what_it_saw(kind: SignatureKind) -> None:
    line = cosign(CHECKPOINT, kind, WITNESS, institution=INSTITUTION, now=NOW)
    assert (line.name, signed_at(line)) == (INSTITUTION.hex(), NOW // 1000)
    assert verify_line(CHECKPOINT, line, WITNESS.public_key) == kind
    assert verify_line(CHECKPOINT, line, STRANGER.public_key) is None
    assert verify_line(msgspec.structs.replace(CHECKPOINT, height=679), line, WITNESS.public_key) is None


def test_a_cosignature_is_the_one_of_the_c2sp_specification() -> None:
    # C2SP tlog-cosignature: the message is the header, the time and the whole text
    message = cosigned(CHECKPOINT, SignatureKind.LOG, 7)
    assert message == b"cosignature/v1\ntime 7\n" + CHECKPOINT.text().encode()
    hashed = sha256(INSTITUTION.hex().encode() + b"\n\x04" + WITNESS.public_key)[:4]
    assert key_hash(INSTITUTION.hex(), SignatureKind.LOG, WITNESS.public_key) == hashed


def test_one_kind_never_passes_as_another() -> None:
    log, executed = (
        cosign(CHECKPOINT, kind, WITNESS, institution=INSTITUTION, now=NOW)
        for kind in (SignatureKind.LOG, SignatureKind.EXECUTED)
    )
    swapped = SignatureLine(executed.name, executed.key_hash, log.body)
    renamed = SignatureLine("other", log.key_hash, log.body)
    short = SignatureLine(log.name, log.key_hash, log.body[:5])
    later = SignatureLine(log.name, log.key_hash, bytes(8) + log.body[8:])
    own = sign(CHECKPOINT, SEQUENCER)
    as_own = SignatureLine(own.name, own.key_hash, log.body)
    lines = (swapped, renamed, short, later, as_own)
    assert [verify_line(CHECKPOINT, line, WITNESS.public_key) for line in lines] == [None] * 5
    assert verify_line(CHECKPOINT, own, SEQUENCER.public_key) == SignatureKind.LOG_KEY
