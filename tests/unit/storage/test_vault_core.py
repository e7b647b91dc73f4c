"""The vault's engine: sealing, transactions, checking."""

from __future__ import annotations

import sqlite3
import stat
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from yilian.errors import ConflictError, NotFoundError, SettingsError, VerificationError
from yilian.ledger.claims import make_claims
from yilian.storage.vault import Vault
from yilian.storage.vault.records import Record, RecordStatus
from yilian.storage.vault.subjects import Subject
from yilian.values import case_id, digest, op_id

KEY = bytes(range(32))
SUBJECT_REF = b"s" * 16
SECRETS = (b"data key that nobody may see ...", b"urn:encounter:one", b"Plain Person", b"urn:id|0001")


@pytest.fixture
def vault(tmp_path: Path) -> Iterator[Vault]:
    opened = Vault(tmp_path / "vault.db", KEY)
    yield opened
    opened.close()


def record(number: int = 1) -> Record:
    return Record(
        entry_id=case_id(bytes([number]) * 32),
        root=digest(bytes([number + 100]) * 32),
        data_key=SECRETS[0],
        salt=b"salt" * 8,
        level=5,
        true_size=1234,
        subject_ref=SUBJECT_REF,
        year=2026,
        j=number,
        source=b"f" * 32,
        encounter=SECRETS[1].decode(),
        canonical=b"c" * 32,
        kind="C0001",
        status=RecordStatus.PREPARED,
    )


def subject() -> Subject:
    return Subject(subject_ref=SUBJECT_REF, identity=SECRETS[2], identifiers=(SECRETS[3].decode(),))


def change(path: Path, statement: str) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(statement)
        connection.commit()


def test_a_row_comes_back_after_opening_again(tmp_path: Path, vault: Vault) -> None:
    vault.records.insert([record()])
    vault.close()
    with closing(Vault(tmp_path / "vault.db", KEY)) as again:
        assert again.records.get(record().entry_id) == record()


def test_nothing_sensitive_stands_in_the_files(tmp_path: Path, vault: Vault) -> None:
    vault.records.insert([record()])
    vault.subjects.put([subject()])
    content = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    assert bytes(record().entry_id) in content
    assert [secret for secret in (*SECRETS, SUBJECT_REF) if secret in content] == []


def test_files_are_the_owners(tmp_path: Path, vault: Vault) -> None:
    vault.records.insert([record()])
    assert {stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()} == {0o600}


@pytest.mark.parametrize("key", [b"short", bytes(32)], ids=["length", "another"])
def test_another_key_is_a_setting_to_correct(tmp_path: Path, vault: Vault, key: bytes) -> None:
    with pytest.raises(SettingsError, match="key"):
        Vault(tmp_path / "vault.db", key)


def test_a_taken_key_is_a_conflict_and_none_of_the_rows_is_added(vault: Vault) -> None:
    vault.records.insert([record(1)])
    with pytest.raises(ConflictError):
        vault.records.insert([record(2), record(1)])
    assert vault.records.count() == 1


def test_a_missing_row_is_not_found(vault: Vault) -> None:
    with pytest.raises(NotFoundError, match="01" * 32):
        vault.records.get(record().entry_id)


def write_three_tables_and_fail(vault: Vault) -> None:
    with vault.transaction():
        vault.records.insert([record()])
        vault.subjects.put([subject()])
        vault.access.set_cursor("push", 7)
        assert (vault.records.count(), vault.access.cursor("push")) == (1, 7)
        raise RuntimeError("the step after failed")


def test_a_transaction_is_whole_or_nothing(vault: Vault) -> None:
    with pytest.raises(RuntimeError, match="the step after"):
        write_three_tables_and_fail(vault)
    assert (vault.records.count(), vault.subjects.count(), vault.access.cursor("push")) == (0, 0, 0)


def test_other_threads_see_only_what_is_committed(vault: Vault) -> None:
    seen: list[int] = []
    with vault.transaction():
        vault.records.insert([record()])
        reader = threading.Thread(target=lambda: seen.append(vault.records.count()))
        reader.start()
        reader.join()
    assert (seen, vault.records.count()) == ([0], 1)


