"""What this node says to others directly, beside an operation that it is about to send.

One row a command. Nobody waits for a notice and nothing depends on it: the block says the same, a little later. Since a
notice cannot be taken back, it goes out only where the signers of the operation look as the ledger wants them.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence

import structlog

from yilian import canonical
from yilian.crypto.suite import SuiteId, key_id_of, verify
from yilian.engine.gateway import Signed
from yilian.errors import YilianError
from yilian.ledger.cases import Case, Command, Found
from yilian.ledger.envelope import Core, PersonSignature, person_message
from yilian.ledger.members import Role, is_valid
from yilian.ledger.registry import Bound
from yilian.ledger.workflow import Alternative
from yilian.node.compose import Node
from yilian.node.host import Host
from yilian.values import CaseId, InstitutionId
from yilian.web.app import Caller
from yilian.web.app.permits import fits
from yilian.workflows.consent import service
from yilian.workflows.consent.model import GrantRevoke, Revoke

MOST_UNDER_WAY = 64
"""Notices at one time; where as many hang already, the block alone tells the others."""
_UNDER_WAY = threading.BoundedSemaphore(MOST_UNDER_WAY)
_LOG = structlog.get_logger("yilian.notices")

Notice = Callable[[], bool]
"""Says one thing to one institution, and whether it arrived."""


def revocation(node: Node, host: Host, case: CaseId) -> Sequence[Notice]:
    """Give one notice a custodian that a revocation of this consent or grant concerns."""
    peers = node.peers.of(host)

    def to(custodian: InstitutionId) -> Notice:
        return lambda: service.tell_custodian(peers, custodian, case)

    return [to(custodian) for custodian in service.custodians_to_tell(host, case)]


NOTICES: Mapping[type[Command], Callable[[Node, Host, CaseId], Sequence[Notice]]] = {
    Revoke: revocation,
    GrantRevoke: revocation,
}
"""What to say beside submitting a command."""


def give(node: Node, host: Host, operation: Signed) -> None:
    """Begin to say what an operation asks for, and return at once; what cannot be read is the ledger's to refuse."""
    try:
        core = canonical.decode(operation.core, Core)
        bound = node.registry.commands.get((core.workflow, core.command))
        make = NOTICES.get(bound.command) if bound is not None else None
        if bound is None or make is None or not _is_credible(node, host, operation, core=core, bound=bound):
            return
        notices = make(node, host, core.case_id)
    except YilianError as error:
        _LOG.info("no notice", institution=host.slug, error=type(error).__name__)
        return
    for notice in notices:
        if not _UNDER_WAY.acquire(blocking=False):
            _LOG.warning("too many notices under way", institution=host.slug, most=MOST_UNDER_WAY)
            return
        threading.Thread(target=_say, args=(host.slug, notice), name=f"notice-{host.slug}", daemon=True).start()


def _say(slug: str, notice: Notice) -> None:
    try:
        arrived = notice()
    except (YilianError, OSError, RuntimeError) as error:  # a RuntimeError where the node closes its lines meanwhile
        _LOG.info("notice failed", institution=slug, error=type(error).__name__)
    else:
        if not arrived:
            _LOG.info("notice not taken", institution=slug)
    finally:
        _UNDER_WAY.release()


def _is_credible(node: Node, host: Host, operation: Signed, *, core: Core, bound: Bound) -> bool:
    """Say whether the ledger would take these signers for the command in the state of the case, as far as known now."""
    there = node.engine.find_case(core.case_id)
    if there is None or there[0] != bound.case_type.word:
        return False
    found = there[1]
    command = canonical.decode(core.body, bound.command)
    on_paper = getattr(command, "paper", None) is not None
    alternatives = [one for row in bound.moving if found.state in row.from_states for one in row.who.alternatives]
    if not operation.persons:
        return any(_admits(one, host, found, Role.NODE, on_paper=on_paper) for one in alternatives)
    (signature, *more) = operation.persons
    if more or not _holds(node, host, found, core=operation.core, signature=signature):
        return False
    if signature.role == Role.PATIENT:
        return any(one.kind == "patient" for one in alternatives)
    return any(_admits(one, host, found, signature.role, on_paper=on_paper) for one in alternatives)


def _admits(one: Alternative, host: Host, found: Found[Case], role: Role, *, on_paper: bool) -> bool:
    caller = Caller(slug=host.slug, institution=host.id, key_id=host.gateway.key_id, role=role, label="")
    return (one.kind != "patient" or on_paper) and fits(one, found, caller)


def _holds(node: Node, host: Host, found: Found[Case], *, core: bytes, signature: PersonSignature) -> bool:
    """Verify a signature of the patient whom the case is about, or of a person of this institution."""
    engine = node.engine
    if signature.role == Role.PATIENT:
        key = found.header.patient.key if found.header.patient is not None else None
        if key is None or key_id_of(SuiteId.INTL, key) != signature.key_id:
            return False
    else:
        known = engine.directory().key(signature.key_id)
        if known is None or known.fields.owner != host.id or known.fields.role != signature.role:
            return False
        if not is_valid(known.fields, known.state, engine.head().time):
            return False
        key = known.fields.public_key
    message = person_message(core, engine.chain, host.id, signature)
    return signature.valid_until >= engine.head().time and verify(SuiteId.INTL, key, message, signature.signature)
