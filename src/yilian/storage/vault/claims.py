"""The claims that the institution's operations made: values and salts, of which the ledger holds the root."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from yilian.errors import ConflictError, NotFoundError
from yilian.ledger.claims import Claim
from yilian.storage.vault.core import SealedTable, VaultCore
from yilian.storage.vault.schema import CLAIMS
from yilian.values import OpId


class ClaimsOf(msgspec.Struct, frozen=True, kw_only=True):
    """The claims of one operation, in order of name."""

    op_id: OpId
    claims: tuple[Claim, ...]


class Claims:
    """Kept before the operation is sent, so that none stands on the ledger whose values are lost."""

    def __init__(self, vault: VaultCore) -> None:
        self._vault = vault
        self._claims = SealedTable(vault, CLAIMS, ClaimsOf, columns=lambda one: {"op_id": one.op_id})

    def keep(self, op: OpId, claims: Sequence[Claim]) -> tuple[Claim, ...]:
        """Keep the claims of an operation and give them; those kept before, with their salts, where they say the same.

        Raises:
            ConflictError: others are kept for this operation.
        """
        with self._vault.transaction():
            kept = self._claims.find(op_id=op)
            if kept is None:
                self._claims.insert([ClaimsOf(op_id=op, claims=tuple(claims))])
                return tuple(claims)
        if [(one.name, one.value) for one in kept.claims] != [(one.name, one.value) for one in claims]:
            raise ConflictError(
                f"operation {op.hex()} made other claims before: repeat it with the same ones, or choose a new op_id"
            )
        return kept.claims

    def of(self, op: OpId) -> tuple[Claim, ...]:
        """Give the claims of an operation; NotFoundError where this institution keeps none for it."""
        kept = self._claims.find(op_id=op)
        if kept is None:
            raise NotFoundError(f"no claims of operation {op.hex()} are kept here: ask the institution that sent it")
        return kept.claims
