"""What an institution's node does by itself when the ledger moves: one function a kind of work, each safe to repeat.

Every function looks at the committed state first, so work that was done before (by this process, by an earlier one, by
a person) is seen as done. What it cannot do yet it gives back as `waiting`, what failed as `failed`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

import msgspec
import structlog

from yilian.crypto.suite import tagged_hash
from yilian.engine.gateway import Signed
from yilian.errors import Refused, VerificationError, YilianError
from yilian.ledger.cases import Case, Command, Found
from yilian.node import erasures, inspections
from yilian.node.checkpoints import may_release
from yilian.node.compose import Node
from yilian.node.evidence import why_too_old
from yilian.node.exchange import Beside
from yilian.node.host import Host
from yilian.storage.vault.records import Record, RecordStatus
from yilian.storage.vault.releases import NoteKind, OneTimeKeyStatus
from yilian.values import CaseId, EntryId, OpId, op_id
from yilian.workflows.audit.model import Inspection
from yilian.workflows.catalog import possession
from yilian.workflows.catalog.interface import is_current
from yilian.workflows.catalog.model import (
    Challenge,
    ChallengeAnswer,
    ChallengeFail,
    ChallengeOpen,
    ChallengePass,
    ChallengeState,
    Entry,
)
from yilian.workflows.consent import receiving, release, service
from yilian.workflows.consent.emergency_model import (
    Emergency,
    EmergencyAskCosignature,
    EmergencyDecline,
    EmergencyMatch,
    EmergencyState,
    NoMatchReason,
)
from yilian.workflows.consent.model import Grant, GrantState, Use, UseState
from yilian.workflows.referral.model import Receive, Referral, State, Verify

RECOVER_AFTER_MS = 30_000
"""A delivery that a fetch was waiting for, and has not opened by then, is opened here."""
MOST_OF_EMERGENCY = 20
_CHALLENGE_TAG = "yilian/reactor/challenge/v1"
_LOG = structlog.get_logger("yilian.reactions")
C = TypeVar("C", bound=Case)
_U, _C = UseState, ChallengeState
_RELEASED = (_U.DELIVERED, _U.RELEASED, _U.CONFIRMED, _U.DISPUTED, _U.FORGIVEN)


class Left(msgspec.Struct, frozen=True, kw_only=True):
    """What is not done: `waiting` for something to happen, or `failed` and to be tried again later."""

    waiting: tuple[CaseId, ...] = ()
    failed: tuple[CaseId, ...] = ()


DONE = Left()
Reaction = Callable[[Node, Host, Sequence[CaseId]], Left]
Item = tuple[CaseId, Sequence[Signed]]


def kinds_of(host: Host, found: Found[Case]) -> tuple[str, ...]:
    """Say which kinds of work a case, as an operation left it, makes for an institution."""
    fields, me, state = found.fields, host.id, found.state
    match fields:
        case Use():
            return _kinds_of_use(
                fields, state, is_custodian=fields.custodian == me, is_recipient=fields.recipient == me
            )
        case Referral():
            return _kinds_of_referral(state, is_receiver=fields.receiver == me, is_referrer=fields.referrer == me)
        case Challenge():
            possessing = fields.custodian == me and state == _C.OPEN
            checking = fields.challenger == me and state == _C.ANSWERED
            return ("possess",) if possessing else ("check",) if checking else ()
        case Emergency():
            return ("match",) if fields.custodian == me and state == EmergencyState.OPENED else ()
        case Grant():
            owing = state == GrantState.REVOKED and me in {fields.custodian, fields.recipient}
            return ("acknowledge",) if owing else ()
        case Entry():
            kind = erasures.kind_of(me, fields, state)
        case Inspection():
            kind = inspections.kind_of(me, fields, state)
        case _:
            kind = None
    return () if kind is None else (kind,)


def _kinds_of_referral(state: str, *, is_receiver: bool, is_referrer: bool) -> tuple[str, ...]:
    of_state = {State.REQUESTED: "verify", State.VERIFIED: "receive", State.IN_CARE: "attest"}
    if is_receiver:
        kind = of_state.get(State(state))
        return (kind,) if kind is not None else ()
    return ("push",) if is_referrer and state == State.REQUESTED else ()


def _kinds_of_use(fields: Use, state: str, *, is_custodian: bool, is_recipient: bool) -> tuple[str, ...]:
    if is_custodian and fields.recipient != fields.custodian:
        if state == _U.RESERVED:
            return ("answer",)
        return ("sent",) if state in {_U.DELIVERED, _U.RELEASED} else ()
    if is_recipient:
        if state == _U.DELIVERED:
            return ("recover",)
        return ("received",) if state in {_U.CONFIRMED, _U.DISPUTED, _U.RELEASED} else ()
    return ()


def answer(node: Node, host: Host, ids: Sequence[CaseId]) -> Left:
    """Deliver or decline reservations of own custody, many in one envelope, each with its disclosure event.

    A reservation waits until a checkpoint at or above its block satisfies the policy: its history is the one history.
    While the evidence is too old (`node.evidence`) it waits too, and lapses where that lasts.
    """
    reserved = [use for use in _found(host, Use, ids) if use.state == _U.RESERVED]
    stale = why_too_old(node)
    if stale and reserved:
        _LOG.warning("nothing is released", institution=host.slug, refusal="EVIDENCE_TOO_OLD", reason=stale)
    uses = [use for use in reserved if not stale and may_release(node, use.header.opened_height)]
    release.answer_reservations(host, uses, node.clock(), Beside(node, host))
    still = [use for use in _found(host, Use, ids) if use.state == _U.RESERVED]
    left = [use.header.id for use in still if node.clock() < use.fields.lease_end]
    unwitnessed = {use.header.id for use in reserved} - {use.header.id for use in uses}
    return Left(
        waiting=tuple(one for one in left if one in unwitnessed),
        failed=tuple(one for one in left if one not in unwitnessed),
    )


def sent(node: Node, host: Host, ids: Sequence[CaseId]) -> Left:
    """Note which messages are released, and put the disclosure events on record that no delivery took along."""
    release.settle(host, ids)
    return disclose(node, host, ids)


def disclose(node: Node, host: Host, ids: Sequence[CaseId]) -> Left:
    """Put this side's disclosure events on record where they are not yet."""
    beside = Beside(node, host)
    return _submit(host, [(use.header.id, beside(use)) for use in _found(host, Use, ids) if use.state in _RELEASED])


