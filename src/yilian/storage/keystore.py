"""Keys in encrypted files of one folder, opened by a passphrase: for small sites, tests and the demo.

`master.key` is sealed under the passphrase (Argon2id, once an opening); each `NAME.key` under the master key, bound to
its name. A file is magic ‖ SHA-256(body) ‖ body, so that `verify_file` names a damaged one without the passphrase.
"""

from __future__ import annotations

import hashlib
import re
import secrets
import threading
from contextlib import suppress
from pathlib import Path

from yilian.crypto.intl import Ed25519Signer
from yilian.crypto.keyfile import KEY_SIZE, open_with_key, open_with_passphrase, seal_with_key, seal_with_passphrase
from yilian.crypto.suite import Signer
from yilian.errors import ConflictError, NotFoundError, SettingsError, UnavailableError, VerificationError
from yilian.storage.disk import Disk, disk_errors

MAGIC = b"YLNKEY1\n"
SUFFIX = ".key"
_MASTER = "master"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}\Z")
_AAD = b"yilian/keystore/v1\0"
_PREFIX_BYTES = len(MAGIC) + 32


class FileKeystore:
    """An open keystore; made on the first opening of an empty folder.

    Args:
        folder: made for the owner only where it is absent.
        passphrase: at least one byte; from a file or credential outside the home.
        disk: how bytes reach the device.

    Raises:
        SettingsError: the passphrase is empty or another than the keystore's.
        VerificationError: `master.key` is damaged, or gone while other keys are there.
        UnavailableError: the disk failed.
    """

    def __init__(self, folder: Path, passphrase: bytes, *, disk: Disk | None = None) -> None:
        if not passphrase:
            raise SettingsError("the passphrase is empty, expected at least one byte: set the passphrase file")
        self._folder = folder
        self._disk = disk or Disk()
        self._lock = threading.Lock()
        with disk_errors(f"keystore {folder}"):
            self._disk.make_folder(folder)
        master = self._path(_MASTER)
        if not master.exists():
            if self.names():
                raise VerificationError(f"{master} is gone, the other keys need it: restore it from the backup")
            self._master_key = secrets.token_bytes(KEY_SIZE)
            self._store(_MASTER, seal_with_passphrase(passphrase, self._master_key, _AAD + _MASTER.encode()))
            return
        body = _read(master)
        try:
            self._master_key = open_with_passphrase(passphrase, body, _AAD + _MASTER.encode())
        except VerificationError as error:
            raise SettingsError(
                f"the passphrase does not open {master}, whose checksum holds: give the passphrase it was made with"
            ) from error

    def create(self, name: str, secret: bytes) -> None:
        """Keep a secret under a new name, durably.

        Raises:
            ConflictError: the name is taken; a key is never overwritten.
            UnavailableError: the disk is full or failed.
        """
        with self._lock:
            if self._path(name).exists() or name == _MASTER:
                raise ConflictError(f"keystore {self._folder} has a key {name} already: choose another name")
            try:
                self._store(name, seal_with_key(self._master_key, secret, _AAD + name.encode()))
            except UnavailableError:
                # the name may be taken already, by a key that nobody was told of
                with suppress(OSError):
                    self._disk.remove(self._path(name))
                raise

    def create_signer(self, name: str) -> Signer:
        """Make a fresh Ed25519 key, keep it under a new name, and give it; errors as `create`."""
        signer = Ed25519Signer.generate()
        self.create(name, signer.seed)
        return signer

    def load(self, name: str) -> bytes:
        """Give the secret kept under a name.

        Raises:
            NotFoundError: no such name.
            VerificationError: the file is damaged, or another key's file under this name.
        """
        path = self._path(name)
        if name == _MASTER or not path.exists():
            raise NotFoundError(
                f"keystore {self._folder} has no key {name}: it has {', '.join(self.names()) or 'none'}"
            )
        try:
            return open_with_key(self._master_key, _read(path), _AAD + name.encode())
        except VerificationError as error:
            raise VerificationError(f"{path} does not open as {name}: restore it from the backup ({error})") from error

    def load_signer(self, name: str) -> Signer:
        """Give the Ed25519 key whose seed is kept under a name; errors as `load`."""
        return Ed25519Signer.from_seed(self.load(name))

    def names(self) -> list[str]:
        """Give the names of all keys, in order."""
        return sorted(path.stem for path in self._folder.glob(f"*{SUFFIX}") if path.stem != _MASTER)

    def delete(self, name: str) -> None:
        """Drop a key for good; NotFoundError where there is none."""
        path = self._path(name)
        if name == _MASTER or not path.exists():
            raise NotFoundError(f"keystore {self._folder} has no key {name}: nothing to delete")
        with disk_errors(f"key {name}"):
            self._disk.remove(path)
            self._disk.sync_folder(self._folder)

    def _path(self, name: str) -> Path:
        if not _NAME.match(name):
            raise ValueError(f"key name {name!r} is not 1 to 128 letters, digits, '.', '_' or '-'")
        return self._folder / f"{name}{SUFFIX}"

    def _store(self, name: str, body: bytes) -> None:
        with disk_errors(f"key {name} in {self._folder}"):
            self._disk.store(self._path(name), MAGIC + hashlib.sha256(body).digest() + body)


def verify_file(path: Path) -> None:
    """Check a keystore file's checksum, without the passphrase.

    Raises:
        VerificationError: the file is damaged.
        NotFoundError: there is none.
    """
    _read(path)


def find_damage(folder: Path) -> list[str]:
    """Check every file of a keystore's folder without the passphrase, and name those that do not hold."""
    problems = []
    paths = sorted(folder.glob(f"*{SUFFIX}"))
    if not (folder / f"{_MASTER}{SUFFIX}").exists():
        problems.append(f"{folder / _MASTER}{SUFFIX} is gone: restore it from the backup")
    for path in paths:
        try:
            verify_file(path)
        except VerificationError as error:
            problems.append(str(error))
    return problems


def _read(path: Path) -> bytes:
    try:
        content = path.read_bytes()
    except FileNotFoundError as error:
        raise NotFoundError(f"there is no {path}: check the name") from error
    except OSError as error:
        raise UnavailableError(f"{path}: {error.strerror}, expected a readable file: repair it") from error
    body = content[_PREFIX_BYTES:]
    if content[:_PREFIX_BYTES] != MAGIC + hashlib.sha256(body).digest():
        raise VerificationError(f"{path} is damaged, its checksum does not match: restore it from the backup")
    return body
