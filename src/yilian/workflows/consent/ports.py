"""What the exchange of records needs of an institution, and of the line to the others."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import Annotated, Protocol

import msgspec
from msgspec import Meta

from yilian.crypto.intl import KeyPair
from yilian.engine.gateway import Gateway
from yilian.storage.port import Blobs
from yilian.storage.vault import Vault
from yilian.values import CaseId, Digest, EntryId, InstitutionId, KeyId, PublicKey


class Institution(Protocol):
    """An institution as its services see it: its hand on the ledger, its vault and its blobs."""

    @property
    def id(self) -> InstitutionId:
        """Its id."""
        ...

    @property
    def gateway(self) -> Gateway:
        """Its hand on the ledger."""
        ...

    @property
    def exchange(self) -> KeyPair:
        """The X25519 key that others seal to."""
        ...

    @property
    def vault(self) -> Vault:
        """Keys, masks, copies, audit record."""
        ...

    @property
    def blobs(self) -> Blobs:
        """Sealed records, own and received."""
        ...


class ExchangeRequest(msgspec.Struct, frozen=True, kw_only=True, array_like=True, forbid_unknown_fields=True):
    """What a recipient sends to ask for a message M; who sends it is what its certificate says."""

    grant: CaseId
    entries: Annotated[tuple[EntryId, ...], Meta(min_length=1, max_length=32)]
    one_time_key: PublicKey
    person: KeyId


class BlobsRequest(msgspec.Struct, frozen=True, kw_only=True, array_like=True, forbid_unknown_fields=True):
    """What a recipient sends to get several short blobs in one answer."""

    grant: CaseId
    roots: Annotated[tuple[Digest, ...], Meta(min_length=1, max_length=32)]


class ReleaseRequest(msgspec.Struct, frozen=True, kw_only=True, array_like=True, forbid_unknown_fields=True):
    """What a recipient sends to get a message M and short blobs in one answer."""

    exchange: ExchangeRequest
    roots: Annotated[tuple[Digest, ...], Meta(max_length=32)]


class RevocationNotice(msgspec.Struct, frozen=True, kw_only=True, array_like=True, forbid_unknown_fields=True):
    """Direct word of a revocation to a custodian, which stops at once, in a block or not."""

    case: CaseId
    """A consent or a grant."""


class SealedIdentity(msgspec.Struct, frozen=True, kw_only=True, array_like=True, forbid_unknown_fields=True):
    """Whom a case is about, sealed to the gateway key of the institution that it is sent to."""

    case: CaseId
    sealed: Annotated[bytes, Meta(min_length=1, max_length=16_384)]


class Peers(Protocol):
    """The line to the other institutions: mutual TLS, each side judged by the other's CA on the ledger.

    Every call raises UnavailableError where the other side does not answer, NoGrantError where it says that nobody
    granted this, and VerificationError where the answer is malformed or comes from somebody else.
    """

    def message(self, custodian: InstitutionId, request: ExchangeRequest) -> bytes:
        """Ask a custodian for a signed message M."""
        ...

    def release(self, custodian: InstitutionId, request: ReleaseRequest) -> AbstractContextManager[Iterator[bytes]]:
        """Stream a signed message M and the blob files asked for, each after its length in 8 bytes."""
        ...

    def leaves(self, custodian: InstitutionId, root: Digest, basis: CaseId) -> bytes:
        """Fetch what a blob file starts with (header after its length), and behind it the hash of every leaf."""
        ...

    def blob(
        self, custodian: InstitutionId, root: Digest, basis: CaseId, *, start: int = 0
    ) -> AbstractContextManager[Iterator[bytes]]:
        """Stream the bytes of a blob file from an offset on, in pieces of about 1 MiB at most."""
        ...

    def blobs(
        self, custodian: InstitutionId, roots: tuple[Digest, ...], basis: CaseId
    ) -> AbstractContextManager[Iterator[bytes]]:
        """Stream whole blob files (1 to 32) one after the other, each after its length in 8 bytes."""
        ...

    def challenge_answer(self, custodian: InstitutionId, challenge: CaseId) -> bytes:
        """Fetch the signed segment message that answers a challenge."""
        ...

    def push_referral(self, receiver: InstitutionId, referral: CaseId) -> None:
        """Tell the receiver of a referral that its request stands; returns once it has acknowledged."""
        ...

    def revocation(self, custodian: InstitutionId, notice: RevocationNotice) -> None:
        """Tell a custodian of a revocation at once."""
        ...

    def identity(self, home: InstitutionId, identity: SealedIdentity) -> None:
        """Tell the home of a custodial case whom it is about."""
        ...

    def emergency(self, custodian: InstitutionId, identity: SealedIdentity) -> None:
        """Tell a custodian whom an emergency is about."""
        ...
