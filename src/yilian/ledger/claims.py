"""Salted claims of an operation: names with values of which the ledger holds one root, each to be shown alone. Pure.

    claim       = [salt, name, value]                                   deterministic CBOR
    claims_root = RFC 6962 root over the claims' bytes, in order of name

The salt is 32 random bytes that the sender draws, one a claim: without it a value cannot be found by trying, and a
claim that is shown says nothing of its neighbours. The claims themselves stay with the institution that made them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated

import msgspec
from msgspec import Meta

from yilian import canonical
from yilian.crypto import merkle
from yilian.errors import NotFoundError, SettingsError
from yilian.values import Digest, Natural, Word

MAX_CLAIMS = 32
MAX_VALUE = 1_000
SALT_BYTES = 32

Salt = Annotated[bytes, Meta(min_length=SALT_BYTES, max_length=SALT_BYTES)]
Value = Annotated[str, Meta(max_length=MAX_VALUE)]


class _Wire(msgspec.Struct, frozen=True, kw_only=True, array_like=True, forbid_unknown_fields=True):
    pass


class Claim(_Wire, frozen=True, kw_only=True):
    """One claim; its bytes are a leaf below the claims root of its operation."""

    salt: Salt
    name: Word
    value: Value

    @property
    def leaf_hash(self) -> Digest:
        """RFC 6962 leaf hash of its bytes."""
        return merkle.leaf_hash(canonical.encode(self))


class ClaimProof(_Wire, frozen=True, kw_only=True):
    """A claim with its way to the claims root of an operation that made `count` claims."""

    claim: Claim
    index: Natural
    count: Annotated[int, Meta(ge=1, le=MAX_CLAIMS)]
    path: Annotated[tuple[Digest, ...], Meta(max_length=5)]


def make_claims(values: Mapping[str, str], salts: Sequence[bytes]) -> tuple[Claim, ...]:
    """Make the claims of an operation, in order of name, with one salt each.

    Raises:
        SettingsError: more than 32, a name that is no word, a value of more than 1,000 characters.
    """
    if len(values) > MAX_CLAIMS:
        raise SettingsError(f"{len(values)} claims, expected at most {MAX_CLAIMS}: take several operations")
    made = [[bytes(salt), name, value] for (name, value), salt in zip(sorted(values.items()), salts, strict=True)]
    try:
        return msgspec.convert(made, tuple[Claim, ...], builtin_types=(bytes,))
    except msgspec.ValidationError:
        # the message of the error may quote a value, which stays here
        raise SettingsError(
            f"a claim is no word of 1 to 64 letters, digits and _.:- with at most {MAX_VALUE} characters of text: "
            "shorten it"
        ) from None


def claims_root(claims: Sequence[Claim]) -> Digest | None:
    """Give the root that the operation carries; None where it makes no claim."""
    return merkle.root([claim.leaf_hash for claim in claims]) if claims else None


def prove_claim(claims: Sequence[Claim], name: str) -> ClaimProof:
    """Prove one claim among all of its operation; NotFoundError where none has this name."""
    index = next((at for at, claim in enumerate(claims) if claim.name == name), None)
    if index is None:
        known = ", ".join(claim.name for claim in claims) or "none"
        raise NotFoundError(f"the operation makes no claim {name}, expected one of {known}: name one")
    path = merkle.inclusion_proof([claim.leaf_hash for claim in claims], index)
    return ClaimProof(
        claim=claims[index],
        index=index,
        count=len(claims),
        path=tuple(path),  # type: ignore[arg-type]  # digests by construction
    )


def verify_claim(proof: ClaimProof, root: bytes) -> bool:
    """Say whether a proof shows its claim below a claims root."""
    return merkle.verify_inclusion(proof.claim.leaf_hash, proof.index, proof.count, proof.path, root)
