"""A patient's wallet: one encrypted file with the secret that signs, and the keys that find the patient's entries.

The secret makes a key of its own for each case, so that two cases of one patient share nothing. Institutions seal their
subject keys to the wallet's X25519 key; with them the wallet alone can list what stands in the catalogue about the
patient, at every institution.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Final

import msgspec
from msgspec import Meta

from yilian import canonical
from yilian.crypto.intl import Ed25519Signer, KeyPair, generate_x25519, hpke_unwrap, x25519_from_private
from yilian.crypto.keyfile import open_with_passphrase, seal_with_passphrase
from yilian.crypto.suite import tagged_hash
from yilian.crypto.tags import case_key_seed, entry_id, subject_key_info, subject_tag
from yilian.errors import ConflictError, NotFoundError, VerificationError
from yilian.storage.disk import Disk, disk_errors
from yilian.values import CaseId, Digest, EntryId, InstitutionId, OpId, case_id

MAGIC = b"YLNWAL1\n"
AHEAD: Final = 64
"""How many numbers past the last hit are looked up: publications that did not land leave gaps."""
_AAD = b"yilian/wallet/v1\0"

Found = Mapping[EntryId, object]
Lookup = Callable[[Sequence[EntryId]], Found]
"""Gives those of some ids that stand in the catalogue, with what stands there."""


class HeldKey(msgspec.Struct, frozen=True, kw_only=True, array_like=True, forbid_unknown_fields=True):
    """A subject key K(custodian, year), opened."""

    chain: Digest
    custodian: InstitutionId
    year: Annotated[int, Meta(ge=0, le=9_999)]
    key: Annotated[bytes, Meta(min_length=32, max_length=32)]


class _Content(msgspec.Struct, frozen=True, kw_only=True, array_like=True, forbid_unknown_fields=True):
    version: Annotated[int, Meta(ge=1, le=1)]
    secret: Annotated[bytes, Meta(min_length=32, max_length=32)]
    exchange: Annotated[bytes, Meta(min_length=32, max_length=32)]
    keys: Annotated[tuple[HeldKey, ...], Meta(max_length=10_000)]


class Listed(msgspec.Struct, frozen=True, kw_only=True):
    """One entry that the wallet found: the number-th of a custodian and year."""

    entry: EntryId
    custodian: InstitutionId
    year: int
    number: int
    row: object


class Wallet:
    """An open wallet; `create` makes one, `load` opens one. Whoever has file and passphrase is the patient."""

    def __init__(self, path: Path, passphrase: bytes, content: _Content) -> None:
        self._path = path
        self._passphrase = passphrase
        self._content = content
        self._exchange: KeyPair = x25519_from_private(content.exchange)

    @classmethod
    def create(cls, path: Path, passphrase: bytes) -> Wallet:
        """Make a wallet and its file.

        Raises:
            ConflictError: the file exists.
            ValueError: the passphrase is empty.
        """
        if path.exists():
            raise ConflictError(f"{path} exists already: name another file, a wallet is never overwritten")
        content = _Content(version=1, secret=secrets.token_bytes(32), exchange=generate_x25519().private_key, keys=())
        wallet = cls(path, passphrase, content)
        wallet._store()
        return wallet

    @classmethod
    def load(cls, path: Path, passphrase: bytes) -> Wallet:
        """Open a wallet.

        Raises:
            NotFoundError: there is no such file.
            VerificationError: it is no wallet, is damaged, or the passphrase is another.
        """
        try:
            stored = path.read_bytes()
        except OSError as error:
            raise NotFoundError(f"wallet {path}: {error.strerror}: name the file of the wallet") from error
        if not stored.startswith(MAGIC):
            raise VerificationError(f"{path} is no wallet of yilian: name the file that `wallet new` made")
        plain = open_with_passphrase(passphrase, stored[len(MAGIC) :], _AAD)
        return cls(path, passphrase, canonical.decode(plain, _Content))

    @property
    def exchange_key(self) -> bytes:
        """X25519 public key: what an institution registers to seal subject keys to it."""
        return self._exchange.public_key

    @property
    def keys(self) -> tuple[HeldKey, ...]:
        """The subject keys held."""
        return self._content.keys

    def case_signer(self, case: CaseId) -> Ed25519Signer:
        """Give the key with which the patient signs one case; its public half goes into the case's header."""
        return Ed25519Signer.from_seed(case_key_seed(self._content.secret, case))

    def add_keys(self, chain: Digest, sealed: Sequence[tuple[InstitutionId, int, bytes]]) -> int:
        """Open subject keys (custodian, year, wrapped) sealed to this wallet and keep them; gives how many are new.

        Raises:
            VerificationError: one was sealed to another wallet, or for another chain, custodian or year.
        """
        held = {(key.chain, key.custodian, key.year): key for key in self._content.keys}
        before = len(held)
        for custodian, year, wrapped in sealed:
            info = subject_key_info(chain, custodian, year)
            key = hpke_unwrap(self._exchange.private_key, wrapped, info)
            held[chain, custodian, year] = HeldKey(chain=chain, custodian=custodian, year=year, key=key)
        self._content = msgspec.structs.replace(self._content, keys=tuple(held[name] for name in sorted(held)))
        self._store()
        return len(held) - before

    def entries(self, chain: Digest, look_up: Lookup) -> list[Listed]:
        """List the patient's entries on a chain, at every institution whose keys are held, by custodian and year."""
        return [found for key in self._content.keys if key.chain == chain for found in _entries(key, look_up)]

    def _store(self) -> None:
        sealed = seal_with_passphrase(self._passphrase, canonical.encode(self._content), _AAD)
        with disk_errors(f"wallet {self._path}"):
            Disk().store(self._path, MAGIC + sealed)


def opened_case_id(chain: Digest, actor: InstitutionId, op: OpId) -> CaseId:
    """Derive the id of the case that an operation will open, so that the wallet can name its key in the command."""
    return case_id(tagged_hash("yilian/case/v1", chain, actor, op, b"", (0).to_bytes(4, "big")))


def _entries(key: HeldKey, look_up: Lookup) -> list[Listed]:
    found: list[Listed] = []
    first, last_hit = 0, -1
    while first <= last_hit + AHEAD:
        numbers = range(first, last_hit + 1 + AHEAD)
        ids = {entry_id(key.chain, key.custodian, subject_tag(key.key, number)): number for number in numbers}
        rows = look_up(tuple(ids))
        hits = sorted((ids[entry], entry) for entry in rows)
        found += [
            Listed(entry=entry, custodian=key.custodian, year=key.year, number=number, row=rows[entry])
            for number, entry in hits
        ]
        first = numbers.stop
        last_hit = hits[-1][0] if hits else last_hit
    return found
