"""Make receipts from what a node holds: tiles of the log, the state tree, blocks, and a checkpoint of the head."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager

import msgspec

from yilian.crypto import merkle
from yilian.engine.port import Engine
from yilian.errors import ConflictError, NotFoundError, UnavailableError, VerificationError
from yilian.ledger.checkpoint import Note
from yilian.ledger.claims import Claim, prove_claim
from yilian.ledger.log import LogProofs
from yilian.ledger.members import Key, Role
from yilian.ledger.multiproof import AbsentRow, Neighbour, Shown, ShownRow, join, pack
from yilian.ledger.past import View
from yilian.ledger.receipt import (
    EXCHANGE_COMMANDS,
    FORMAT,
    Kind,
    LoggedOperation,
    Receipt,
    encode_receipt,
    least_count,
    open_operation,
)
from yilian.ledger.state import case_key, decode_case, key_hash
from yilian.ledger.tree import StateProof
from yilian.node.locating import Locator
from yilian.storage.port import Index
from yilian.values import CaseId, InstitutionId, KeyId, OpId, case_id
from yilian.workflows.audit.table import disclosure_id
from yilian.workflows.consent.model import Grant, Use

WAIT_S = 5.0
"""How long a checkpoint of the newest block is waited for."""
_PAUSE_S = 0.02
ATTEMPTS = 8


class Prover:
    """Makes receipt files; thread-safe.

    Args:
        engine: holds the chain; of its newest block the state is proven.
        index: says where operations of a case stand.
        note: gives the newest checkpoint with exactly the signatures that the policy asks for.
        wait: hurries the witnesses to cover a height, and waits for them so many seconds.
        wait_s: how long to wait until there is one of the newest block.

    All methods give the bytes of a file, and raise UnavailableError where no checkpoint of the newest block came.
    """

    def __init__(
        self,
        engine: Engine,
        index: Index,
        note: Callable[[], Note],
        *,
        wait: Callable[[int, float], object] | None = None,
        wait_s: float = WAIT_S,
    ) -> None:
        self._engine = engine
        self._locator = Locator(engine, index)
        self._note = note
        self._wait = wait
        self._wait_s = wait_s
        self._log = LogProofs(engine.state.tile)
        with engine.proving() as machine:
            self._depth = machine.genesis.tree_depth

    def operation(self, operation: OpId | int, *, actor: InstitutionId | None = None) -> bytes:
        """Prove an operation, by its id (of one actor, where several chose the same) or by its index in the log.

        Raises:
            NotFoundError: there is none.
        """
        found = self._locator.operation_at(self._locator.locate(operation, actor))
        return self._make(Kind.OPERATION, b"", (found,))

    def claim(
        self, operation: OpId | int, name: str, claims: Sequence[Claim], *, actor: InstitutionId | None = None
    ) -> bytes:
        """Prove one claim of an operation; `claims` are all that it made, in their order.

        Raises:
            NotFoundError: no such operation, or no claim of this name.
            VerificationError: these are not the operation's claims.
        """
        found = self._locator.operation_at(self._locator.locate(operation, actor))
        root = found.leaf.claims_root
        if root is None or merkle.root([claim.leaf_hash for claim in claims]) != root:
            raise VerificationError(f"operation {found.leaf.op_id.hex()} made other claims: give those that it made")
        proof = prove_claim(claims, name)
        proof = msgspec.structs.replace(proof, count=least_count(proof, root))
        with self._at_checkpoint() as (view, note):
            receipt = self._receipt(view, note, Kind.CLAIM, b"", (found,))
        return encode_receipt(msgspec.structs.replace(receipt, claim=proof))

    def state(self, case: CaseId) -> bytes:
        """Prove a case as it stands; NotFoundError where there is none."""
        return self.row(case_key(case))

    def row(self, natural_key: bytes) -> bytes:
        """Prove a row of the current state by its natural key; NotFoundError where there is none."""
        return self._make(Kind.STATE, natural_key, (), rows=(natural_key,))

    def absence(self, case: CaseId) -> bytes:
        """Prove that there is no case of an id; ConflictError where there is one."""
        natural_key = case_key(case)
        with self._at_checkpoint() as (view, note):
            if view.row(key_hash(natural_key)) is not None:
                raise ConflictError(f"case {case.hex()} exists: prove its state instead")
            return encode_receipt(self._receipt(view, note, Kind.ABSENCE, natural_key, (), absent=natural_key))

    def case(self, case: CaseId) -> bytes:
        """Prove every operation that changed a case, in order, and the case as it stands.

        Raises:
            NotFoundError: no such case, or it was founded with the chain, without an operation.
        """
        natural_key = case_key(case)
        for _ in range(ATTEMPTS):
            located = self._locator.history(case)
            operations = tuple(self._locator.operation_at(one) for one in located)
            changes = tuple(self._locator.change(one, natural_key) for one in located)
            with self._at_checkpoint() as (view, note):
                if changes[-1].row != view.row(key_hash(natural_key)):
                    continue  # it has changed meanwhile
                receipt = self._receipt(view, note, Kind.CASE, natural_key, operations, rows=(natural_key,))
            return encode_receipt(msgspec.structs.replace(receipt, changes=changes))
        raise UnavailableError(f"case {case.hex()} changed {ATTEMPTS} times while it was proven: try again")

    def exchange(self, use: CaseId) -> bytes:
        """Prove a record exchange: consent, grant, use and disclosure with the operations of both sides.

        Raises:
            NotFoundError: no such use, or a side has not done its part yet.
        """
        reads = self._engine.reads()
        found = reads.case(Use, use)
        grant = reads.case(Grant, found.fields.grant) if found is not None else None
        if found is None or grant is None:
            raise NotFoundError(f"no use {use.hex()}: check the id")
        pair = disclosure_id(self._engine.chain, use)
        rows = [case_key(use), case_key(found.fields.grant), case_key(pair)]
        if grant.fields.covered_by is not None:
            rows.append(case_key(grant.fields.covered_by))
        operations = [
            self._locator.operation_at(self._locator.step(command, use, pair)) for command in EXCHANGE_COMMANDS
        ]
        return self._make(Kind.EXCHANGE, case_key(use), operations, rows=rows)

    def _make(
        self, kind: Kind, subject: bytes, operations: Sequence[LoggedOperation], *, rows: Iterable[bytes] = ()
    ) -> bytes:
        with self._at_checkpoint() as (view, note):
            receipt = self._receipt(view, note, kind, subject, operations, rows=rows)
        return encode_receipt(receipt)

    @contextmanager
    def _at_checkpoint(self) -> Iterator[tuple[View, Note]]:
        """Hold the state of a checkpoint that covers all blocks up to now, while the chain may go on."""
        wanted, until = self._engine.head().height, time.monotonic() + self._wait_s
        if self._wait is not None:
            self._wait(wanted, self._wait_s)
        while True:
            note = self._note()
            height = note.checkpoint.height
            with self._engine.proving() as machine:
                view = machine.view(height) if height >= wanted else None
                if view is not None:
                    if view.head.app_hash != note.checkpoint.app_hash:
                        raise VerificationError(
                            f"the checkpoint of height {height} is of another history than this node's: see the alerts"
                        )
                    yield view, note
                    return
            if time.monotonic() > until:
                raise UnavailableError(
                    f"the newest checkpoint is of height {height}, expected {wanted}: wait until the witnesses have "
                    "followed, then try again"
                )
            time.sleep(_PAUSE_S)

    def _receipt(  # noqa: PLR0917 - the parts of a receipt
        self,
        view: View,
        note: Note,
        kind: Kind,
        subject: bytes,
        operations: Sequence[LoggedOperation],
        *,
        rows: Iterable[bytes] = (),
        absent: bytes | None = None,
    ) -> Receipt:
        size = note.checkpoint.log_size
        proven = tuple(
            msgspec.structs.replace(one, path=pack(self._log.inclusion_proof(one.leaf_index, size)))
            for one in operations
        )
        keys = dict.fromkeys(rows)
        for one in operations:
            keys.update(dict.fromkeys(_rows_of(view, one)))
        return Receipt(
            format=FORMAT,
            kind=kind,
            subject=subject,
            checkpoint=note.encode(),
            parameters_root=view.head.parameters_root,
            state=_shown(view, self._depth, keys, absent=absent),
            operations=proven,
            changes=(),
            claim=None,
        )


def _rows_of(view: View, logged: LoggedOperation) -> Iterator[bytes]:
    """Give the natural keys of the rows that say who signed an operation: keys, and the members that own them."""
    opened = open_operation(logged)
    keys: list[KeyId] = [opened.payload.key_id]
    if not logged.leaf.result:
        keys += [person.key_id for person in opened.persons if person.role != Role.PATIENT]
    for key in keys:
        row = view.row(key_hash(case_key(case_id(key))))
        found = None if row is None else decode_case(row, {"key": Key})
        if found is None:
            raise VerificationError(f"key {key.hex()} has no row: run `yilian node check`")
        yield case_key(case_id(key))
        yield case_key(case_id(found[1].fields.owner))


def _shown(view: View, depth: int, keys: Iterable[bytes], *, absent: bytes | None) -> Shown:
    proofs = {hashed: view.prove(hashed) for hashed in sorted(key_hash(key) for key in keys)}
    present = tuple(_present(view, hashed, proof) for hashed, proof in proofs.items())
    missing: tuple[AbsentRow, ...] = ()
    if absent is not None:
        proof = proofs[key_hash(absent)] = view.prove(key_hash(absent))
        missing = (_absent(absent, proof),)
    return Shown(depth=depth, present=present, absent=missing, siblings=join(depth, proofs))


def _present(view: View, hashed: bytes, proof: StateProof) -> ShownRow:
    row = view.row(hashed)
    if row is None:
        raise NotFoundError(f"no row under key hash {hashed.hex()}: check the id")
    (place,) = proof.rows
    return ShownRow(row=row, count=proof.count, index=place.index, path=pack(place.path))


def _absent(natural_key: bytes, proof: StateProof) -> AbsentRow:
    neighbours = tuple(
        Neighbour(key_hash=row.key_hash, value_hash=row.value_hash, index=row.index, path=pack(row.path))
        for row in proof.rows
    )
    return AbsentRow(natural_key=natural_key, count=proof.count, neighbours=neighbours)
