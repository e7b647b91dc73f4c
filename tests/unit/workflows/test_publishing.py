"""Own records: sealed, numbered, published, replaced, restricted, withdrawn; and what survives a crash."""

from __future__ import annotations

import io
import os
from pathlib import Path

import pytest

from yilian.crypto.intl import generate_x25519, hpke_unwrap
from yilian.crypto.tags import entry_id as derive_entry_id
from yilian.crypto.tags import subject_key_info, subject_tag
from yilian.engine.gateway import Signed
from yilian.errors import ConflictError, NotFoundError, Refused, SettingsError, VerificationError
from yilian.ledger.members import Role
from yilian.ledger.results import Answer
from yilian.node.compose import Node
from yilian.node.host import Host
from yilian.storage.vault.records import RecordStatus
from yilian.storage.vault.subjects import Subject, new_subject_ref
from yilian.values import day_from_civil, day_of, month_of
from yilian.workflows.catalog.model import RESTRICTED, Entry, EntryState, Origin
from yilian.workflows.catalog.opening import (
    SMALL_FILE,
    NewSummary,
    give_back,
    keep_received,
    keep_summaries,
    mark_imported,
    open_copy,
    open_record,
    open_summary,
    publish_file,
    register_wallet,
    verify_record,
)
from yilian.workflows.catalog.service import (
    Label,
    NewRecord,
    now,
    prepare_records,
    publish_prepared,
    publish_records,
    replace_record,
    restrict_subject,
    timely_since,
    withdraw,
)

MARCH = month_of(day_from_civil(2026, 3, 1))


@pytest.fixture
def host(lasting_node: Node) -> Host:
    return lasting_node.host("centre")


def _subject(host: Host) -> bytes:
    subject = Subject(subject_ref=new_subject_ref(), identity=b"{}", identifiers=(os.urandom(8).hex(),))
    host.vault.subjects.put([subject])
    return subject.subject_ref


def _record(subject_ref: bytes, payload: bytes = b'{"value": 1.50}', level: int = 4) -> NewRecord:
    return NewRecord(subject_ref=subject_ref, payload=payload, kind="C0002", level=level, month=MARCH)


def _state(host: Host, entry_id: bytes) -> str:
    found = host.gateway.find(Entry, entry_id)
    assert found is not None
    return found.state


def test_tags_are_numbered_under_one_random_key_a_patient_and_year(host: Host) -> None:
    one, other = _subject(host), _subject(host)
    entries = publish_records(host, [_record(one), _record(other), _record(one)])
    (key,) = host.vault.subjects.keys_of(one)
    (another,) = host.vault.subjects.keys_of(other)
    assert key.key != another.key
    assert (key.next_j, another.next_j) == (2, 1)
    chain = host.gateway.engine.chain
    assert [entries[0], entries[2]] == [derive_entry_id(chain, host.id, subject_tag(key.key, j)) for j in (0, 1)]


def test_bytes_come_back_as_received(host: Host) -> None:
    (entry_id,) = publish_records(host, [_record(_subject(host))])
    assert open_record(host, entry_id) == b'{"value": 1.50}'
    assert verify_record(host, entry_id).state == EntryState.CURRENT


def test_level_five_shows_four_on_the_ledger(host: Host) -> None:
    (entry_id,) = publish_records(host, [_record(_subject(host), level=5)])
    found = host.gateway.find(Entry, entry_id)
    assert found is not None
    assert found.fields.level == 4
    assert host.vault.records.get(entry_id).level == 5


def test_nothing_is_kept_of_a_kind_that_the_chain_does_not_list(host: Host) -> None:
    before = host.vault.records.count()
    with pytest.raises(SettingsError):
        publish_records(host, [_record(_subject(host)), NewRecord(
            subject_ref=_subject(host), payload=b"{}", kind="C0001", level=4, month=MARCH
        )])  # fmt: skip
    assert host.vault.records.count() == before


