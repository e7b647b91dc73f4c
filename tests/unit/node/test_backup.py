"""Backup while a node works, and restoring: nothing acknowledged is missing, nothing damaged is used."""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import pytest

from yilian import canonical
from yilian.crypto import cose
from yilian.crypto.intl import Ed25519Signer
from yilian.errors import ConflictError, NotFoundError, SettingsError, VerificationError
from yilian.node import backup
from yilian.node.backup import Made, closed_sources, make_backup, sources_of
from yilian.node.check import Counts, no_progress
from yilian.node.checking import check_all
from yilian.node.compose import Node, now, open_node
from yilian.node.home import Home
from yilian.node.host import Host
from yilian.node.restore import RESTORED_FILE, restore_backup
from yilian.node.settings import Settings
from yilian.storage.container import ContainerWriter, read_container
from yilian.storage.vault.subjects import Subject, new_subject_ref
from yilian.values import EntryId, day_from_civil, month_of
from yilian.workflows.catalog.opening import open_record
from yilian.workflows.catalog.service import NewRecord, publish_records

MARCH = month_of(day_from_civil(2026, 3, 1))
PASSPHRASE = b"correct horse battery"
SETTINGS = Settings(engine=msgspec.structs.replace(Settings().engine, second_core=False))


@contextmanager
def opened(path: Path) -> Iterator[Node]:
    node = open_node(Home(path), SETTINGS)
    try:
        yield node
    finally:
        node.close()


def publish(host: Host, number: int) -> tuple[EntryId, bytes]:
    subject = Subject(subject_ref=new_subject_ref(), identity=b"{}", identifiers=(os.urandom(8).hex(),))
    host.vault.subjects.put([subject])
    payload = b'{"value": %d}' % number
    record = NewRecord(subject_ref=subject.subject_ref, payload=payload, kind="C0002", level=4, month=MARCH)
    return publish_records(host, [record])[0], payload


class Load(threading.Thread):
    """Publishes one record after the other, and keeps what was acknowledged with its height."""

    def __init__(self, node: Node) -> None:
        super().__init__(name="load")
        self._node = node
        self.acknowledged: list[tuple[EntryId, bytes, int]] = []
        self.enough, self.stopping = threading.Event(), threading.Event()

    def run(self) -> None:
        host = self._node.host("centre")
        while not self.stopping.is_set():
            entry, payload = publish(host, len(self.acknowledged))
            found = self._node.engine.find_case(entry)
            assert found is not None
            self.acknowledged.append((entry, payload, found[1].header.opened_height))
            if len(self.acknowledged) == 5:
                self.enough.set()


def restore_beside(home: Path, file: Path, new: Path, *, thorough: bool = False) -> Home:
    shutil.copy2(home.with_name(f"{home.name}.passphrase"), new.with_name(f"{new.name}.passphrase"))
    restore_backup(file, Home(new), PASSPHRASE, thorough=thorough)
    return Home(new)


@pytest.fixture(scope="module")
def quiet(founded_home: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Made]:
    """Give a closed home with three records and a backup of it."""
    folder = tmp_path_factory.mktemp("quiet")
    home = folder / "home"
    shutil.copytree(founded_home, home)
    shutil.copy2(founded_home.with_name("home.passphrase"), folder / "home.passphrase")
    with opened(home) as node:
        for number in range(3):
            publish(node.host("centre"), number)
    with closed_sources(Home(home), SETTINGS, "hospital", now()) as sources:
        made = make_backup(sources, folder / "one.yilian-backup", PASSPHRASE)
    return home, folder / "one.yilian-backup", made


def test_a_backup_made_under_load_restores_everything_acknowledged_before_its_height(
    records_node: Node, tmp_path: Path
) -> None:
    load = Load(records_node)
    load.start()
    assert load.enough.wait(60)
    made = make_backup(sources_of(records_node, records_node.host("centre")), tmp_path / "b.yilian-backup", PASSPHRASE)
    during = len(load.acknowledged)
    load.stopping.set()
    load.join(60)
    app_hash = (
        records_node.engine.block(made.height + 1)[0].app_hash
        if records_node.engine.head().height > made.height
        else records_node.engine.head().app_hash
    )
    records_node.close()
    passphrase = (tmp_path / "home.passphrase").read_bytes()
    for path in list(tmp_path.iterdir()):
        if path.name != "b.yilian-backup":
            shutil.rmtree(path) if path.is_dir() else path.unlink()

    (tmp_path / "home.passphrase").write_bytes(passphrase)
    restored = restore_backup(tmp_path / "b.yilian-backup", Home(tmp_path / "home"), PASSPHRASE, thorough=True)
    (tmp_path / "home" / RESTORED_FILE).unlink()
    with opened(tmp_path / "home") as node:
        host = node.host("centre")
        before = [one for one in load.acknowledged if one[2] <= made.height]
        assert (restored.height, restored.app_hash) == (made.height, app_hash.hex())
        assert 5 <= len(before) <= during
        assert [open_record(host, entry) for entry, _, _ in before] == [payload for _, payload, _ in before]
        assert open_record(host, publish(host, 99)[0]) == b'{"value": 99}'
        assert node.engine.head().height == made.height + 1


