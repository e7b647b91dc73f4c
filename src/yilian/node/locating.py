"""Find operations in the blocks: by id, by place in the log, and all that changed a case."""

from __future__ import annotations

from collections.abc import Iterator

import cbor2
import msgspec

from yilian import canonical
from yilian.crypto import cose, merkle
from yilian.crypto.suite import SuiteId, key_id_of, sha256
from yilian.engine.port import Engine
from yilian.errors import ConflictError, NotFoundError, VerificationError
from yilian.ledger.cases import Header
from yilian.ledger.envelope import Payload
from yilian.ledger.log import Leaf
from yilian.ledger.members import Role
from yilian.ledger.multiproof import pack
from yilian.ledger.receipt import Change, LoggedOperation, open_operation, open_row
from yilian.ledger.state import case_key, key_hash
from yilian.storage.port import Index
from yilian.storage.rows import EventRow
from yilian.values import CaseId, InstitutionId, OpId, PublicKey


class Located(msgspec.Struct, frozen=True, kw_only=True):
    """Where an operation stands: the height of its block, and its place among the block's leaves."""

    height: int
    position: int


class Locator:
    """Reads blocks and leaves of an engine, with the read model's help; what it gives is of committed blocks."""

    def __init__(self, engine: Engine, index: Index) -> None:
        self._engine = engine
        self._index = index

    def locate(self, operation: OpId | int, actor: InstitutionId | None) -> Located:
        """Find an operation by its id, or by its index in the log.

        Raises:
            NotFoundError: there is none, or the read model has not taken it over yet.
            ConflictError: several members chose the id, and no actor is named.
        """
        if isinstance(operation, int):
            return self._locate_leaf(operation)
        events = [
            event for event in self._index.events_of_operation(operation) if actor is None or event.actor == actor
        ]
        if not events:
            raise NotFoundError(
                f"no operation {operation.hex()} up to height {self._index.height()}: check the id, or wait"
            )
        if len({event.actor for event in events}) > 1:
            raise ConflictError(f"several members chose operation id {operation.hex()}: say whose you mean")
        return Located(height=events[0].height, position=events[0].index)

    def _locate_leaf(self, leaf: int) -> Located:
        head = self._engine.head()
        if not 0 <= leaf < head.log_size:
            raise NotFoundError(f"no leaf {leaf} in a log of {head.log_size}: leaves count from 0")
        low, high = 1, head.height
        while low < high:
            middle = (low + high + 1) // 2
            first = self._first_leaf(middle)
            if first is not None and first > leaf:
                high = middle - 1
            elif first is not None:
                low = middle
            else:  # a block without leaves: look at what follows it, one by one
                following = next((at for at in range(middle, high + 1) if self._first_leaf(at) is not None), None)
                first = None if following is None else self._first_leaf(following)
                if following is None or first is None or first > leaf:
                    high = middle - 1
                else:
                    low = following
        return Located(height=low, position=leaf - (self._first_leaf(low) or 0))

    def _first_leaf(self, height: int) -> int | None:
        stored = self._engine.state.leaves(height)
        return int(cbor2.loads(stored[1:10])) if stored else None

    def history(self, case: CaseId) -> list[Located]:
        """Find the operation that left each version of a case, consequences of other cases' steps too.

        Raises:
            NotFoundError: no such case, or one founded with the chain.
        """
        header = _header(self._engine.state.get(key_hash(case_key(case))), case)
        if header.opened_height == 0:
            raise NotFoundError(f"case {case.hex()} was founded with the chain, without an operation: prove its state")
        found: dict[int, Located] = {}
        heights = dict.fromkeys(event.height for event in self._events(case) if not event.result)
        for height in (*heights, header.opened_height, header.changed_height):
            found.update(self._versions_at(height, case))
        # what changed as a consequence of a step of another case stands in no list: look through the blocks between
        for height in range(header.changed_height, header.opened_height - 1, -1):
            if len(found) == header.version:
                break
            if height not in heights:
                found.update(self._versions_at(height, case))
        missing = [version for version in range(1, header.version + 1) if version not in found]
        if missing:
            raise VerificationError(
                f"versions {missing[:3]} of case {case.hex()} stand in no block: run `yilian node check`"
            )
        return [found[version] for version in range(1, header.version + 1)]

    def _versions_at(self, height: int, case: CaseId) -> dict[int, Located]:
        start = b"\x85" + canonical.byte_string(case_key(case))
        stored = self._engine.state.leaves(height)
        if not stored or start not in stored:
            return {}
        _, records = cbor2.loads(stored)
        return {
            _header(row, case).version: Located(height=height, position=position)
            for position, (_, rows) in enumerate(records)
            for row in rows
            if row.startswith(start)
        }

    def _events(self, case: CaseId) -> Iterator[EventRow]:
        cursor: str | None = None
        while True:
            page = self._index.events_of_case(case, limit=1_000, cursor=cursor)
            yield from page.items
            cursor = page.next
            if cursor is None:
                return

    def step(self, command: str, use: CaseId, pair: CaseId) -> Located:
        """Find a step of an exchange, of its use or of its disclosure pair; NotFoundError where it is not done yet."""
        case = use if command.startswith("use.") else pair
        for event in self._events(case):
            if event.command == command and not event.result:
                return Located(height=event.height, position=event.index)
        raise NotFoundError(
            f"use {use.hex()} has no {command} up to height {self._index.height()}: wait until both sides are done"
        )

    def change(self, located: Located, natural_key: bytes) -> Change:
        """Give the row that an operation left under a key, and the digests of all that it changed."""
        _, rows = self._record(located)
        digests = sorted(key_hash(open_row(row).natural_key) + sha256(row) for row in rows)
        (row,) = [row for row in rows if open_row(row).natural_key == natural_key]
        return Change(row=row, digests=pack(digests))

    def _record(self, located: Located) -> tuple[Leaf, list[bytes]]:
        stored = self._engine.state.leaves(located.height)
        if stored is None:
            raise VerificationError(f"block {located.height} has no leaves on record: run `yilian node check`")
        leaf, rows = cbor2.loads(stored)[1][located.position]
        return msgspec.convert(leaf, Leaf, builtin_types=(bytes,)), rows

    def operation_at(self, located: Located) -> LoggedOperation:
        """Give an operation with its envelope and leaf, its path in the log left empty."""
        leaf, _ = self._record(located)
        _, transactions = cbor2.loads(self._engine.encoded_block(located.height))
        for transaction in transactions:
            (protected, unprotected, payload, signature), operations = cbor2.loads(transaction)
            leaves = [merkle.leaf_hash(operation) for operation in operations]
            if leaf.operation not in leaves or canonical.decode_trusted(payload, Payload).actor != leaf.actor:
                continue
            index = leaves.index(leaf.operation)
            logged = LoggedOperation(
                operation=operations[index],
                index=index,
                siblings=pack(merkle.inclusion_proof(leaves, index)),
                sign1=cose.Sign1(protected=protected, unprotected=unprotected, payload=payload, signature=signature),
                patients=(),
                leaf=leaf,
                leaf_index=(self._first_leaf(located.height) or 0) + located.position,
                path=b"",
            )
            return msgspec.structs.replace(logged, patients=self._patients(logged))
        raise VerificationError(
            f"block {located.height} holds no operation of its leaf {located.position}: run `yilian node check`"
        )

    def _patients(self, logged: LoggedOperation) -> tuple[PublicKey, ...]:
        opened = open_operation(logged)
        signed = [person for person in opened.persons if person.role == Role.PATIENT and not logged.leaf.result]
        if not signed:
            return ()
        case = opened.core.case_id
        patient = _header(self._engine.state.get(key_hash(case_key(case))), case).patient
        if patient is None or patient.key is None or key_id_of(SuiteId.INTL, patient.key) != signed[0].key_id:
            raise VerificationError(f"case {case.hex()} has another patient key than signed: run `yilian node check`")
        return (patient.key,) * len(signed)


def _header(row: bytes | None, case: CaseId) -> Header:
    found = None if row is None else open_row(row).case
    if found is None:
        raise NotFoundError(f"no case {case.hex()}: check the id")
    return msgspec.convert(list(found[2]), Header, builtin_types=(bytes,))
