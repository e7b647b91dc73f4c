"""Check a whole home, closed: the ledger, and every institution's blobs, keystore and vault; changes nothing."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from functools import partial
from pathlib import Path

from yilian.errors import NotFoundError, SettingsError, UnavailableError, VerificationError
from yilian.ledger.registry import Registry
from yilian.node import home as homes
from yilian.node.check import Counts, Finding, InstitutionPaths, Progress, check_home
from yilian.node.home import Home, Institution
from yilian.node.settings import Settings
from yilian.storage.vault import Vault
from yilian.storage.vault.records import RecordStatus
from yilian.workflows.registry import WORKFLOWS

_HELD = frozenset({RecordStatus.PREPARED, RecordStatus.PUBLISHED})


Expected = Callable[[tuple[bytes, ...]], tuple[bytes, ...]]
"""Says of the sealed records that a vault counts on which must be there."""


def every_blob(roots: tuple[bytes, ...]) -> tuple[bytes, ...]:
    """Expect all of them."""
    return roots


def check_all(
    home: Home, settings: Settings, counts: Counts, progress: Progress, *, expected: Expected = every_blob
) -> Iterator[Finding]:
    """Give what does not hold, as it is found; nothing where all holds.

    Raises:
        NotFoundError: the home holds no network.
        ConflictError: a node runs on it.
        SettingsError: the passphrase is missing.
    """
    with home.locked():
        if not home.genesis_file.is_file():
            raise NotFoundError(f"home {home.path} holds no network: found one with `yilian network found`")
        passphrase = home.passphrase(settings)
        paths = []
        for folder in sorted(path for path in home.institutions_folder.iterdir() if path.is_dir()):
            try:
                institution = home.institution(folder.name)
                home.ca_der(folder.name)
            except (VerificationError, NotFoundError) as error:
                yield Finding(area="institution", place=str(folder), found=str(error), action="restore the folder")
                continue
            paths.append(institution_paths(home, institution, passphrase, expected=expected))
        yield from check_home(home.ledger, paths, Registry(WORKFLOWS), counts=counts, progress=progress)


def institution_paths(
    home: Home, institution: Institution, passphrase: bytes | None, *, expected: Expected = every_blob
) -> InstitutionPaths:
    """Say what of an institution is to be checked; without a passphrase the vault's file alone, not its rows."""
    folder = home.folder(institution.slug)
    file = folder / "vault.db"
    roots: tuple[bytes, ...] = ()
    checks: list[Callable[[], Iterable[str]]] = []
    if passphrase is None:
        checks.append(partial(check_database, file))
    else:
        try:
            key = home.keystore(institution.slug, passphrase).load(homes.VAULT)
            checks.append(partial(Vault.check, file, key))
            roots = expected(expected_blobs(file, key))
        except (VerificationError, NotFoundError, SettingsError, UnavailableError) as error:
            message = str(error)
            checks.append(lambda: [message])
    return InstitutionPaths(blobs=folder / "blobs", keys=folder / "keys", expected_blobs=roots, checks=tuple(checks))


def check_database(file: Path) -> list[str]:
    """Check the structure of an SQLite file and give what does not hold."""
    if not file.is_file():
        return [f"there is no vault {file}"]
    try:
        with closing(sqlite3.connect(file)) as connection:
            found = [str(row[0]) for row in connection.execute("PRAGMA integrity_check(20)")]
    except sqlite3.DatabaseError as error:
        return [str(error)]
    return [line for line in found if line != "ok"]


def expected_blobs(file: Path, key: bytes) -> tuple[bytes, ...]:
    """Give the roots of the sealed records that a vault counts on; errors as `Vault`, NotFoundError for no file."""
    if not file.is_file():
        raise NotFoundError(f"there is no vault {file}: restore it from the backup")
    vault = Vault(file, key)
    try:
        roots = [record.root for record in vault.records.each() if record.status in _HELD]
        roots += [received.root for received in vault.records.files()]
        roots += [copy.root for copy in vault.releases.copies()]
        return tuple(dict.fromkeys(roots))
    finally:
        vault.close()
