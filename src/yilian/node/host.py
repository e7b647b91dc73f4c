"""One institution in this process: its keys, people, vault, blobs and its hand on the ledger."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import msgspec

from yilian.crypto.intl import KeyPair
from yilian.crypto.suite import Signer
from yilian.engine.gateway import Gateway
from yilian.errors import NotFoundError
from yilian.ledger.members import InstitutionKind, Role
from yilian.storage.blobs import LocalBlobs
from yilian.storage.keystore import FileKeystore
from yilian.storage.vault import Vault
from yilian.values import InstitutionId, KeyId


class TlsFiles(msgspec.Struct, frozen=True, kw_only=True):
    """Where an institution's certificates lie; the leaf's key is encrypted under `password`."""

    ca: Path
    """CA certificate, PEM."""
    certificate: Path
    """Leaf for server and client use, PEM."""
    key: Path
    """Private key of the leaf, encrypted PEM."""
    password: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PersonKey:
    """A person whose key this node holds."""

    label: str
    role: Role
    key_id: KeyId
    signer: Signer


@dataclass(slots=True, kw_only=True)
class Host:
    """An open institution. `peer_address` is empty until its door for other institutions is open."""

    slug: str
    name: str
    id: InstitutionId
    kind: InstitutionKind
    gateway: Gateway
    exchange: KeyPair
    keystore: FileKeystore
    people: tuple[PersonKey, ...]
    vault: Vault
    blobs: LocalBlobs
    folder: Path
    tls: TlsFiles
    peer_address: str = ""
    """Such as `https://127.0.0.1:8471`."""

    def person(self, role: Role) -> PersonKey:
        """Give the first person of a role whose key this node holds; NotFoundError where there is none."""
        found = next((person for person in self.people if person.role == role), None)
        if found is None:
            raise NotFoundError(
                f"{self.slug} holds no key of a {role} on this node: let the holder sign a draft, or register a key"
            )
        return found

    def person_of_key(self, key: KeyId) -> PersonKey | None:
        """Give the person of a key id, or None where the node does not hold that key."""
        return next((person for person in self.people if person.key_id == key), None)

    def close(self) -> None:
        """Close what the institution has open."""
        self.vault.close()
