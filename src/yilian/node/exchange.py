"""The exchange of records as this node's institutions do it: services, lines and disclosure events put together."""

from __future__ import annotations

import secrets
import threading
from collections import OrderedDict
from collections.abc import Sequence

from yilian.crypto.suite import Signer
from yilian.engine.gateway import Draft, Signed
from yilian.engine.port import Engine
from yilian.errors import NotFoundError, Refused
from yilian.ledger.cases import Found
from yilian.ledger.envelope import PersonSignature
from yilian.ledger.members import Role
from yilian.ledger.results import Answer
from yilian.node import anchoring
from yilian.node.compose import Node
from yilian.node.host import Host
from yilian.storage.vault.audit import EdgeRefusal
from yilian.values import CaseId, EntryId, InstitutionId, KeyId, OpId, digest, op_id
from yilian.workflows.audit import service as audit
from yilian.workflows.audit.model import Refusal as AuditRefusal
from yilian.workflows.consent import receiving
from yilian.workflows.consent.emergency_model import EmergencyOpen, EmergencyReason
from yilian.workflows.consent.model import Refusal, Use
from yilian.workflows.consent.ports import SealedIdentity
from yilian.workflows.consent.receiving import Asked, Fetched
from yilian.workflows.consent.service import Identity, seal_identity
from yilian.workflows.consent.transfer import Progress

_BLOCKS_REMEMBERED = 64


def fetch(
    node: Node,
    host: Host,
    grant: CaseId,
    *,
    entries: Sequence[EntryId] = (),
    signer: Signer,
    role: Role,
    progress: Progress = lambda _: None,
) -> Fetched:
    """Fetch, verify and open entries of a grant (1 to 32, by default all) for a person whose key this node holds.

    Errors as `receiving.fetch` and `check_anchored`; a reservation that the ledger refused is kept in the recipient's
    audit record.
    """
    check_anchored(node)
    try:
        return receiving.fetch(
            host,
            node.peers.of(host),
            grant,
            entries=entries,
            signer=signer,
            role=role,
            now=node.clock(),
            beside=Beside(node, host),
            progress=progress,
        )
    except Refused as refused:
        record_refusal(node, host, grant, refused)
        raise


def check_anchored(node: Node) -> None:
    """Ask for nothing while the own timestamps are too old. Refuses: audit EVIDENCE_TOO_OLD."""
    why = anchoring.is_too_old(node)
    if why:
        raise Refused(AuditRefusal.EVIDENCE_TOO_OLD, why, workflow="audit")


def begin(
    node: Node,
    host: Host,
    grant: CaseId,
    *,
    entries: Sequence[EntryId] = (),
    person: KeyId,
    progress: Progress = lambda _: None,
) -> Asked:
    """Bring M and ciphertext here, and draft the reservation for a key that is held elsewhere. Errors as `fetch`."""
    check_anchored(node)
    peers = node.peers.of(host)
    return receiving.begin(host, peers, grant, entries=entries, person=person, now=node.clock(), progress=progress)


def finish(node: Node, host: Host, draft: Draft, signatures: tuple[PersonSignature, ...]) -> Fetched:
    """Send the reservation that was signed elsewhere, wait for the delivery, and open. Errors as `fetch`."""
    return receiving.finish(host, draft, signatures, beside=Beside(node, host))


def open_emergency(
    node: Node,
    host: Host,
    custodian: InstitutionId,
    *,
    identity: Identity,
    reason: EmergencyReason,
    lasts_ms: int,
    signer: Signer,
) -> Answer:
    """Ask one custodian for a patient's records without the patient's word; a physician signs.

    The custodian learns whom it is about first, sealed to its gateway key; the ledger holds the digest alone.

    Raises:
        UnavailableError: the custodian does not answer; nothing stands on the ledger.
        Refused: by the ledger.
    """
    peers, drawn = node.peers.of(host), op_id(secrets.token_bytes(16))
    blank = EmergencyOpen(custodian=custodian, identity=digest(bytes(32)), reason=reason, lasts=lasts_ms)
    case = host.gateway.derive_id(blank, drawn)
    named, sealed = seal_identity(peers.exchange_key(custodian), case, identity)
    peers.emergency(custodian, SealedIdentity(case=case, sealed=sealed))
    command = EmergencyOpen(custodian=custodian, identity=named, reason=reason, lasts=lasts_ms)
    return host.gateway.act(command, persons=[(signer, Role.PHYSICIAN)], op=drawn)


def record_refusal(node: Node, host: Host, grant: CaseId, refused: Refused) -> None:
    """Keep in the recipient's own audit record that the ledger refused a reservation; the log has it too."""
    known = refused.workflow == "consent"
    kind = Refusal(refused.number).name if known else "RESERVATION_REFUSED"
    detail = f"use.reserve under grant {grant.hex()} was refused"
    host.vault.audit.append_refusal(
        EdgeRefusal(time=node.clock(), kind=f"RESERVE_{kind}", number=refused.number, detail=detail)
    )


class Beside:
    """Gives the disclosure event that goes into the envelope of a delivery or a confirmation."""

    def __init__(self, node: Node, host: Host) -> None:
        self._node = node
        self._host = host

    def __call__(self, use: Found[Use]) -> tuple[Signed, ...]:
        """Keep this side's event of a use, and give the operation that commits to it, if that is still to be done."""
        host, subject = self._host, b""
        if use.fields.custodian == host.id:
            record = host.vault.records.find(use.fields.entries[0])
            subject = record.subject_ref if record is not None else b""
        operation = audit.disclosure(
            host,
            use,
            request_id(self._node.engine, use),
            recorded=use.fields.delivered or self._node.clock(),
            subject=subject,
        )
        return () if operation is None else (operation,)


class _Reservations:
    """Operation ids of the reservations of the blocks read last: many uses of one block are asked one by one."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._blocks: OrderedDict[tuple[bytes, int], dict[CaseId, OpId]] = OrderedDict()

    def of_block(self, engine: Engine, height: int) -> dict[CaseId, OpId]:
        name = (bytes(engine.chain), height)
        with self._lock:
            if name not in self._blocks:
                found = {
                    event.case_id: event.op_id for event in engine.events(height) if event.command == "use.reserve"
                }
                self._blocks[name] = found
                while len(self._blocks) > _BLOCKS_REMEMBERED:
                    self._blocks.popitem(last=False)
            return self._blocks[name]


_RESERVATIONS = _Reservations()


def request_id(engine: Engine, use: Found[Use]) -> OpId:
    """Give the operation id of the `use.reserve` that opened a use: the X-Request-Id of both sides' events.

    Raises:
        NotFoundError: its block has no such operation.
    """
    found = _RESERVATIONS.of_block(engine, use.header.opened_height).get(use.header.id)
    if found is None:
        raise NotFoundError(
            f"block {use.header.opened_height} holds no reservation {use.header.id.hex()}: check the chain"
        )
    return found
