"""An answer with M and short ciphertext that is cut: what came is kept, and only the rest is asked for again."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.e2e.exchange.pair import Pair
from yilian.errors import UnavailableError
from yilian.ledger.members import Role
from yilian.values import CaseId, Digest, EntryId, InstitutionId
from yilian.workflows.catalog.interface import Entry
from yilian.workflows.consent import receiving
from yilian.workflows.consent.ports import Peers, ReleaseRequest
from yilian.workflows.consent.transfer import FRAME


class CutLine:
    """The real line, whose first answers to a release end after so many of the parts that each has: M, files."""

    def __init__(self, peers: Peers, *parts: float) -> None:
        self._peers = peers
        self._parts = list(parts)
        self.releases = 0
        self.blobs_asked: list[int] = []

    @contextmanager
    def release(self, custodian: InstitutionId, request: ReleaseRequest) -> Iterator[Iterator[bytes]]:
        self.releases += 1
        with self._peers.release(custodian, request) as pieces:
            yield _cut(b"".join(pieces), self._parts.pop(0)) if self._parts else pieces

    @contextmanager
    def blobs(self, custodian: InstitutionId, roots: tuple[Digest, ...], basis: CaseId) -> Iterator[Iterator[bytes]]:
        self.blobs_asked.append(len(roots))
        with self._peers.blobs(custodian, roots, basis) as pieces:
            yield pieces


def _cut(answer: bytes, parts: float) -> Iterator[bytes]:
    end = 0
    while parts >= 1:
        end += FRAME + int.from_bytes(answer[end : end + FRAME], "big")
        parts -= 1
    end += round(parts * int.from_bytes(answer[end : end + FRAME], "big"))
    yield answer[:end]
    raise UnavailableError("cut")


@pytest.fixture
def granted(pair: Pair) -> tuple[tuple[EntryId, ...], CaseId]:
    """Publish two short records and grant them."""
    entries = pair.publish(b"first" * 1000, b"second" * 1000)
    return entries, pair.grant(entries)


def _begin(pair: Pair, grant: CaseId, line: CutLine) -> receiving.Asked:
    person = pair.hospital.person(Role.PHYSICIAN).key_id
    return receiving.begin(pair.hospital, line, grant, person=person, now=pair.node.clock())  # type: ignore[arg-type]  # all that short records ask of a line


def _are_here(pair: Pair, entries: tuple[EntryId, ...]) -> list[bool]:
    found = [pair.hospital.gateway.find(Entry, entry) for entry in entries]
    return [entry is not None and pair.hospital.blobs.exists(entry.fields.root) for entry in found]


@pytest.mark.parametrize(
    ("parts", "releases", "blobs_asked"),
    [
        ((), 1, []),
        ((0.5,), 2, []),
        ((1.0,), 1, [2]),
        ((1.5,), 1, [2]),
        ((2.0,), 1, [1]),
        ((2.5,), 1, [1]),
        ((3.0,), 1, []),
    ],
    ids=["whole", "in-M", "behind-M", "in-the-first", "behind-the-first", "in-the-second", "at-the-end"],
)
def test_a_release_that_is_cut_goes_on_with_what_is_missing(
    pair: Pair,
    granted: tuple[tuple[EntryId, ...], CaseId],
    parts: tuple[float, ...],
    releases: int,
    blobs_asked: list[int],
) -> None:
    entries, grant = granted
    line = CutLine(pair.node.peers.of(pair.hospital), *parts)
    asked = _begin(pair, grant, line)
    assert (line.releases, line.blobs_asked) == (releases, blobs_asked)
    assert _are_here(pair, entries) == [True, True]
    key = pair.hospital.vault.releases.find_key_of_use(asked.draft.case_id)
    assert key is not None
    assert key.message


def test_a_message_that_is_cut_twice_is_given_up(pair: Pair, granted: tuple[tuple[EntryId, ...], CaseId]) -> None:
    entries, grant = granted
    with pytest.raises(UnavailableError, match="cut"):
        _begin(pair, grant, CutLine(pair.node.peers.of(pair.hospital), 0.5, 0.5))
    assert _are_here(pair, entries) == [False, False]


def test_what_is_here_already_is_not_sent_again(pair: Pair, granted: tuple[tuple[EntryId, ...], CaseId]) -> None:
    _, grant = granted
    line = CutLine(pair.node.peers.of(pair.hospital))
    received: list[int] = []
    for _ in range(2):
        person = pair.hospital.person(Role.PHYSICIAN).key_id
        receiving.begin(
            pair.hospital,
            line,
            grant,
            person=person,
            now=pair.node.clock(),
            progress=received.append,  # type: ignore[arg-type]  # as above
        )
    assert len(received) == 2