def test_what_was_prepared_before_a_crash_is_published_with_the_same_number(host: Host) -> None:
    subject_ref = _subject(host)
    prepared = prepare_records(host, [_record(subject_ref), _record(subject_ref)])
    assert all(host.gateway.find(Entry, entry_id) is None for entry_id in prepared)
    assert publish_prepared(host).landed == 2
    assert {_state(host, entry_id) for entry_id in prepared} == {EntryState.CURRENT}
    assert publish_prepared(host).landed == 0


def test_an_answer_that_was_lost_is_found_on_the_ledger(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    send = type(host.gateway).send
    lost: list[Answer] = []

    def deaf(gateway: object, operations: list[Signed]) -> list[Answer]:
        lost.extend(send(gateway, operations))
        raise ConnectionError

    prepared = prepare_records(host, [_record(_subject(host))])
    monkeypatch.setattr(type(host.gateway), "send", deaf)
    with pytest.raises(ConnectionError):
        publish_prepared(host)
    monkeypatch.undo()
    assert lost[0].ok
    assert publish_prepared(host).refused == ()
    assert host.vault.records.get(prepared[0]).status == RecordStatus.PUBLISHED


def test_a_replacement_never_falls_in_level(host: Host) -> None:
    subject_ref = _subject(host)
    (old,) = publish_records(host, [_record(subject_ref, level=4)])
    new = replace_record(host, old, _record(subject_ref, b"{}", level=2))
    found = host.gateway.find(Entry, new)
    assert found is not None
    assert (found.fields.level, found.fields.replaces) == (4, old)
    assert _state(host, old) == EntryState.SUPERSEDED
    assert host.vault.records.get(old).status == RecordStatus.REPLACED
    with pytest.raises(Refused):
        replace_record(host, old, _record(subject_ref, b"[]"))
    with pytest.raises(NotFoundError):
        replace_record(host, new[::-1], _record(subject_ref))


def test_a_general_no_lies_on_all_entries_of_the_patient_and_on_no_other(host: Host) -> None:
    one, other = _subject(host), _subject(host)
    entries = publish_records(host, [_record(one), _record(one), _record(other)])
    assert sorted(restrict_subject(host, one)) == sorted(entries[:2])
    flags = []
    for entry_id in entries:
        found = host.gateway.find(Entry, entry_id)
        assert found is not None
        flags.append(RESTRICTED in found.header.flags)
    assert flags == [True, True, False]
    restrict_subject(host, one, lift=True)
    found = host.gateway.find(Entry, entries[0])
    assert found is not None
    assert not found.header.flags


def test_an_officer_withdraws(host: Host) -> None:
    (entry_id,) = publish_records(host, [_record(_subject(host))])
    withdraw(host, entry_id, host.person(Role.DATA_OFFICER).signer)
    assert _state(host, entry_id) == EntryState.WITHDRAWN
    assert host.vault.records.get(entry_id).status == RecordStatus.WITHDRAWN


def test_a_flipped_byte_is_found(host: Host) -> None:
    (entry_id,) = publish_records(host, [_record(_subject(host))])
    root = host.vault.records.get(entry_id).root
    with host.blobs.open(root) as blob:
        content = bytearray(blob.read())
    content[-1] ^= 1
    host.blobs.put(root, bytes(content))
    with pytest.raises(VerificationError):
        verify_record(host, entry_id)
    with pytest.raises(VerificationError):
        open_record(host, entry_id)


def test_an_erased_record_opens_no_more(host: Host) -> None:
    (entry_id,) = publish_records(host, [_record(_subject(host))])
    host.vault.records.erase(entry_id)
    with pytest.raises(ConflictError):
        verify_record(host, entry_id)


def test_files_small_and_large_are_kept_once_and_given_back_as_received(host: Host, tmp_path: Path) -> None:
    contents = [b"one", os.urandom(SMALL_FILE + 5), b"two", b"one"]
    paths = []
    for number, content in enumerate(contents):
        paths.append(tmp_path / f"{number}.json")
        paths[-1].write_bytes(content)
    kept = keep_received(host, paths)
    assert [known for _, known in kept] == [False, False, False, True]
    assert [known for _, known in keep_received(host, paths)] == [True] * 4
    for (file, _), content in zip(kept, contents, strict=True):
        out = io.BytesIO()
        assert give_back(host, file.digest, out) == len(content)
        assert out.getvalue() == content
    mark_imported(host, [kept[0][0]])
    again = host.vault.records.find_file(kept[0][0].digest)
    assert again is not None
    assert again.is_imported
    with pytest.raises(NotFoundError):
        give_back(host, bytes(32), io.BytesIO())


def test_a_summary_takes_the_place_of_the_one_before(host: Host) -> None:
    subject_ref = _subject(host)
    assert open_summary(host, subject_ref) is None
    first = NewSummary(subject_ref=subject_ref, payload=b"[1]", level=4)
    assert keep_summaries(host, [first]) == 1
    assert keep_summaries(host, [first]) == 0
    kept = host.vault.records.find_summary(subject_ref)
    assert kept is not None
    assert keep_summaries(host, [NewSummary(subject_ref=subject_ref, payload=b"[2]", level=5)]) == 1
    assert open_summary(host, subject_ref) == b"[2]"
    assert not host.blobs.exists(kept.root)


def test_a_copy_that_was_never_delivered_is_not_found(host: Host) -> None:
    (entry_id,) = publish_records(host, [_record(_subject(host))])
    with pytest.raises(NotFoundError):
        open_copy(host, entry_id)


def test_a_large_file_is_published_from_disk(host: Host, tmp_path: Path) -> None:
    file = tmp_path / "study.bin"
    file.write_bytes(os.urandom((3 << 20) + 17))
    label = Label(
        subject_ref=_subject(host), kind="C0006", level=4, month=MARCH, content_type="application/octet-stream"
    )
    with file.open("rb") as source:
        entry_id = publish_file(host, label, source)
    assert open_record(host, entry_id) == file.read_bytes()
    assert verify_record(host, entry_id).true_size == file.stat().st_size
    assert not host.blobs.partials()


def test_a_file_that_changes_while_it_is_read_is_not_published(host: Host) -> None:
    class Restless(io.BytesIO):
        def seek(self, offset: int, whence: int = 0) -> int:
            self.getbuffer()[0] ^= 1
            return super().seek(offset, whence)

    before = host.vault.records.count()
    label = Label(subject_ref=_subject(host), kind="C0006", level=4, month=MARCH)
    with pytest.raises(ConflictError):
        publish_file(host, label, Restless(bytes(5000)))
    assert host.vault.records.count() == before


def test_the_keys_in_a_wallet_enumerate_exactly_the_patients_entries(host: Host) -> None:
    one, other = _subject(host), _subject(host)
    entries = publish_records(host, [_record(one), _record(other), _record(one)])
    wallet = generate_x25519()
    (sealed,) = register_wallet(host, one, wallet.public_key)
    chain = host.gateway.engine.chain
    info = subject_key_info(chain, sealed.custodian, sealed.year)
    key = hpke_unwrap(wallet.private_key, sealed.wrapped, info)
    found = [
        entry_id
        for j in range(64)
        if host.gateway.find(Entry, entry_id := derive_entry_id(chain, sealed.custodian, subject_tag(key, j)))
    ]
    assert sorted(found) == sorted([entries[0], entries[2]])
    with pytest.raises(VerificationError):
        hpke_unwrap(generate_x25519().private_key, sealed.wrapped, info)


def test_an_event_of_yesterday_is_timely_and_one_of_three_days_ago_is_late(host: Host) -> None:
    today = day_of(now(host))
    assert today - 2 <= timely_since(host) <= today - 1
    assert timely_since(host, Origin.DEVICE) >= timely_since(host)
