"""What a reader believes: exactly the policy's signatures under a checkpoint, each failure with its own message."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from yilian.crypto.intl import Ed25519Signer
from yilian.crypto.suite import sha256
from yilian.errors import VerificationError
from yilian.ledger.checkpoint import (
    CLOCK_TOLERANCE,
    Checkpoint,
    Note,
    SignatureKind,
    SignatureLine,
    cosign,
    cosigned,
    key_hash,
    parse_note,
    sign,
)
from yilian.ledger.trust import FORMAT, Trust, TrustedKey, believe, parse_trust
from yilian.values import HOUR, InstitutionId, institution_id, unix_millis

LOG, EXECUTED = SignatureKind.LOG, SignatureKind.EXECUTED
NAMES = ("sequencer", "centre", "laboratory", "clinic", "annex", "stranger")
SIGNERS = {name: Ed25519Signer.from_seed(sha256(name.encode())) for name in NAMES}
IDS: dict[str, InstitutionId] = {name: institution_id(sha256(b"id", name.encode())) for name in NAMES}
OPERATORS = {"clinic": "laboratory", "annex": "sequencer"}
TIME = unix_millis(1_790_000_000_000)
CHECKPOINT = Checkpoint(
    chain=sha256(b"chain"), log_size=9, log_root=sha256(b"root"), app_hash=sha256(b"app"), height=4, time=TIME
)


def _key(name: str) -> TrustedKey:
    return TrustedKey(
        institution=IDS[name].hex(),
        operator=IDS[OPERATORS.get(name, name)].hex(),
        public_key=SIGNERS[name].public_key.hex(),
        held_by="node",
    )


def _trust(needed: int, **changed: Any) -> Trust:  # noqa: ANN401 - any field
    whole = Trust(
        format=FORMAT,
        name="lake",
        chain=CHECKPOINT.chain.hex(),
        sequencer=(_key("sequencer"),),
        witnesses=tuple(_key(name) for name in ("centre", "laboratory", "clinic", "annex")),
        needed=needed,
    )
    return msgspec.structs.replace(whole, **changed)


def _line(name: str, kind: SignatureKind = EXECUTED, *, seconds_later: int = 0) -> SignatureLine:
    now = unix_millis(TIME + 1000 * seconds_later)
    return cosign(CHECKPOINT, kind, SIGNERS[name], institution=IDS[name], now=now)


def _note(*lines: SignatureLine, first: SignatureLine | None = None) -> Note:
    return Note(CHECKPOINT, (first or sign(CHECKPOINT, SIGNERS["sequencer"]), *lines))


def test_exactly_the_policys_lines_are_believed() -> None:
    believed = believe(_note(_line("centre"), _line("laboratory", seconds_later=5)), _trust(2), executed=True)
    assert believed.sequencer == _key("sequencer")
    assert [(one.key.institution, one.kind, one.time - TIME) for one in believed.cosigners] == [
        (IDS["centre"].hex(), EXECUTED, 0),
        (IDS["laboratory"].hex(), EXECUTED, 5_000),
    ]
    assert believed.split_view_excluded


def test_without_witnesses_a_split_view_is_not_excluded() -> None:
    assert not believe(_note(), _trust(0), executed=True).split_view_excluded


@pytest.mark.parametrize(
    ("note", "trust", "said"),
    [
        pytest.param(_note(), _trust(0, chain="ab" * 32), "trusted is", id="other-chain"),
        pytest.param(Note(CHECKPOINT, ()), _trust(0), "first signature line", id="no-line"),
        pytest.param(
            _note(first=sign(CHECKPOINT, SIGNERS["stranger"])), _trust(0), "first signature line", id="other-sequencer"
        ),
        pytest.param(
            _note(sign(CHECKPOINT, SIGNERS["sequencer"]), first=_line("centre")),
            _trust(1),
            "first signature line",
            id="sequencer-second",
        ),
        pytest.param(_note(_line("stranger")), _trust(1), "line 2 is of no trusted", id="unknown-line"),
        pytest.param(_note(sign(CHECKPOINT, SIGNERS["sequencer"])), _trust(1), "of no trusted", id="sequencer-twice"),
        pytest.param(_note(_line("annex")), _trust(1), "counts once", id="sequencers-operator"),
        pytest.param(
            _note(_line("laboratory"), _line("clinic")), _trust(2), "line 3.*counts once", id="one-operator-twice"
        ),
        pytest.param(_note(_line("centre"), _line("centre")), _trust(2), "counts once", id="one-line-twice"),
        pytest.param(_note(_line("centre", LOG)), _trust(1), "says `log`", id="log-where-executed-is-due"),
        pytest.param(
            _note(_line("centre", seconds_later=-31)), _trust(1), "older than the block", id="before-the-block"
        ),
        pytest.param(_note(), _trust(1), "0 witnesses signed", id="too-few"),
        pytest.param(_note(_line("centre"), _line("laboratory")), _trust(1), "exactly 1", id="surplus"),
    ],
)
def test_anything_else_is_refused_with_its_own_message(note: Note, trust: Trust, said: str) -> None:
    with pytest.raises(VerificationError, match=said):
        believe(note, trust, executed=True)


def test_log_cosignatures_are_enough_for_what_rests_on_the_log_alone() -> None:
    assert believe(_note(_line("centre", LOG)), _trust(1), executed=False).cosigners[0].kind == LOG


def test_a_clock_may_be_behind_the_block_by_the_tolerance() -> None:
    seconds = -(CLOCK_TOLERANCE // 1000)
    assert believe(_note(_line("centre", seconds_later=seconds)), _trust(1), executed=True)


@pytest.mark.parametrize(("age", "is_young"), [(HOUR, True), (HOUR + 1, False)])
def test_the_oldest_cosignature_may_be_no_older_than_asked(age: int, is_young: bool) -> None:
    note = _note(_line("centre"), _line("laboratory", seconds_later=60))
    arguments = {"executed": True, "now": unix_millis(TIME + age), "max_age": HOUR}
    try:
        believe(note, _trust(2), **arguments)  # type: ignore[arg-type]  # as named
    except VerificationError as error:
        assert (is_young, "get a new one" in str(error)) == (False, True)  # noqa: PT017 - either may come
    else:
        assert is_young


def test_without_witnesses_the_block_time_is_what_ages() -> None:
    with pytest.raises(VerificationError, match="get a new one"):
        believe(_note(), _trust(0), executed=True, now=unix_millis(TIME + 11), max_age=10)


def test_a_witness_that_names_a_time_beyond_every_clock_is_refused() -> None:
    seconds = 2**63
    body = seconds.to_bytes(8, "big") + SIGNERS["centre"].sign(cosigned(CHECKPOINT, EXECUTED, seconds))
    name = IDS["centre"].hex()
    line = SignatureLine(name, key_hash(name, EXECUTED, SIGNERS["centre"].public_key), body)
    with pytest.raises(VerificationError, match="no clock says that"):
        believe(_note(line), _trust(1), executed=True)


def test_no_flipped_byte_of_a_note_is_believed() -> None:
    whole = _note(_line("centre"), _line("laboratory")).encode()
    trust = _trust(2)
    believed = []
    for at in range(len(whole)):
        changed = whole[:at] + bytes([whole[at] ^ 0x01]) + whole[at + 1 :]
        try:
            believe(parse_note(changed), trust, executed=True)
        except VerificationError:
            continue
        believed.append(at)
    assert believed == []


# ------------------------------------------------------------------------------------------------------------ the file

HEX = st.binary(min_size=32, max_size=32).map(bytes.hex)
KEYS = st.builds(TrustedKey, institution=HEX, operator=HEX, public_key=HEX, held_by=st.sampled_from(["node", "device"]))
TRUSTS = st.builds(
    Trust,
    format=st.just(FORMAT),
    name=st.text(max_size=20),
    chain=HEX,
    sequencer=st.lists(KEYS, max_size=2).map(tuple),
    witnesses=st.lists(KEYS, max_size=4).map(tuple),
    needed=st.integers(0, 256),
)


@given(TRUSTS)
def test_reading_a_trust_file_undoes_writing_it(trust: Trust) -> None:
    assert parse_trust(msgspec.json.encode(trust)) == trust


@given(st.binary(max_size=200))
def test_any_other_bytes_are_no_trust_file(data: bytes) -> None:
    with pytest.raises(VerificationError, match="network trust"):
        parse_trust(data)


def _changed(change: dict[str, object], without: Sequence[str] = ()) -> bytes:
    fields = msgspec.to_builtins(_trust(1)) | change
    return msgspec.json.encode({name: value for name, value in fields.items() if name not in without})


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(_changed({"format": 2}), id="later-format"),
        pytest.param(_changed({"needed": -1}), id="negative"),
        pytest.param(_changed({"needed": 257}), id="too-many"),
        pytest.param(_changed({"chain": "AB" * 32}), id="upper-case"),
        pytest.param(_changed({"chain": "ab" * 31}), id="short"),
        pytest.param(_changed({"chain": "ab" * 32 + "\n"}), id="line-end"),
        pytest.param(_changed({"more": 1}), id="unknown-field"),
        pytest.param(_changed({}, ["witnesses"]), id="missing-field"),
    ],
)
def test_a_trust_file_of_another_shape_is_refused(data: bytes) -> None:
    with pytest.raises(VerificationError, match="network trust"):
        parse_trust(data)


def test_a_trust_file_that_says_something_twice_is_refused() -> None:
    twice = _changed({}).replace(b'"needed":', b'"needed":0,"needed":', 1)
    with pytest.raises(VerificationError, match="a name stands twice"):
        parse_trust(twice)


def test_no_flipped_byte_of_a_trust_file_raises_anything_else() -> None:
    whole = msgspec.json.encode(_trust(2))
    note = _note(_line("centre"), _line("laboratory"))
    outcomes = set()
    for at in range(len(whole)):
        for mask in (0x01, 0x20, 0x80):
            changed = whole[:at] + bytes([whole[at] ^ mask]) + whole[at + 1 :]
            try:
                believe(note, parse_trust(changed), executed=True)
            except VerificationError:
                outcomes.add("refused")
            else:
                outcomes.add("believed")  # such as another name of the network
    assert outcomes == {"refused", "believed"}