def recover(node: Node, host: Host, ids: Sequence[CaseId]) -> Left:
    """Open deliveries that nobody waits for: signed elsewhere, or of a fetch that died with an earlier process."""
    waiting: list[CaseId] = []
    failed: list[CaseId] = []
    for use in _found(host, Use, ids):
        key = host.vault.releases.find_key_of_use(use.header.id)
        if use.state != _U.DELIVERED or key is None:
            continue
        in_hand = key.status in {OneTimeKeyStatus.RESERVED, OneTimeKeyStatus.OPENED}
        if in_hand and node.clock() < use.fields.delivered + RECOVER_AFTER_MS:
            waiting.append(use.header.id)
        elif not _tried(use.header.id, receiving.conclude, host, use, beside=Beside(node, host)):
            failed.append(use.header.id)
    return Left(waiting=tuple(waiting), failed=tuple(failed))


def possess(node: Node, host: Host, ids: Sequence[CaseId]) -> Left:  # noqa: ARG001 - one signature
    """Answer challenges to the own custody."""
    items: list[Item] = []
    for challenge in _found(host, Challenge, ids):
        if challenge.state == _C.OPEN:
            digest, _ = possession.make_answer(host, challenge)
            items.append(_step(host, challenge, ChallengeAnswer(message=digest)))
    return _submit(host, items)


