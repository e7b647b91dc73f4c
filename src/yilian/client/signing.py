"""Steps of a verification about one operation: its bytes, its envelope, its leaf, the log, and who signed it."""

from __future__ import annotations

from typing import Any, TypeVar

import msgspec

from yilian.client.checking import Checking
from yilian.client.report import OperationShown, SignerShown
from yilian.client.shapes import is_for_patients
from yilian.crypto import merkle
from yilian.crypto.suite import SuiteId, key_id_of, verify
from yilian.errors import VerificationError
from yilian.ledger.cases import Case, Header
from yilian.ledger.checkpoint import Checkpoint
from yilian.ledger.envelope import PersonSignature, person_message
from yilian.ledger.log import Leaf
from yilian.ledger.members import Key, KeyState, Member, Role
from yilian.ledger.receipt import LoggedOperation, Opened, Row, is_in_envelope, is_in_log, is_signed, open_operation
from yilian.ledger.state import case_key
from yilian.values import DAY, HOUR, InstitutionId, KeyId, case_id

C = TypeVar("C", bound=Case)


def check_operation(checking: Checking, logged: LoggedOperation, checkpoint: Checkpoint) -> OperationShown:
    """Check one operation and give what it shows; the report's steps say where it ends."""
    # 7. the operation's bytes
    with checking.step("operation", "an operation in its only encoding") as step:
        opened = open_operation(logged)
        step.found = f"{opened.core.workflow} {opened.core.command}, id {opened.core.op_id.hex()}"
    # 8. it stands among those that were signed together
    with checking.step("envelope", f"operation {logged.index + 1} under root {opened.payload.ops_root.hex()}") as step:
        if opened.payload.chain != checkpoint.chain:
            raise VerificationError(f"signed for chain {opened.payload.chain.hex()}: refuse the file")
        if not is_in_envelope(logged, opened.payload):
            raise VerificationError("the siblings lead to another root: refuse the file")
        step.found = f"operation {logged.index + 1} of {opened.payload.op_count}"
    # 9. the leaf says what became of it
    with checking.step("leaf", "the leaf of this operation") as step:
        _check_leaf(logged.leaf, logged, opened, checkpoint)
        step.found = f"height {logged.leaf.height}, time {logged.leaf.time}, {_result(logged.leaf)}"
    # 10. the leaf stands in the log
    size, root = checkpoint.log_size, checkpoint.log_root
    with checking.step("log", f"leaf {logged.leaf_index} under log root {root.hex()}") as step:
        if not is_in_log(logged, size, root):
            raise VerificationError(f"the path of leaf {logged.leaf_index} leads to another root: refuse the file")
        step.found = f"leaf {logged.leaf_index} of {size}"
    # 11. the gateway's signature and key
    with checking.step("signature", f"a gateway key of {opened.payload.actor.hex()}, valid at the block") as step:
        gateway = _gateway(checking, logged, opened)
        step.found = f"key {gateway.key_id} held by {gateway.held_by}, operator {gateway.operator}"
    # 12. the persons' signatures and keys
    with checking.step("persons", f"{len(opened.persons)} valid signatures of persons") as step:
        persons = _persons(checking, logged, opened)
        step.found = ", ".join(f"{person.role} {person.key_id}" for person in persons) or _unsigned(logged, opened)
    return _shown(logged, opened, (gateway, *persons))


def header_of(row: Row, what: str) -> tuple[str, Header]:
    """Give type and header of a case row; VerificationError where it is none."""
    if row.case is None:
        raise VerificationError(f"the row of {what} is no case: refuse the file")
    _, word, header = row.case
    return word, _convert(list(header), Header, what)


def _check_leaf(leaf: Leaf, logged: LoggedOperation, opened: Opened, checkpoint: Checkpoint) -> None:
    payload, core = opened.payload, opened.core
    compared = (
        ("operation", leaf.operation, merkle.leaf_hash(logged.operation)),
        ("actor", leaf.actor, payload.actor),
        ("op_id", leaf.op_id, core.op_id),
        ("claims root", leaf.claims_root or b"", core.claims_root or b""),
    )
    for name, found, expected in compared:
        if found != expected:
            raise VerificationError(f"the leaf has {name} {found.hex()}, expected {expected.hex()}: refuse the file")
    if leaf.height > checkpoint.height or leaf.time > checkpoint.time:
        raise VerificationError(
            f"the leaf is of height {leaf.height} at {leaf.time}, the checkpoint of {checkpoint.height} at "
            f"{checkpoint.time}, expected none after it: refuse the file"
        )
    if not leaf.time <= payload.valid_until <= leaf.time + HOUR:
        raise VerificationError(
            f"the envelope is valid until {payload.valid_until}, the block is at {leaf.time}, expected an end within "
            "an hour of it: refuse the file"
        )


def _gateway(checking: Checking, logged: LoggedOperation, opened: Opened) -> SignerShown:
    payload = opened.payload
    key, signer = _key(checking, payload.key_id, logged.leaf)
    if key.owner != payload.actor or key.role not in {Role.NODE, Role.NEWCOMER}:
        raise VerificationError(f"key {signer.key_id} is a {key.role} key of {key.owner.hex()}: refuse the file")
    if not is_signed(logged, key.public_key):
        raise VerificationError(f"the envelope's signature is not by key {signer.key_id}: refuse the file")
    return signer


