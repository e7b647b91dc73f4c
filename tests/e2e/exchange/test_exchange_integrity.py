"""The check of sealed bytes at both ends of an exchange: where the bytes still lie, and fetching them again."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from tests.e2e.exchange.pair import MEMBERS, SETTINGS, Pair, found_home
from yilian.ledger.members import Role
from yilian.node.check import Counts, no_progress
from yilian.node.checking import check_all
from yilian.node.compose import now as clock
from yilian.node.home import Home, PersonSpec
from yilian.node.host import Host
from yilian.node.integrity import Checking, Throttle
from yilian.node.network import NetworkSpec, found_demo
from yilian.node.upkeep import locate
from yilian.storage.vault.integrity import Finding, Wrong
from yilian.values import EntryId
from yilian.workflows.catalog import opening
from yilian.workflows.catalog.destroying import erase
from yilian.workflows.catalog.model import Entry, ErasureBasis


@pytest.fixture(scope="module")
def exchanging(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    running = Pair(found_home(tmp_path_factory.mktemp("integrity"))).start()
    running.register()
    yield running
    running.stop()


def check(pair: Pair, host: Host, *, repair: bool = False) -> list[Finding]:
    Checking(
        host.vault,
        host.blobs,
        throttle=Throttle(10**9),
        clock=pair.node.clock,
        report=lambda _: None,
        locate=lambda held: locate(pair.node, host, held, repair=repair),
        name=host.slug,
    ).run()
    return host.vault.integrity.findings()


def path_of(pair: Pair, host: Host, entry: EntryId) -> Path:
    root = pair.get(Entry, entry).fields.root.hex()
    return host.folder / "blobs" / root[:2] / root[2:]


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def test_a_changed_copy_names_its_custodian_and_comes_back_without_another_delivery(exchanging: Pair) -> None:
    pair = exchanging
    entries = pair.publish(b"a record", b"x" * 3_000_000)
    grant = pair.grant(entries, deliveries=2)
    assert pair.fetch(grant).verified
    flip(path_of(pair, pair.hospital, entries[0]))
    path_of(pair, pair.hospital, entries[1]).unlink()
    found = {one.entry: one for one in check(pair, pair.hospital)}
    assert {entry: one.wrong for entry, one in found.items()} == {entries[0]: Wrong.CHANGED, entries[1]: Wrong.MISSING}
    for one in found.values():
        (source,) = one.sources
        assert (source.institution, source.grant, source.is_intact) == (pair.centre.id, grant, True)

    assert check(pair, pair.hospital, repair=True) == []
    assert opening.open_copy(pair.hospital, entries[0]) == b"a record"
    assert opening.open_copy(pair.hospital, entries[1]) == b"x" * 3_000_000


def test_a_custodian_whose_own_bytes_are_changed_is_no_source(exchanging: Pair) -> None:
    pair = exchanging
    (entry,) = pair.publish(b"damaged everywhere")
    assert pair.fetch(pair.grant((entry,))).verified
    kept = pair.get(Entry, entry).fields.root
    whole = path_of(pair, pair.centre, entry).read_bytes()
    for host in (pair.centre, pair.hospital):
        flip(path_of(pair, host, entry))
    (found,) = [one for one in check(pair, pair.hospital, repair=True) if one.root == kept]
    assert [(source.grant, source.is_intact) for source in found.sources] == [(None, False)]

    pair.wait(lambda: pair.node.index.height() == pair.node.engine.head().height)
    (own,) = check(pair, pair.centre)
    assert (own.entry, [source.institution for source in own.sources]) == (entry, [pair.hospital.id])

    for host in (pair.centre, pair.hospital):
        host.blobs.put(kept, whole)
        assert check(pair, host) == []


def test_after_an_erasure_everything_else_holds(tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    labels = {"officer": Role.OFFICER, "data-officer": Role.DATA_OFFICER, "disclosure-officer": Role.DISCLOSURE_OFFICER}
    people = tuple(PersonSpec(label=label, role=role) for label, role in labels.items())
    members = (msgspec.structs.replace(MEMBERS[0], people=people), *MEMBERS[1:])
    found_demo(home, SETTINGS, NetworkSpec(name="erasure", institutions=members, tree_depth=8), clock())
    pair = Pair(home).start()
    try:
        pair.register()
        erased, kept = pair.publish(b"to be erased", b"to be kept")
        assert pair.fetch(pair.grant((kept,))).verified
        signers = tuple(pair.centre.person(role).signer for role in (Role.DATA_OFFICER, Role.DISCLOSURE_OFFICER))
        erase(pair.centre.gateway, erased, ErasureBasis.PATIENT_RIGHT, recipients=(), officers=signers)
        pair.wait(lambda: pair.get(Entry, erased).state == "erased")
        assert not pair.centre.blobs.exists(pair.get(Entry, erased).fields.root)

        assert check(pair, pair.centre) == check(pair, pair.hospital) == []
        assert opening.open_record(pair.centre, kept) == b"to be kept"
        assert opening.open_copy(pair.hospital, kept) == b"to be kept"
    finally:
        pair.stop()
    counts = Counts()
    assert list(check_all(home, SETTINGS, counts, no_progress)) == []
    assert counts.blobs == 2, "the kept record and its copy"
    shutil.rmtree(home.path)
