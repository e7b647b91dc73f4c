"""The vault of one institution: an encrypted database of all that cannot be rebuilt from the ledger.

Keys, salts, identities, masks, one-time keys, received copies, claims, audit record. In backup and in `node check`.
"""

from __future__ import annotations

from pathlib import Path

from yilian.errors import NotFoundError, UnavailableError, VerificationError
from yilian.storage.vault.access import Access
from yilian.storage.vault.audit import AuditRecord
from yilian.storage.vault.claims import Claims
from yilian.storage.vault.core import VaultCore
from yilian.storage.vault.integrity import Integrity
from yilian.storage.vault.records import Records
from yilian.storage.vault.releases import Releases
from yilian.storage.vault.subjects import Subjects


class Vault(VaultCore):
    """An open vault with its parts; `with vault.transaction():` joins writes to several of them.

    Args and errors: as `VaultCore`.
    """

    def __init__(self, path: Path, key: bytes) -> None:
        super().__init__(path, key)
        self.records = Records(self)
        self.subjects = Subjects(self)
        self.releases = Releases(self)
        self.audit = AuditRecord(self)
        self.access = Access(self)
        self.claims = Claims(self)
        self.integrity = Integrity(self, self.records, self.releases)

    @classmethod
    def check(cls, path: Path, key: bytes) -> list[str]:
        """Check a vault that no node has open: structure, and that every row opens. Names table and row id only.

        Raises:
            NotFoundError: no such file.
            SettingsError: the key is another vault's.
        """
        if not path.is_file():
            raise NotFoundError(f"there is no vault {path}: name the vault of a home")
        try:
            vault = cls(path, key)
        except (VerificationError, UnavailableError) as error:
            return [str(error)]
        try:
            return vault.find_damage()
        finally:
            vault.close()


__all__ = ["Vault"]