def check(node: Node, host: Host, ids: Sequence[CaseId]) -> Left:
    """Fetch what answers own challenges, check every segment, and say what was found."""
    items: list[Item] = []
    failed: list[CaseId] = []
    for challenge in _found(host, Challenge, ids):
        if challenge.state != _C.ANSWERED:
            continue
        try:
            wrong = _wrong_entries(node, host, challenge)
        except (YilianError, OSError) as error:
            _note(challenge.header.id, error)
            failed.append(challenge.header.id)
            continue
        items.append(_step(host, challenge, ChallengeFail(entries=wrong) if wrong else ChallengePass()))
    return Left(failed=(*_submit(host, items).failed, *failed))


def _wrong_entries(node: Node, host: Host, challenge: Found[Challenge]) -> tuple[EntryId, ...]:
    if challenge.fields.custodian == host.id:
        shown = possession.make_answer(host, challenge)[1]
    else:
        shown = node.peers.of(host).challenge_answer(challenge.fields.custodian, challenge.header.id)
    try:
        return possession.failed_entries(host, challenge, shown)
    except VerificationError:
        return challenge.fields.entries


def verify(node: Node, host: Host, ids: Sequence[CaseId]) -> Left:
    """Challenge request and records of referrals that came in, and record what the challenges showed."""
    items: list[Item] = []
    waiting: list[CaseId] = []
    for referral in _found(host, Referral, ids):
        if referral.state != State.REQUESTED:
            continue
        command, drawn = _challenge(node, referral)
        challenge_id = host.gateway.derive_id(command, drawn)
        challenge = host.gateway.find(Challenge, challenge_id)
        if challenge is None:
            draft = host.gateway.draft(command, op=drawn, version=0)
            items.append((referral.header.id, (Signed(core=draft.core),)))
            waiting.append(referral.header.id)
        elif challenge.state in {_C.PASSED, _C.FAILED, _C.LAPSED}:
            items.append((referral.header.id, _verification(host, referral, challenge)))
        elif challenge.state != _C.UNCHECKED:
            waiting.append(referral.header.id)
    left = _submit(host, items)
    return Left(waiting=tuple(one for one in waiting if one not in left.failed), failed=left.failed)


def _challenge(node: Node, referral: Found[Referral]) -> tuple[ChallengeOpen, OpId]:
    """Give the challenge over what is current of a referral; its id follows from the referral, so it is opened once."""
    reads, fields = node.engine.reads(), referral.fields
    entries = tuple(entry for entry in (fields.request, *fields.records) if is_current(reads, entry))
    name = tagged_hash(_CHALLENGE_TAG, referral.header.id, referral.header.version.to_bytes(8, "big"))
    return ChallengeOpen(custodian=fields.referrer, entries=entries or (fields.request,)), op_id(name[:16])


def _verification(host: Host, referral: Found[Referral], challenge: Found[Challenge]) -> Sequence[Signed]:
    case, version = referral.header.id, referral.header.version
    verified = host.gateway.draft(Verify(), case, refs=(challenge.header.id,), version=version)
    pushed = host.vault.releases.find_note(case, NoteKind.REFERRAL_PUSHED) is not None
    if challenge.state != _C.PASSED or not pushed:
        return (Signed(core=verified.core),)
    received = host.gateway.draft(Receive(), case, version=version + 1)
    return (Signed(core=verified.core), Signed(core=received.core))


def receive(node: Node, host: Host, ids: Sequence[CaseId]) -> Left:  # noqa: ARG001 - one signature
    """Confirm referrals that were verified and pushed here."""
    verified = [referral for referral in _found(host, Referral, ids) if referral.state == State.VERIFIED]
    pushed = [one for one in verified if host.vault.releases.find_note(one.header.id, NoteKind.REFERRAL_PUSHED)]
    left = _submit(host, [_step(host, referral, Receive()) for referral in pushed])
    return Left(waiting=tuple(one.header.id for one in verified if one not in pushed), failed=left.failed)


