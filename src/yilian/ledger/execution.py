"""The execution of one block: from transactions to answers, leaves and changed rows, over a layer of state."""

from __future__ import annotations

from collections.abc import Callable
from hashlib import sha256

import cbor2
import msgspec

from yilian import canonical
from yilian.errors import Refused
from yilian.ledger import envelope as envelopes
from yilian.ledger.admission import check_actor, check_newcomer, check_signature
from yilian.ledger.envelope import Envelope, InvalidTransaction, Operation, TransactionCode
from yilian.ledger.judge import PERSON_VALIDITY, Actor, Judge
from yilian.ledger.log import changes_digest
from yilian.ledger.members import Constitution, Parameters
from yilian.ledger.registry import Registry
from yilian.ledger.results import Answer, Checked, Result, TransactionResult, Verified
from yilian.ledger.running import Circumstances
from yilian.ledger.state import GOVERNANCE, Layer, register_key
from yilian.ledger.workflow import KERNEL, KernelRefusal
from yilian.values import HOUR, Digest, InstitutionId, OpId, UnixMillis, unix_millis

WINDOW = HOUR
"""How long an (actor, op_id) is remembered, in block time: as long as an envelope can be valid."""

PARAMETER_KEYS = tuple(register_key(GOVERNANCE, register.word) for register in (Parameters, Constitution))
"""Natural keys of the rows under the parameters root."""

_BYTES32 = b"\x58\x20"
"""CBOR head of a byte string of 32 bytes."""


class Before(msgspec.Struct, frozen=True):
    """What stood before the block: the size of the log, and the answers to recent operation ids."""

    log_size: int
    answered: Callable[[InstitutionId, OpId, UnixMillis], tuple[Digest, Answer] | None]


class Execution:
    """The execution of one block."""

    def __init__(self, registry: Registry, circumstances: Circumstances, layer: Layer, before: Before) -> None:
        self._registry = registry
        self._before = before
        self._circumstances = circumstances
        self._judge = Judge(registry, circumstances)
        self._types = registry.command_types
        self.layer = layer
        self.leaves: list[bytes] = []
        self.rows: dict[bytes, bytes] = {}
        """Key hash → row as the block leaves it."""
        self.changes: dict[bytes, bytes] = {}
        """Key hash → value hash of the same rows."""
        self._records: list[bytes] = []
        # a leaf's first two fields and head of the third, alike for all leaves of a block
        self._leaf_start = b"\x88" + cbor2.dumps(circumstances.height) + cbor2.dumps(circumstances.time) + _BYTES32
        self.remembered: dict[tuple[InstitutionId, OpId], tuple[Digest, Answer, UnixMillis]] = {}
        self._until = unix_millis(circumstances.time + WINDOW)

    @property
    def parameters_changed(self) -> bool:
        """Whether parameters or constitution changed in this block."""
        return any(key in self.layer.changed for key in PARAMETER_KEYS)

    def records(self) -> bytes:
        """Give the block's `BlockRecords`, encoded; empty where no leaf was added."""
        if not self._records:
            return b""
        return b"\x82" + cbor2.dumps(self._before.log_size) + canonical.array(self._records)

    def transaction(self, data: bytes, verified: Verified) -> TransactionResult:
        """Execute one transaction; what cannot enter a block leaves no trace but its code."""
        directory, time = self._circumstances.directory, self._circumstances.time
        try:
            checked = verified(data)
            holds = checked != Checked.NOTHING
            if isinstance(checked, Envelope):
                envelope = checked
            else:
                parse = envelopes.parse_checked if checked == Checked.ALL else envelopes.parse
                envelope = parse(data, self._types)
            actor = check_actor(envelope, self._circumstances.chain, directory, time)
            check_newcomer(envelope, actor, self._registry)
            if not holds:
                check_signature(envelope, directory)
        except InvalidTransaction as invalid:
            return TransactionResult(code=invalid.code, message=str(invalid))
        answers = tuple(self._operation(operation, actor, holds=holds) for operation in envelope.operations)
        return TransactionResult(code=TransactionCode.OK, answers=answers)

    def _operation(self, operation: Operation, actor: Actor, *, holds: bool) -> Answer:
        core = operation.core
        key = (actor.institution, core.op_id)
        # 1. (actor, op_id) unused
        before = self.remembered.get(key) or self._before.answered(*key, self._circumstances.time)
        if before is not None and before[0] == operation.digest:
            return before[1]
        result: Result = ()
        message = ""
        rows: dict[bytes, bytes] = {}
        if before is not None:
            result = ((KERNEL, int(KernelRefusal.OP_ID_REUSED)),)
            message = f"operation id {core.op_id.hex()} stands for other bytes: draw a new one"
        else:
            self.layer.begin()
            try:
                self._judge.run(operation, actor, self.layer, signatures_hold=holds)
            except Refused as refused:
                self.layer.drop()
                result, message = ((refused.workflow, refused.number), *refused.inner)[:4], str(refused)
            else:
                rows = self.layer.keep()
        answer = Answer(
            op_id=core.op_id,
            case_id=core.case_id,
            command=core.command,
            result=result,
            leaf=self._before.log_size + len(self.leaves),
            height=self._circumstances.height,
            message=message,
        )
        self._add_leaf(operation, actor, result, rows)
        if before is None:
            until = remembered_until(operation, self._circumstances.time) if operation.persons else self._until
            self.remembered[key] = (operation.digest, answer, until)
        return answer

    def _add_leaf(self, operation: Operation, actor: Actor, result: Result, rows: dict[bytes, bytes]) -> None:
        changes = []
        for natural_key, row in rows.items():
            key, value = sha256(natural_key).digest(), sha256(row).digest()
            self.rows[key] = row
            self.changes[key] = value
            changes.append((key, value))
        if len(changes) > 1:
            changes.sort()
        # the fields of `Leaf`, in its order, encoded by hand, since this is on the path of every operation
        claims_root = operation.core.claims_root
        leaf = b"".join(
            (
                self._leaf_start,
                actor.institution,
                b"\x50",
                operation.core.op_id,
                _BYTES32,
                operation.digest,
                cbor2.dumps(result) if result else b"\x80",
                _BYTES32,
                changes_digest(changes),
                b"\xf6" if claims_root is None else _BYTES32 + claims_root,
            )
        )
        self.leaves.append(leaf)
        stored = [canonical.byte_string(row) for row in rows.values()]
        # an array of one is the common case
        self._records.append(b"\x82" + leaf + (b"\x81" + stored[0] if len(stored) == 1 else canonical.array(stored)))


def remembered_until(operation: Operation, time: UnixMillis) -> UnixMillis:
    """Say until when the id of an operation executed at `time` is remembered.

    As long as its envelope or a person's signature on it could be valid: whoever keeps the bytes, such as the node that
    a person does not trust with the own key, can have the step done once.
    """
    if not operation.persons:
        return unix_millis(time + WINDOW)
    latest = max(person.valid_until for person in operation.persons)
    return unix_millis(max(time + WINDOW, min(latest, time + PERSON_VALIDITY)))
