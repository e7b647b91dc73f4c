"""Check a whole home, closed: the ledger, and every institution's blobs, keystore and vault; changes nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import partial

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


def check_all(home: Home, settings: Settings, counts: Counts, progress: Progress) -> Iterator[Finding]:
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
            paths.append(_paths(home, institution, passphrase))
        yield from check_home(home.ledger, paths, Registry(WORKFLOWS), counts=counts, progress=progress)


def _paths(home: Home, institution: Institution, passphrase: bytes) -> InstitutionPaths:
    folder = home.folder(institution.slug)
    expected: tuple[bytes, ...] = ()
    checks: list[Callable[[], Iterable[str]]] = []
    try:
        key = home.keystore(institution.slug, passphrase).load(homes.VAULT)
        checks.append(partial(Vault.check, folder / "vault.db", key))
        expected = _expected_blobs(home, institution, key)
    except (VerificationError, NotFoundError, SettingsError, UnavailableError) as error:
        message = str(error)
        checks.append(lambda: [message])
    return InstitutionPaths(blobs=folder / "blobs", keys=folder / "keys", expected_blobs=expected, checks=tuple(checks))


def _expected_blobs(home: Home, institution: Institution, key: bytes) -> tuple[bytes, ...]:
    file = home.folder(institution.slug) / "vault.db"
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