def push(node: Node, host: Host, ids: Sequence[CaseId]) -> Left:
    """Tell the receiver of each own referral, until it has acknowledged."""
    failed: list[CaseId] = []
    peers = node.peers.of(host)
    for referral in _found(host, Referral, ids):
        if referral.state not in {State.REQUESTED, State.VERIFIED}:
            continue
        if not _tried(referral.header.id, peers.push_referral, referral.fields.receiver, referral.header.id):
            failed.append(referral.header.id)
    return Left(failed=tuple(failed))


def attest(node: Node, host: Host, ids: Sequence[CaseId]) -> Left:  # noqa: ARG001 - one signature
    """Attest the consent of a patient who is here, once the request that names the patient was opened."""
    waiting: list[CaseId] = []
    for referral in _found(host, Referral, ids):
        if referral.state != State.IN_CARE:
            continue
        if not host.vault.releases.copies_of_entry(referral.fields.request):
            waiting.append(referral.header.id)
            continue
        try:
            service.attest(host, referral.fields.consent)
        except Refused as refused:
            # revoked meanwhile, or attested by 16 already: the result will be withheld, as the contract says
            _note(referral.header.id, refused)
    return Left(waiting=tuple(waiting))


def match_emergencies(node: Node, host: Host, ids: Sequence[CaseId]) -> Left:
    """List one's own entries of the patient of an emergency, or say why not."""
    waiting: list[CaseId] = []
    items: list[Item] = []
    for emergency in _found(host, Emergency, ids):
        if emergency.state != EmergencyState.OPENED or node.clock() >= emergency.fields.ends:
            continue
        note = host.vault.releases.find_note(emergency.header.id, NoteKind.EMERGENCY_IDENTITY)
        named = note is not None and service.identity_digest(note.body) == emergency.fields.identity
        if note is None or not named:
            waiting.append(emergency.header.id)
            continue
        items.append(_step(host, emergency, _matched(node, host, emergency, note.body)))
    left = _submit(host, items)
    for case, _ in items:
        _leave_for_emergency(node, host, case)
    return Left(waiting=tuple(waiting), failed=left.failed)


def _matched(node: Node, host: Host, emergency: Found[Emergency], sealed: bytes) -> Command:
    try:
        identity = service.open_identity(host, emergency.header.id, sealed)
    except VerificationError:
        return EmergencyDecline(reason=NoMatchReason.IDENTITY_UNCLEAR)
    subjects = {
        subject.subject_ref
        for identifier in identity.identifiers
        for subject in host.vault.subjects.find_by_identifier(identifier)
    }
    if len(subjects) != 1:
        return EmergencyDecline(reason=NoMatchReason.IDENTITY_UNCLEAR if subjects else NoMatchReason.UNKNOWN_PATIENT)
    reads = node.engine.reads()
    records = [
        record
        for record in host.vault.records.of_subject(subjects.pop())
        if record.status == RecordStatus.PUBLISHED and is_current(reads, record.entry_id)
    ]
    if not records:
        return EmergencyDecline(reason=NoMatchReason.NOTHING_HELD)
    newest = sorted(records, key=_newest_first)[:MOST_OF_EMERGENCY]
    if any(record.level == 5 for record in newest) and emergency.fields.cosigner is None:
        return EmergencyAskCosignature()
    entries = tuple(record.entry_id for record in newest)
    return EmergencyMatch(entries=entries, deliveries=2 * len(entries))


def _newest_first(record: Record) -> tuple[int, int]:
    return -record.year, -record.j


def _leave_for_emergency(node: Node, host: Host, case: CaseId) -> None:
    """Record the leave for level 5 that a co-signed emergency gives."""
    found = host.gateway.find(Emergency, case)
    if found is None or found.fields.grant is None or found.fields.cosigner is None:
        return
    service.record_leave(host, found.fields.grant, host.gateway.key_id, node.clock())


