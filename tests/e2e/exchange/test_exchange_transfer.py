"""A transfer that is cut, tampered with or sealed under another key: what is kept, refused, disputed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import msgspec
import pytest

from tests.e2e.exchange.pair import Pair
from yilian.crypto.blob import SEGMENT_SIZE, TAG_SIZE
from yilian.crypto.seal import new_data_key, new_salt
from yilian.errors import UnavailableError, VerificationError
from yilian.ledger.cases import Found
from yilian.values import CaseId, Digest, InstitutionId
from yilian.workflows.catalog.interface import DisputeReason, Entry, EntryState
from yilian.workflows.consent.model import UseState
from yilian.workflows.consent.ports import Peers
from yilian.workflows.consent.transfer import fetch_ciphertext

SEGMENTS = 4
LONG = b"".join(bytes((number,)) * SEGMENT_SIZE for number in range(SEGMENTS))
SEALED = SEGMENT_SIZE + TAG_SIZE


class Line:
    """The real line, with one hand on what comes through; `starts` keeps the offsets that were asked for."""

    def __init__(self, peers: Peers, change: Callable[[Iterator[bytes]], Iterator[bytes]]) -> None:
        self._peers = peers
        self._change = change
        self.starts: list[int] = []

    def leaves(self, custodian: InstitutionId, root: Digest, basis: CaseId) -> bytes:
        return self._peers.leaves(custodian, root, basis)

    @contextmanager
    def blob(
        self, custodian: InstitutionId, root: Digest, basis: CaseId, *, start: int = 0
    ) -> Iterator[Iterator[bytes]]:
        self.starts.append(start)
        with self._peers.blob(custodian, root, basis, start=start) as pieces:
            yield self._change(pieces)


def cut_after(most: int) -> Callable[[Iterator[bytes]], Iterator[bytes]]:
    """Let so many bytes through on each connection, then cut it."""

    def change(pieces: Iterator[bytes]) -> Iterator[bytes]:
        left = most
        for piece in pieces:
            if len(piece) >= left:
                yield piece[:left]
                raise UnavailableError("cut")
            left -= len(piece)
            yield piece

    return change


def whole(change: Callable[[bytes], bytes]) -> Callable[[Iterator[bytes]], Iterator[bytes]]:
    """Change all that comes, at once."""
    return lambda pieces: iter((change(b"".join(pieces)),))


@pytest.fixture(scope="module")
def long_record(pair: Pair) -> tuple[Found[Entry], CaseId]:
    """Publish a record of several segments and grant it."""
    (entry,) = pair.publish(LONG)
    found = pair.hospital.gateway.find(Entry, entry)
    assert found is not None
    return found, pair.grant((entry,))


def _line(pair: Pair, change: Callable[[Iterator[bytes]], Iterator[bytes]] = lambda pieces: pieces) -> Line:
    return Line(pair.node.peers.of(pair.hospital), change)


def _fetch(pair: Pair, record: tuple[Found[Entry], CaseId], line: Line) -> None:
    fetch_ciphertext(pair.hospital.blobs, line, (record[0],), record[1], progress=lambda _: None)  # type: ignore[arg-type]  # all that a transfer asks of a line


@pytest.mark.parametrize("segment", range(SEGMENTS))
@pytest.mark.parametrize("inside", [0, 1, SEALED - 1], ids=["before", "at-its-first-byte", "at-its-last-byte"])
def test_a_transfer_that_is_cut_goes_on_at_the_segment_that_is_missing(
    pair: Pair, long_record: tuple[Found[Entry], CaseId], segment: int, inside: int
) -> None:
    root = long_record[0].fields.root
    pair.hospital.blobs.delete(root)
    # the line stays cut: with nothing new after three tries it is given up, and what came is kept
    cutting = _line(pair, _only_first(cut_after(segment * SEALED + inside or 1)))
    with pytest.raises(UnavailableError):
        _fetch(pair, long_record, cutting)
    resumed = _line(pair)
    _fetch(pair, long_record, resumed)
    assert resumed.starts == [cutting.starts[0] + segment * SEALED]
    assert pair.hospital.blobs.exists(root)


def _only_first(change: Callable[[Iterator[bytes]], Iterator[bytes]]) -> Callable[[Iterator[bytes]], Iterator[bytes]]:
    used: list[int] = []

    def once(pieces: Iterator[bytes]) -> Iterator[bytes]:
        if used:
            raise UnavailableError("still cut")
        used.append(1)
        return change(pieces)

    return once


def test_a_transfer_that_is_cut_now_and_then_arrives_in_one_call(
    pair: Pair, long_record: tuple[Found[Entry], CaseId]
) -> None:
    pair.hospital.blobs.delete(long_record[0].fields.root)
    line = _line(pair, cut_after(SEALED + 10))
    _fetch(pair, long_record, line)
    assert len(line.starts) == SEGMENTS


def test_what_a_crash_tore_on_this_side_is_fetched_again(pair: Pair, long_record: tuple[Found[Entry], CaseId]) -> None:
    root = long_record[0].fields.root
    pair.hospital.blobs.delete(root)
    with pytest.raises(UnavailableError):
        _fetch(pair, long_record, _line(pair, _only_first(cut_after(2 * SEALED + 7))))
    with pair.hospital.blobs.writer(root.hex()) as writer:
        writer.truncate(writer.length - 5)
        writer.append(b"torn!")
    resumed = _line(pair)
    _fetch(pair, long_record, resumed)
    assert resumed.starts[0] < 2 * SEALED
    assert pair.hospital.blobs.exists(root)


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda body: body[SEALED:] + body[:SEALED], id="reordered"),
        pytest.param(
            lambda body: body[SEALED : 2 * SEALED] + body[:SEALED] + body[2 * SEALED :], id="swapped-segments"
        ),
        pytest.param(lambda body: bytes(len(body)), id="wrong-record"),
        pytest.param(lambda body: body + b"more", id="longer"),
    ],
)
def test_other_bytes_than_the_root_names_are_refused_and_none_of_them_kept(
    pair: Pair, long_record: tuple[Found[Entry], CaseId], change: Callable[[bytes], bytes]
) -> None:
    root = long_record[0].fields.root
    pair.hospital.blobs.delete(root)
    with pytest.raises(VerificationError):
        _fetch(pair, long_record, _line(pair, whole(change)))
    assert not pair.hospital.blobs.exists(root)
    _fetch(pair, long_record, _line(pair))
    assert pair.hospital.blobs.exists(root)


def test_a_truncated_record_never_counts_as_whole(pair: Pair, long_record: tuple[Found[Entry], CaseId]) -> None:
    root = long_record[0].fields.root
    pair.hospital.blobs.delete(root)
    with pytest.raises(UnavailableError, match="ended at segment"):
        _fetch(pair, long_record, _line(pair, whole(lambda body: body[: SEALED - 1])))
    assert not pair.hospital.blobs.exists(root)
    _fetch(pair, long_record, _line(pair))


@pytest.mark.parametrize(
    ("field", "reason"),
    [
        pytest.param("data_key", DisputeReason.KEY_DIFFERS, id="another-key"),
        pytest.param("salt", DisputeReason.COMMITMENT_DIFFERS, id="another-plaintext"),
    ],
)
def test_what_was_delivered_wrong_is_disputed_on_the_ledger(pair: Pair, field: str, reason: DisputeReason) -> None:
    good, bad = pair.publish(f"good {field}".encode(), f"bad {field}".encode())
    grant = pair.grant((good, bad))
    lie = {"data_key": new_data_key(), "salt": new_salt()}[field]
    record = pair.centre.vault.records.get(bad)
    pair.centre.vault.records.put([msgspec.structs.replace(record, **{field: lie})])
    fetched = pair.fetch(grant)
    assert (fetched.state, fetched.verified) == (UseState.DISPUTED, False)
    assert (fetched.disputed, fetched.reason) == ((bad,), reason)
    entry = pair.centre.gateway.find(Entry, bad)
    assert entry is not None
    assert entry.state == EntryState.DISPUTED
    assert not pair.hospital.vault.releases.copies_of_entry(bad)
    assert pair.hospital.vault.releases.copies_of_entry(good)