def test_writers_of_many_threads_take_turns(vault: Vault) -> None:
    def write(first: int) -> None:
        for number in range(first, first + 10):
            vault.records.insert([record(number)])

    threads = [threading.Thread(target=write, args=(first,)) for first in (0, 10, 20, 30)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (vault.records.count(), vault.find_damage()) == (40, [])


def test_a_whole_vault_has_no_damage(tmp_path: Path, vault: Vault) -> None:
    vault.records.insert([record()])
    vault.close()
    assert Vault.check(tmp_path / "vault.db", KEY) == []


@pytest.mark.parametrize(
    "statement",
    [
        pytest.param("UPDATE records SET sealed = zeroblob(length(sealed))", id="sealed"),
        pytest.param("UPDATE records SET sealed = x''", id="empty"),
        pytest.param("UPDATE records SET status = 'PUBLISHED'", id="status"),
        pytest.param("UPDATE records SET encounter = zeroblob(32)", id="encounter"),
        pytest.param("UPDATE records SET entry_id = x'" + "01" * 31 + "02'", id="key"),
    ],
)
def test_a_row_changed_from_outside_is_found(tmp_path: Path, vault: Vault, statement: str) -> None:
    vault.records.insert([record()])
    vault.close()
    change(tmp_path / "vault.db", statement)
    problems = Vault.check(tmp_path / "vault.db", KEY)
    assert ["vault table records, row 0101" in line for line in problems] == [True]
    with closing(Vault(tmp_path / "vault.db", KEY)) as again, pytest.raises(VerificationError, match="backup"):
        list(again.records.each())


def test_a_file_of_another_kind_is_no_vault(tmp_path: Path) -> None:
    path = tmp_path / "vault.db"
    path.write_bytes(b"this is no database at all" * 100)
    assert "not a database" in Vault.check(path, KEY)[0]
    with pytest.raises(NotFoundError):
        Vault.check(tmp_path / "none.db", KEY)


def test_a_vault_of_another_release_is_left_alone(tmp_path: Path, vault: Vault) -> None:
    vault.close()
    change(tmp_path / "vault.db", "UPDATE meta SET value = x'00000009' WHERE name = 'schema'")
    with pytest.raises(SettingsError, match="schema 9"):
        Vault(tmp_path / "vault.db", KEY)


def test_a_vault_of_an_earlier_release_gets_the_tables_that_it_lacks(tmp_path: Path, vault: Vault) -> None:
    vault.records.insert([record()])
    vault.close()
    change(tmp_path / "vault.db", "DROP TABLE claims")

    with closing(Vault(tmp_path / "vault.db", KEY)) as opened:
        kept = opened.claims.keep(op_id(bytes(16)), make_claims({"batch": "B-17"}, [bytes(32)]))

        assert opened.claims.of(op_id(bytes(16))) == kept
        assert opened.records.find(case_id(bytes([1]) * 32)) == record()


def test_what_was_erased_is_in_no_file_any_more(tmp_path: Path, vault: Vault) -> None:
    vault.records.insert([record()])
    with closing(sqlite3.connect(tmp_path / "vault.db")) as connection:
        (sealed,) = connection.execute("SELECT sealed FROM records").fetchone()
    assert sealed in b"".join(path.read_bytes() for path in tmp_path.iterdir())
    with vault.transaction():
        vault.records.erase(record().entry_id)
    content = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    assert sealed not in content
    assert vault.records.get(record().entry_id).data_key == b""


def test_a_blind_index_depends_on_domain_value_and_key(tmp_path: Path, vault: Vault) -> None:
    with closing(Vault(tmp_path / "other.db", bytes(32))) as other:
        indexes = {vault.blind("a", b"1"), vault.blind("b", b"1"), vault.blind("a", b"2"), other.blind("a", b"1")}
    assert len(indexes) == 4
    assert vault.blind("a", b"1") in indexes


def test_deleting_needs_a_condition(vault: Vault) -> None:
    with pytest.raises(ValueError, match="no condition"):
        vault.tables[0].delete()
