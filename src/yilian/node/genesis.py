"""The start of a chain on disk: genesis bytes with the signature of every founding CA."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from yilian import canonical
from yilian.errors import NotFoundError, VerificationError
from yilian.ledger.block import Genesis
from yilian.node import pki
from yilian.node.home import Home


class Consent(msgspec.Struct, frozen=True, kw_only=True, array_like=True, forbid_unknown_fields=True):
    """One founder's word: its CA certificate (DER), and that CA's signature over the chain's id."""

    ca: Annotated[bytes, Meta(max_length=8192)]
    signature: Annotated[bytes, Meta(max_length=256)]


class GenesisFile(msgspec.Struct, frozen=True, kw_only=True, array_like=True, forbid_unknown_fields=True):
    """The content of `genesis.cbor`."""

    genesis: bytes
    consents: Annotated[tuple[Consent, ...], Meta(max_length=256)]


class Founding(msgspec.Struct, frozen=True, kw_only=True):
    """A verified genesis with the CA certificates of its founders, in their order."""

    genesis: Genesis
    cas: tuple[bytes, ...]
    content: bytes
    """The file's bytes."""


def load_founding(home: Home) -> Founding:
    """Read and verify the genesis of a home; NotFoundError where the home holds no network, else as `verify`."""
    try:
        content = home.genesis_file.read_bytes()
    except OSError as error:
        raise NotFoundError(
            f"home {home.path} holds no network ({error.strerror}): found one with `yilian network found`"
        ) from error
    return verify(content)


def verify(content: bytes) -> Founding:
    """Check that every founder's CA, as its member record names it, signed this genesis, in the founders' order.

    Raises:
        VerificationError: it did not, or the bytes are no genesis.
    """
    file = canonical.decode(content, GenesisFile)
    genesis = canonical.decode(file.genesis, Genesis)
    if len(file.consents) != len(genesis.founders):
        raise VerificationError(
            f"genesis has {len(file.consents)} signatures for {len(genesis.founders)} founders: get the whole file"
        )
    for founder, consent in zip(genesis.founders, file.consents, strict=True):
        anchor = founder.member.ca_fingerprint
        if pki.fingerprint(consent.ca) != anchor or not pki.verify_genesis(
            consent.ca, genesis.chain, consent.signature
        ):
            raise VerificationError(
                f"founder with CA {anchor.hex()} did not sign genesis {genesis.chain.hex()}: do not use this file"
            )
    return Founding(genesis=genesis, cas=tuple(consent.ca for consent in file.consents), content=content)
