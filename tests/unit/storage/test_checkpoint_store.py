"""The checkpoint store: what a witness signed is kept, the first note of a height stands, old ones thin out."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from yilian.crypto.intl import Ed25519Signer
from yilian.crypto.suite import sha256
from yilian.errors import VerificationError
from yilian.ledger.checkpoint import Checkpoint, Note, SignatureKind, cosign, sign
from yilian.storage.checkpoints import CheckpointStore, Seen, StoredAlert, StoredPromise
from yilian.values import HOUR, MINUTE, institution_id, unix_millis

SEQUENCER, WITNESS = (Ed25519Signer.from_seed(sha256(name)) for name in (b"sequencer", b"witness"))
INSTITUTION = institution_id(sha256(b"institution"))
START = unix_millis(HOUR * 500_000)
LOG, EXECUTED = SignatureKind.LOG, SignatureKind.EXECUTED


@pytest.fixture
def store(tmp_path: Path) -> Iterator[CheckpointStore]:
    opened = CheckpointStore(tmp_path / "checkpoints.db")
    yield opened
    opened.close()


def _note(height: int, *, time: int = 0, root: bytes = b"root") -> Note:
    checkpoint = Checkpoint(
        chain=sha256(b"chain"),
        log_size=10 * height,
        log_root=sha256(root, height.to_bytes(4, "big")),
        app_hash=sha256(b"app"),
        height=height,
        time=unix_millis(START + time),
    )
    return Note(checkpoint, (sign(checkpoint, SEQUENCER),))


def test_notes_are_found_by_height_and_size_and_survive(store: CheckpointStore, tmp_path: Path) -> None:
    notes = [_note(height) for height in (3, 1, 2)]
    for note in notes:
        store.keep(note)
    again = CheckpointStore(tmp_path / "checkpoints.db")
    assert (again.find(2), again.find(9), again.of_size(10), again.of_size(11)) == (notes[2], None, notes[1], None)
    assert (again.newest(limit=2), again.newest(limit=5, below=3)) == ([notes[0], notes[2]], [notes[2], notes[1]])
    assert again.largest() == notes[0]
    again.close()


def test_an_empty_store_has_nothing(store: CheckpointStore) -> None:
    assert (store.newest(), store.largest(), store.seen(INSTITUTION), store.alerts(), store.promises()) == (
        [],
        None,
        None,
        [],
        [],
    )


def test_the_first_note_of_a_height_stands(store: CheckpointStore) -> None:
    store.keep(_note(1))
    store.keep(_note(1, root=b"another"))
    assert store.find(1) == _note(1)


def test_of_each_witness_and_kind_the_newest_line_stays(store: CheckpointStore) -> None:
    note = _note(1)
    old, new, log = (
        cosign(note.checkpoint, kind, WITNESS, institution=INSTITUTION, now=unix_millis(START + later))
        for kind, later in ((EXECUTED, 0), (EXECUTED, HOUR), (LOG, MINUTE))
    )
    store.keep(note, [(EXECUTED, new)])
    store.keep(note, [(EXECUTED, old), (LOG, log)])
    found = store.find(1)
    assert found is not None
    assert found.lines == (*note.lines, new, log)


def test_what_a_witness_signed_is_kept_with_its_line(store: CheckpointStore) -> None:
    note = _note(4)
    line = cosign(note.checkpoint, EXECUTED, WITNESS, institution=INSTITUTION, now=START)
    seen = Seen(
        institution=INSTITUTION,
        height=4,
        log_size=40,
        log_root=note.checkpoint.log_root,
        kind=EXECUTED,
        time=START,
    )
    store.keep_signed(note, [(EXECUTED, line)], [seen])
    assert store.seen(INSTITUTION) == seen
    assert store.seen(institution_id(sha256(b"other"))) is None


def test_old_notes_thin_out_to_the_last_of_each_hour(store: CheckpointStore) -> None:
    for height in range(1, 13):
        note = _note(height, time=height * 20 * MINUTE)
        line = cosign(note.checkpoint, LOG, WITNESS, institution=INSTITUTION, now=START)
        store.keep(note, [(LOG, line)])
    assert store.prune(kept=3) == 6
    assert [note.checkpoint.height for note in store.newest(limit=20)] == [12, 11, 10, 8, 5, 2]
    assert store.prune(kept=100) == 0


def test_the_same_alert_is_kept_once(store: CheckpointStore) -> None:
    alert = StoredAlert(id=0, kind="ROLLBACK", time=START, text="found", first=b"one", second=b"")
    assert [store.add_alert(name, alert) for name in (b"a" * 32, b"a" * 32, b"b" * 32)] == [True, False, True]
    assert [one.kind for one in store.alerts()] == ["ROLLBACK", "ROLLBACK"]
    first = store.alerts()[0]
    assert [one.id for one in store.alerts(after=first.id)] == [store.alerts()[1].id]


def test_promises_are_kept_until_they_are_dropped(store: CheckpointStore) -> None:
    one, two = (
        StoredPromise(digest=sha256(name), include_by=unix_millis(START + due), since=7, promise=name)
        for name, due in ((b"one", 5), (b"two", 3))
    )
    store.keep_promise(one)
    store.keep_promise(two)
    store.keep_promise(one)
    assert store.promises() == [two, one]
    store.drop_promises([two.digest])
    assert store.promises() == [one]


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "checkpoints.db").write_bytes(b"no database" * 100)
    with pytest.raises(VerificationError, match="restore it"):
        CheckpointStore(tmp_path / "checkpoints.db")