def test_a_restored_home_holds_all_of_the_old_one_and_checks(quiet: tuple[Path, Path, Made], tmp_path: Path) -> None:
    home, file, made = quiet
    new = restore_beside(home, file, tmp_path / "new")
    assert list(check_all(new, SETTINGS, Counts(), no_progress)) == []
    assert (new.path / RESTORED_FILE).is_file()
    missing = {
        path.relative_to(home).as_posix()
        for path in home.rglob("*")
        if path.is_file() and not (new.path / path.relative_to(home)).is_file()
    }
    assert missing <= {"index.db", "index.db-wal", "index.db-shm", "lock", "node.log"}
    assert made.blobs == 3


def test_the_list_of_records_alone_can_be_kept(quiet: tuple[Path, Path, Made], tmp_path: Path) -> None:
    home, _, _ = quiet
    file = tmp_path / "small.yilian-backup"
    with closed_sources(Home(home), SETTINGS, "", now()) as sources:
        made = make_backup(sources, file, PASSPHRASE, with_blobs=False)
    new = restore_beside(home, file, tmp_path / "new")
    assert made.blobs == 3
    assert not list(new.path.glob("institutions/*/blobs/??/*"))
    found = list(check_all(new, SETTINGS, Counts(), no_progress))
    assert [finding.area for finding in found] == ["blob"] * 3


def test_without_the_keystores_passphrase_a_home_is_restored_and_says_that_no_vault_was_opened(
    quiet: tuple[Path, Path, Made], tmp_path: Path
) -> None:
    _, file, _ = quiet
    assert restore_backup(file, Home(tmp_path / "new"), PASSPHRASE).vaults == 0
    with pytest.raises(SettingsError, match=r"other\.passphrase is absent"):
        restore_backup(file, Home(tmp_path / "other"), PASSPHRASE, thorough=True)
    assert not (tmp_path / "other").exists()


def test_another_passphrase_opens_nothing(quiet: tuple[Path, Path, Made], tmp_path: Path) -> None:
    _, file, _ = quiet
    with pytest.raises(SettingsError, match="passphrase does not open"):
        restore_backup(file, Home(tmp_path / "new"), b"another passphrase")
    assert list(tmp_path.iterdir()) == []


def test_a_home_that_exists_and_a_backup_that_does_not_are_named(
    quiet: tuple[Path, Path, Made], tmp_path: Path
) -> None:
    home, file, _ = quiet
    with pytest.raises(ConflictError, match="exists already"):
        restore_backup(file, Home(home), PASSPHRASE)
    with pytest.raises(NotFoundError, match="there is no backup"):
        restore_backup(tmp_path / "none", Home(tmp_path / "new"), PASSPHRASE)
    (tmp_path / "text").write_text("not a backup at all")
    with pytest.raises(VerificationError, match="does not begin as a backup"):
        restore_backup(tmp_path / "text", Home(tmp_path / "new"), PASSPHRASE)


def test_a_backup_is_never_written_over_and_wants_a_long_passphrase(
    quiet: tuple[Path, Path, Made], tmp_path: Path
) -> None:
    home, file, _ = quiet
    with closed_sources(Home(home), SETTINGS, "", now()) as sources:
        with pytest.raises(SettingsError, match="exists already"):
            make_backup(sources, file, PASSPHRASE)
        with pytest.raises(SettingsError, match="at least 12"):
            make_backup(sources, tmp_path / "b", b"short")
    assert list(tmp_path.iterdir()) == []


