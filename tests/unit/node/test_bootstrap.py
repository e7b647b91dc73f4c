"""Beginning with a snapshot of another member, and going on where old blocks were pruned."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import msgspec
import pytest

from yilian import canonical
from yilian.errors import ConflictError, NotFoundError, VerificationError
from yilian.ledger.checkpoint import Note, sign
from yilian.ledger.log import LogProofs
from yilian.ledger.snapshot import parse_manifest
from yilian.ledger.trust import Trust, TrustedKey
from yilian.node import bootstrap as boots
from yilian.node import home as homes
from yilian.node import retention
from yilian.node.backup import ledger_stores
from yilian.node.bootstrap import Offer, bootstrap
from yilian.node.check import Counts, no_progress
from yilian.node.checking import check_all
from yilian.node.compose import Node, open_node
from yilian.node.genesis import load_founding
from yilian.node.home import Home
from yilian.node.projections import Projector
from yilian.node.reactors import CURSOR
from yilian.node.retention import Retention, cut_of, prune, window_start
from yilian.node.settings import LedgerSettings, Settings
from yilian.storage.rows import EntryQuery
from yilian.storage.segments import SegmentBlocks
from yilian.storage.snapshots import Snapshot, Snapshots, unpack_chunk
from yilian.storage.vault.subjects import Subject, new_subject_ref
from yilian.values import EntryId, day_from_civil, digest, month_of
from yilian.workflows.catalog.service import NewRecord, publish_records

MARCH = month_of(day_from_civil(2026, 3, 1))
SETTINGS = Settings(
    engine=msgspec.structs.replace(Settings().engine, second_core=False), ledger=LedgerSettings(keep_blocks=2)
)
BLOCKS = 6


@contextmanager
def opened(path: Path) -> Iterator[Node]:
    node = open_node(Home(path), SETTINGS)
    try:
        yield node
    finally:
        node.close()


def publish(node: Node, number: int) -> EntryId:
    host = node.host("centre")
    subject = Subject(subject_ref=new_subject_ref(), identity=b"{}", identifiers=(f"p{number}",))
    host.vault.subjects.put([subject])
    record = NewRecord(subject_ref=subject.subject_ref, payload=b"{}", kind="C0002", level=4, month=MARCH)
    return publish_records(host, [record])[0]


class Folder:
    """A snapshot on disk as a source."""

    def __init__(self, snapshot: Snapshot, note: bytes = b"") -> None:
        self._snapshot, self._note = snapshot, note

    def offer(self) -> Offer:
        return Offer(manifest=self._snapshot.manifest_bytes, note=self._note)

    def packed(self, height: int, number: int) -> bytes:
        assert height == self._snapshot.manifest.head.height
        return self._snapshot.packed(number)


@pytest.fixture
def home(founded_home: Path, tmp_path: Path) -> Path:
    """Give a closed home with some blocks of which the read model knows."""
    path = tmp_path / "home"
    shutil.copytree(founded_home, path)
    shutil.copy2(founded_home.with_name("home.passphrase"), tmp_path / "home.passphrase")
    with opened(path) as node:
        for number in range(BLOCKS):
            publish(node, number)
        Projector(node).catch_up()
        for host in node.hosts.values():
            host.vault.access.set_cursor(CURSOR, node.engine.head().height)
    return path


@pytest.fixture
def without_window(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a day of block time be no time, so that all but the newest blocks are old."""
    monkeypatch.setattr(retention, "PERSON_VALIDITY", 0)
    monkeypatch.setattr("yilian.ledger.machine.PERSON_VALIDITY", 0)
    monkeypatch.setattr("yilian.ledger.machine.WINDOW", 0)


def bare(home: Path, target: Path) -> Home:
    """Copy a home as a newcomer's would be: no state, no blocks, no read model."""
    shutil.copytree(home, target)
    shutil.copy2(home.with_name("home.passphrase"), target.with_name(f"{target.name}.passphrase"))
    for name in ("ledger/state", "ledger/segments", "ledger/snapshots"):
        shutil.rmtree(target / name, ignore_errors=True)
    for file in target.glob("index.db*"):
        file.unlink()
    return Home(target)


def trust_of(node: Node, *, needed: int = 0) -> Trust:
    host = node.host("centre")
    key = TrustedKey(
        institution=host.id.hex(),
        operator=host.id.hex(),
        public_key=host.keystore.load_signer(homes.GATEWAY).public_key.hex(),
        held_by="node",
    )
    return Trust(format=1, name="t", chain=node.chain.hex(), sequencer=(key,), witnesses=(), needed=needed)


def note_of(node: Node, *, height: int | None = None) -> bytes:
    head = node.engine.head()
    checkpoint = head.checkpoint(node.chain)
    if height is not None:
        checkpoint = msgspec.structs.replace(checkpoint, height=height)
    signer = node.host("centre").keystore.load_signer(homes.GATEWAY)
    return Note(checkpoint, (sign(checkpoint, signer),)).encode()