def _persons(checking: Checking, logged: LoggedOperation, opened: Opened) -> tuple[SignerShown, ...]:
    patients = list(logged.patients)
    signers = []
    for person in opened.persons if not logged.leaf.result else ():
        if not logged.leaf.time <= person.valid_until <= logged.leaf.time + DAY:
            raise VerificationError(
                f"the signature of key {person.key_id.hex()} holds until {person.valid_until}, expected an end within "
                f"a day of {logged.leaf.time}: refuse the file"
            )
        if person.role == Role.PATIENT:
            public_key: bytes = _patient_key(patients, person)
            signer = _patient(person)
        else:
            key, signer = _key(checking, person.key_id, logged.leaf)
            if key.role != person.role:
                raise VerificationError(f"key {signer.key_id} is of a {key.role}, signed as {person.role}: refuse")
            public_key = key.public_key
        message = person_message(opened.core_bytes, opened.payload.chain, opened.payload.actor, person)
        if not verify(SuiteId.INTL, public_key, message, person.signature):
            raise VerificationError(f"the signature of key {signer.key_id} does not hold: refuse the file")
        signers.append(signer)
    if patients:
        raise VerificationError(f"{len(patients)} public keys of patients too many: refuse the file")
    return tuple(signers)


def _patient_key(patients: list[Any], person: PersonSignature) -> bytes:
    if not patients or key_id_of(SuiteId.INTL, patients[0]) != person.key_id:
        raise VerificationError(f"no public key of patient key {person.key_id.hex()} in the file: ask for a whole one")
    return bytes(patients.pop(0))


def _patient(person: PersonSignature) -> SignerShown:
    return SignerShown(
        key_id=person.key_id.hex(),
        institution="",
        operator="",
        role=Role.PATIENT.value,
        held_by="wallet",
        state="",
        compromised_since=0,
    )


def _key(checking: Checking, key_id: KeyId, leaf: Leaf) -> tuple[Key, SignerShown]:
    """Find a key's row and make sure that it might sign at the leaf's block, by what the row says now."""
    name = f"key {key_id.hex()}"
    header, key = _case(checking, key_id, "key", Key)
    if key_id_of(SuiteId.INTL, key.public_key) != key_id or key.suite != SuiteId.INTL:
        raise VerificationError(f"{name} has a public key of another id: refuse the file")
    if header.opened_height >= leaf.height or not key.valid_from <= leaf.time <= key.valid_until:
        raise VerificationError(
            f"{name} is registered at height {header.opened_height}, valid from {key.valid_from} to "
            f"{key.valid_until}; the block is {leaf.height} at {leaf.time}: refuse the file"
        )
    # a change takes effect from the next block
    if header.state != KeyState.ACTIVE and header.changed_height < leaf.height:
        raise VerificationError(
            f"{name} is {header.state} since height {header.changed_height}, the block is {leaf.height}: refuse"
        )
    return key, SignerShown(
        key_id=key_id.hex(),
        institution=key.owner.hex(),
        operator=_operator(checking, key.owner),
        role=key.role.value,
        held_by=key.held_by.value,
        state=header.state,
        compromised_since=key.compromised_since,
    )


def _operator(checking: Checking, institution: InstitutionId) -> str:
    return _case(checking, institution, "member", Member)[1].operator.hex()


def _case(checking: Checking, raw: bytes, word: str, kind: type[C]) -> tuple[Header, C]:
    what = f"{word} {raw.hex()}"
    row = checking.row(case_key(case_id(raw)), what)
    found, header = header_of(row, what)
    if found != word or header.id != raw:
        raise VerificationError(f"the row of {what} is a {found} of id {header.id.hex()}: refuse the file")
    return header, _convert(list(row.fields), kind, what)


T = TypeVar("T")


def _convert(raw: list[Any], kind: type[T], what: str) -> T:
    try:
        return msgspec.convert(raw, kind, builtin_types=(bytes,))
    except msgspec.ValidationError as error:
        raise VerificationError(f"the row of {what} has another shape ({error}): install a newer yilian") from None


def _shown(logged: LoggedOperation, opened: Opened, signers: tuple[SignerShown, ...]) -> OperationShown:
    core, leaf = opened.core, logged.leaf
    return OperationShown(
        op_id=core.op_id.hex(),
        workflow=core.workflow,
        command=core.command,
        case_id=core.case_id.hex(),
        actor=leaf.actor.hex(),
        height=leaf.height,
        time=leaf.time,
        leaf_index=logged.leaf_index,
        result=leaf.result,
        mode=_mode(logged, opened),
        signers=signers,
        unchecked_persons=len(opened.persons) if leaf.result else 0,
    )


def _mode(logged: LoggedOperation, opened: Opened) -> str:
    """Say who decided; of a refused operation nobody did, and only its form is told."""
    if any(person.role == Role.PATIENT for person in opened.persons):
        return "patient"
    if is_for_patients(opened.core.command) and not logged.leaf.result:
        return "custodial"
    return "person" if opened.persons else "institution"


def _unsigned(logged: LoggedOperation, opened: Opened) -> str:
    if logged.leaf.result and opened.persons:
        return f"{len(opened.persons)}, not checked: the operation was refused"
    return "none: the institution alone"


def _result(leaf: Leaf) -> str:
    if not leaf.result:
        return "done"
    return "refused " + " ".join(f"{workflow} {number}" for workflow, number in leaf.result)