def acknowledge(node: Node, host: Host, ids: Sequence[CaseId]) -> Left:  # noqa: ARG001 - one signature
    """Say of revoked grants that deliveries are stopped, or what became of the copies."""
    items: list[Item] = []
    for grant in _found(host, Grant, ids):
        owed = service.acknowledgement(host, grant)
        if owed is not None:
            items.append(_step(host, grant, owed))
    return _submit(host, items)


def grant_content(node: Node, host: Host, ids: Sequence[CaseId]) -> Left:
    """Grant inspections the own entries that they asked for, and note which patients are to be told."""
    asked = [(one, inspections.owed(host, one)) for one in _found(host, Inspection, ids)]
    items: list[Item] = [
        (one.header.id, [grant.operation for grant in grants if grant.operation is not None]) for one, grants in asked
    ]
    left = _submit(host, items)
    for one, grants in asked:
        inspections.note_patients(host, one, grants, node.clock())
    return left


def end_content(node: Node, host: Host, ids: Sequence[CaseId]) -> Left:  # noqa: ARG001 - one signature
    """Take back what is left of the grants of inspections that are over."""
    found = _found(host, Inspection, ids)
    return _submit(host, [(one.header.id, inspections.left_over(host, one)) for one in found])


def destroy(node: Node, host: Host, ids: Sequence[CaseId]) -> Left:  # noqa: ARG001 - one signature
    """Destroy own records that are being erased, and confirm it."""
    return _submit(host, [(entry.header.id, erasures.confirmation(host, entry)) for entry in _found(host, Entry, ids)])


def account(node: Node, host: Host, ids: Sequence[CaseId]) -> Left:
    """Destroy, or keep under a duty, the copies of records that are being erased, and answer for them."""
    answers = [(entry.header.id, erasures.answer(node, host, entry)) for entry in _found(host, Entry, ids)]
    left = _submit(host, [(case, operations) for case, operations in answers if operations is not None])
    return Left(waiting=tuple(case for case, operations in answers if operations is None), failed=left.failed)


REACTIONS: Mapping[str, Reaction] = {
    "answer": answer,
    "sent": sent,
    "received": disclose,
    "possess": possess,
    "verify": verify,
    "receive": receive,
    "acknowledge": acknowledge,
    inspections.GRANT: grant_content,
    inspections.END: end_content,
    erasures.DESTROY: destroy,
    erasures.ACCOUNT: account,
    "push": push,
    "check": check,
    "attest": attest,
    "match": match_emergencies,
    "recover": recover,
}
NEEDS_OTHERS = frozenset({"push", "check", "attest", "match", "recover"})
"""Kinds that ask other institutions or read many bytes: they must not hold up the others."""
UNHURRIED = frozenset({"recover", "attest"})
"""Kinds that others usually do first; nobody waits for them."""


def _found(host: Host, kind: type[C], ids: Sequence[CaseId]) -> list[Found[C]]:
    cases = (host.gateway.find(kind, case) for case in ids)
    return [case for case in cases if case is not None]


def _step(host: Host, found: Found[C], command: Command) -> Item:
    draft = host.gateway.draft(command, found.header.id, version=found.header.version)
    return found.header.id, (Signed(core=draft.core),)


def _submit(host: Host, items: Sequence[Item]) -> Left:
    """Send the operations of many cases together, and give the cases of which one was refused."""
    operations = [operation for _, operations in items for operation in operations]
    if not operations:
        return DONE
    answers = iter(host.gateway.send(operations))
    failed: list[CaseId] = []
    for case, own in items:
        refused = [answer for answer in (next(answers) for _ in own) if not answer.ok]
        if refused:
            failed.append(case)
            _LOG.info("refused", institution=host.slug, command=refused[0].command, result=str(refused[0].result))
    return Left(failed=tuple(failed))


def _tried(case: CaseId, function: Callable[..., object], *args: object, **named: object) -> bool:
    try:
        function(*args, **named)
    except (YilianError, OSError) as error:
        _note(case, error)
        return False
    return True


def _note(case: CaseId, error: Exception) -> None:
    _LOG.info("not yet", case=case.hex(), error=type(error).__name__)
