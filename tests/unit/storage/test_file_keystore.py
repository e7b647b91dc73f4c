"""Keys in encrypted files."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from yilian.crypto import suite
from yilian.errors import ConflictError, NotFoundError, SettingsError, VerificationError
from yilian.storage.keystore import FileKeystore, find_damage, verify_file

PASSPHRASE = b"correct horse"
SECRET = b"a secret of 23 bytes ok"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("home") / "keys"
    keystore = FileKeystore(folder, PASSPHRASE)
    keystore.create("gateway.wrap", SECRET)
    keystore.create_signer("gateway")
    return folder


@pytest.fixture
def folder(made: Path, tmp_path: Path) -> Path:
    copy = tmp_path / "keys"
    copy.mkdir()
    for path in made.iterdir():
        (copy / path.name).write_bytes(path.read_bytes())
    return copy


def test_a_secret_comes_back_under_the_passphrase(folder: Path) -> None:
    keystore = FileKeystore(folder, PASSPHRASE)
    assert (keystore.load("gateway.wrap"), keystore.names()) == (SECRET, ["gateway", "gateway.wrap"])


def test_a_signer_comes_back_as_the_same_key(folder: Path) -> None:
    first, second = (FileKeystore(folder, PASSPHRASE).load_signer("gateway") for _ in range(2))
    assert first.key_id == second.key_id
    assert suite.verify(first.suite, first.public_key, b"message", second.sign(b"message"))


def test_no_secret_stands_in_the_files(folder: Path) -> None:
    assert [path.name for path in folder.iterdir() if SECRET in path.read_bytes()] == []


def test_files_are_the_owners(made: Path) -> None:
    assert {stat.S_IMODE(path.stat().st_mode) for path in made.iterdir()} == {0o600}
    assert stat.S_IMODE(made.stat().st_mode) == 0o700


@pytest.mark.parametrize("passphrase", [b"", b"wrong horse"])
def test_another_passphrase_is_a_setting_to_correct(folder: Path, passphrase: bytes) -> None:
    with pytest.raises(SettingsError, match="passphrase"):
        FileKeystore(folder, passphrase)


def test_a_key_is_never_overwritten(folder: Path) -> None:
    keystore = FileKeystore(folder, PASSPHRASE)
    with pytest.raises(ConflictError):
        keystore.create("gateway", SECRET)
    with pytest.raises(ConflictError):
        keystore.create("master", SECRET)


@pytest.mark.parametrize("name", ["officer", "master"])
def test_a_key_that_is_not_there_is_not_found(folder: Path, name: str) -> None:
    keystore = FileKeystore(folder, PASSPHRASE)
    with pytest.raises(NotFoundError):
        keystore.load(name)
    with pytest.raises(NotFoundError):
        keystore.delete(name)


@pytest.mark.parametrize("name", ["", "../up", "a/b", ".hidden", "x" * 129])
def test_a_key_has_a_plain_name(folder: Path, name: str) -> None:
    with pytest.raises(ValueError, match="key name"):
        FileKeystore(folder, PASSPHRASE).load(name)


def test_a_deleted_key_is_gone(folder: Path) -> None:
    keystore = FileKeystore(folder, PASSPHRASE)
    keystore.delete("gateway")
    assert keystore.names() == ["gateway.wrap"]


@pytest.mark.parametrize("name", ["master", "gateway", "gateway.wrap"])
@pytest.mark.parametrize("offset", [0, 8, 39, 40, -1])
def test_a_flipped_byte_is_found_without_the_passphrase(folder: Path, name: str, offset: int) -> None:
    path = folder / f"{name}.key"
    content = bytearray(path.read_bytes())
    content[offset] ^= 0x01
    path.write_bytes(content)
    assert [str(path) in line for line in find_damage(folder)] == [True]
    with pytest.raises(VerificationError, match="checksum"):
        verify_file(path)
    with pytest.raises(VerificationError, match="checksum"):
        FileKeystore(folder, PASSPHRASE).load(name)


def test_a_whole_keystore_has_no_damage(folder: Path) -> None:
    assert find_damage(folder) == []


def test_files_that_changed_names_do_not_open(folder: Path) -> None:
    (folder / "gateway.wrap.key").replace(folder / "gateway.key")
    with pytest.raises(VerificationError, match="does not open as gateway"):
        FileKeystore(folder, PASSPHRASE).load("gateway")


def test_a_lost_master_key_is_not_made_anew(folder: Path) -> None:
    (folder / "master.key").unlink()
    with pytest.raises(VerificationError, match="restore it"):
        FileKeystore(folder, PASSPHRASE)
    assert len(find_damage(folder)) == 1


def test_a_file_that_is_not_there_is_not_found(folder: Path) -> None:
    with pytest.raises(NotFoundError):
        verify_file(folder / "none.key")