def test_every_sampled_byte_that_is_flipped_is_refused_by_name(quiet: tuple[Path, Path, Made], tmp_path: Path) -> None:
    home, file, _ = quiet
    content = file.read_bytes()
    shutil.copy2(home.with_name("home.passphrase"), tmp_path / "new.passphrase")
    places = [0, 9, 13, 200, 300, 420, *range(1000, len(content), len(content) // 40), len(content) - 1]
    for place in places:
        changed = bytearray(content)
        changed[place] ^= 1
        bad = tmp_path / "bad.yilian-backup"
        bad.write_bytes(changed)
        with pytest.raises((VerificationError, SettingsError), match=r"part|passphrase|backup"):
            restore_backup(bad, Home(tmp_path / "new"), PASSPHRASE)
        bad.unlink()
        assert [path.name for path in tmp_path.iterdir()] == ["new.passphrase"]


def test_a_cut_backup_is_refused(quiet: tuple[Path, Path, Made], tmp_path: Path) -> None:
    _, file, _ = quiet
    content = file.read_bytes()
    for length in (4, 100, 400, len(content) // 2, len(content) - 1):
        (tmp_path / "cut").write_bytes(content[:length])
        with pytest.raises((VerificationError, SettingsError)):
            restore_backup(tmp_path / "cut", Home(tmp_path / "new"), PASSPHRASE)
    (tmp_path / "cut").write_bytes(content + b"\0")
    with pytest.raises(VerificationError, match="bytes follow"):
        restore_backup(tmp_path / "cut", Home(tmp_path / "new"), PASSPHRASE)
    assert [path.name for path in tmp_path.iterdir()] == ["cut"]


def rewritten(file: Path, out: Path, changes: dict[str, bytes], signer: Ed25519Signer | None = None) -> Path:
    """Write a backup again as who knows its passphrase could: with other parts, and a manifest that fits them."""
    with ContainerWriter(out, PASSPHRASE) as writer:
        for part in read_container(file, PASSPHRASE):
            content = part.content()
            if part.name != "manifest":
                writer.add_bytes(part.name, changes.get(part.name, content))
                continue
            signed = canonical.decode(content, backup.SignedManifest)
            manifest = canonical.decode(signed.manifest, backup.BackupManifest)
            manifest = msgspec.structs.replace(manifest, parts=tuple(writer.parts))
            signature = cose.sign1(manifest.digest, backup.TAG, signer) if signer else signed.signature
            writer.finish(
                canonical.encode(
                    msgspec.structs.replace(signed, manifest=canonical.encode(manifest), signature=signature)
                )
            )
    return out


def test_a_changed_part_under_a_right_passphrase_is_found_by_what_it_says(
    quiet: tuple[Path, Path, Made], tmp_path: Path
) -> None:
    home, file, _ = quiet
    key = home / "institutions" / "centre" / "keys" / "gateway.key"
    attempts = [
        ({f"institutions/centre/keys/{key.name}": key.read_bytes()[:-1] + b"\0"}, "is not signed by gateway key"),
        ({"ledger/genesis.cbor": b"\x80"}, "no GenesisFile"),
        ({"snapshot/00000.gz": b"\0"}, "chunk 0 is not of"),
        ({"snapshot/manifest.cbor": b"\x80"}, "no Manifest"),
    ]
    for number, (changes, words) in enumerate(attempts):
        bad = rewritten(file, tmp_path / f"bad{number}", changes)
        with pytest.raises(VerificationError, match=words):
            restore_backup(bad, Home(tmp_path / "new"), PASSPHRASE)
        assert not (tmp_path / "new").exists()


def test_a_backup_signed_by_a_stranger_is_refused(quiet: tuple[Path, Path, Made], tmp_path: Path) -> None:
    _, file, _ = quiet
    bad = rewritten(file, tmp_path / "bad", {}, Ed25519Signer.generate())
    with pytest.raises(VerificationError, match="is not signed by gateway key"):
        restore_backup(bad, Home(tmp_path / "new"), PASSPHRASE)
    assert not (tmp_path / "new").exists()


def test_an_older_backup_restores_the_older_height(quiet: tuple[Path, Path, Made], tmp_path: Path) -> None:
    home, file, made = quiet
    copy = tmp_path / "home"
    shutil.copytree(home, copy)
    shutil.copy2(home.with_name("home.passphrase"), tmp_path / "home.passphrase")
    with opened(copy) as node:
        publish(node.host("centre"), 7)
    with closed_sources(Home(copy), SETTINGS, "", now()) as sources:
        newer = make_backup(sources, tmp_path / "two.yilian-backup", PASSPHRASE)
    old = restore_backup(file, Home(tmp_path / "old"), PASSPHRASE)
    new = restore_backup(tmp_path / "two.yilian-backup", Home(tmp_path / "new"), PASSPHRASE)
    assert (old.height, new.height) == (made.height, newer.height) == (made.height, made.height + 1)


def test_a_restore_that_was_killed_leaves_no_home_and_the_next_one_sweeps(
    quiet: tuple[Path, Path, Made], tmp_path: Path
) -> None:
    _, file, _ = quiet
    left = tmp_path / "new.restoring-0123"
    left.mkdir()
    (left / "node.toml").write_text("half")
    restore_backup(file, Home(tmp_path / "new"), PASSPHRASE)
    assert [path.name for path in tmp_path.iterdir()] == ["new"]


def test_a_running_node_is_not_backed_up_from_outside(records_node: Node) -> None:
    with pytest.raises(ConflictError, match="open already"), closed_sources(records_node.home, SETTINGS, "", now()):
        pass