def taken(node: Node) -> Snapshot:
    state, blocks = ledger_stores(node.engine)
    return Snapshots(node.home.ledger / "snapshots").take(state, blocks, node.chain)


def test_a_home_begins_with_a_believed_snapshot_and_reads_all_of_the_past(home: Path, tmp_path: Path) -> None:
    with opened(home) as node:
        snapshot, note, trust = taken(node), note_of(node), trust_of(node)
        head, tally = node.engine.head(), node.index.tally()
    new = bare(home, tmp_path / "new")
    assert bootstrap(new, load_founding(new), Folder(snapshot, note), trust) == head
    with opened(new.path) as node:
        Projector(node).catch_up()
        assert (node.engine.head(), node.index.tally()) == (head, tally)
        publish(node, 99)
        assert node.engine.head().height == head.height + 1


def test_a_snapshot_that_no_trusted_checkpoint_names_is_refused_and_nothing_is_there(
    home: Path, tmp_path: Path
) -> None:
    with opened(home) as node:
        snapshot, note, trust = taken(node), note_of(node), trust_of(node)
        other = note_of(node, height=3)
        strict = trust_of(node, needed=1)
    new = bare(home, tmp_path / "new")
    founding = load_founding(new)
    stranger = msgspec.structs.replace(trust, chain="00" * 32)
    for offered, believed, words in (
        (b"", trust, "offers no checkpoint"),
        (other, trust, "its height is"),
        (note, stranger, "of chain"),
        (note, strict, "the policy asks for exactly 1"),
    ):
        with pytest.raises(VerificationError, match=words):
            bootstrap(new, founding, Folder(snapshot, offered), believed)
    with pytest.raises(VerificationError, match="its app_hash is"):
        bootstrap(new, founding, Folder(snapshot), digest(bytes(32)))
    assert not new.state.exists()
    assert not new.segments.exists()
    with pytest.raises(ConflictError, match="holds a ledger already"):
        bootstrap(Home(home), founding, Folder(snapshot, note), trust)


def test_the_door_gives_a_fresh_snapshot_and_its_chunks(home: Path) -> None:
    with opened(home) as node:
        height = node.engine.head().height
        answer = canonical.decode(boots.answer_get(node, ["manifest"], b""), Offer)
        manifest = parse_manifest(answer.manifest)
        packed = boots.answer_get(node, ["chunk", "0"], f"height={height}".encode())
        for parts, query in (
            (["chunk", "0"], b"height=1"),
            (["chunk", "99"], f"height={height}".encode()),
            (["x"], b""),
        ):
            with pytest.raises(NotFoundError):
                boots.answer_get(node, parts, query)
    assert manifest.head.height == height
    assert len(unpack_chunk(packed, 0, manifest.chunks[0].size)) == manifest.chunks[0].size


def test_the_last_day_and_what_nobody_has_taken_over_are_kept(home: Path) -> None:
    with opened(home) as node:
        assert (window_start(node.engine), cut_of(node), prune(node)) == (1, 1, 1)


@pytest.mark.usefixtures("without_window")
def test_a_pruned_home_is_checked_from_its_snapshot_opens_and_proves_old_leaves(home: Path, tmp_path: Path) -> None:
    _small_segments(home)
    with opened(home) as node:
        old = node.engine.head()
        cut = cut_of(node)
        assert cut == old.height - 1
        assert prune(node) == cut
        with pytest.raises(NotFoundError):
            node.engine.block(1)
        publish(node, 50)
    assert list(check_all(Home(home), SETTINGS, Counts(), no_progress)) == []
    for file in home.glob("index.db*"):
        file.unlink()
    with opened(home) as node:
        Projector(node).catch_up()
        assert len(LogProofs(node.engine.state.tile).inclusion_proof(0, node.engine.head().log_size)) > 0
        assert node.index.height() == old.height + 1
        assert len(node.index.find_entries(EntryQuery()).items) == BLOCKS + 1


@pytest.mark.usefixtures("without_window")
def test_the_thread_prunes_each_time_it_wakes(home: Path) -> None:
    _small_segments(home)
    with opened(home) as node:
        rounds = iter([False, True])
        keeping = Retention(node, wait=lambda _event, _seconds: next(rounds))
        keeping.start()
        keeping.stop()
        assert node.engine.first_block() == node.engine.head().height - 1


def _small_segments(home: Path) -> None:
    """Write the blocks again, one a segment."""
    with closing(SegmentBlocks(home / "ledger" / "segments")) as blocks:
        data = [blocks.read(height) for height in range(1, blocks.last_height() + 1)]
    shutil.rmtree(home / "ledger" / "segments")
    with closing(SegmentBlocks(home / "ledger" / "segments", segment_bytes=1)) as blocks:
        for height, block in enumerate(data, 1):
            blocks.append(height, block)
