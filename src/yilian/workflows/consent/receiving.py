"""The recipient's side of a release: ask, check, reserve, open, confirm or dispute (spec/release.md, Use).

`begin` brings ciphertext and M here and drafts the reservation that a physician signs; `finish` sends it, waits until
the ledger has delivered, and `conclude` opens. Every step is durable before the next, and can be done again.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import BinaryIO, cast

import msgspec

from yilian.crypto import seal
from yilian.crypto.blob import BlobReader
from yilian.crypto.commitment import Commitment, record_commitment
from yilian.crypto.intl import generate_x25519
from yilian.crypto.suite import Signer
from yilian.engine.gateway import Draft, Signed, check
from yilian.errors import NoGrantError, NotFoundError, Refused, UnavailableError, VerificationError
from yilian.ledger.cases import Found
from yilian.ledger.envelope import PersonSignature
from yilian.ledger.members import Key, Role
from yilian.storage.vault.audit import EdgeRefusal
from yilian.storage.vault.releases import OneTimeKey, OneTimeKeyStatus, ReceivedCopy
from yilian.values import DAY, CaseId, EntryId, InstitutionId, KeyId, UnixMillis, case_id
from yilian.workflows.catalog.interface import DisputeReason, Entry
from yilian.workflows.consent.message import (
    MAX_MESSAGE,
    Item,
    Listed,
    Message,
    Opened,
    Terms,
    check_message,
    message_hash,
    open_item,
    parse_message,
)
from yilian.workflows.consent.model import Grant, Use, UseConfirm, UseDispute, UseReserve, UseState
from yilian.workflows.consent.ports import ExchangeRequest, Institution, Peers, ReleaseRequest
from yilian.workflows.consent.transfer import (
    Progress,
    Reader,
    fetch_missing,
    is_whole,
    keep_files,
    missing,
    short_of,
)

DELIVERY_TIMEOUT_S = 660.0
"""A little longer than the lease of a reservation."""
_ASKED_TWICE = 2
"""A kept connection may close as it is used: the first answer that does not begin is asked for again."""
TAMPERED = "TAMPERED_BLOB"
"""Kind of the edge refusal that records ciphertext other than the ledger names."""

Beside = Callable[[Found[Use]], Sequence[Signed]]
"""Gives the operations that go into the envelope of a confirmation, behind it."""


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """Ciphertext and M are here; `draft` waits for the signature of `person`."""

    draft: Draft
    grant: CaseId
    entries: tuple[EntryId, ...]
    person: KeyId


class Fetched(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a use. `verified`: every entry opened as committed, and the use was confirmed."""

    use_id: CaseId
    state: str
    entries: tuple[EntryId, ...]
    verified: bool
    disputed: tuple[EntryId, ...] = ()
    reason: str = ""
    seconds: float = 0.0


def fetch(
    recipient: Institution,
    peers: Peers,
    grant_id: CaseId,
    *,
    entries: Sequence[EntryId] = (),
    signer: Signer,
    role: Role,
    now: UnixMillis,
    beside: Beside,
    progress: Progress = lambda _: None,
    timeout_s: float = DELIVERY_TIMEOUT_S,
) -> Fetched:
    """Fetch, verify and open entries of a grant (1 to 32, by default all), signed with a person's key held here.

    Raises:
        NoGrantError: the custodian says that nobody granted this.
        Refused: the ledger refused the reservation, with the number.
        VerificationError: M or the ciphertext is not what the ledger names; nothing was reserved.
        UnavailableError: custodian or ledger did not answer; asking again goes on where it stopped.
    """
    started = time.monotonic()
    asked, key = _bring(
        recipient,
        peers,
        grant_id,
        entries=entries,
        person=signer.key_id,
        now=now,
        status=OneTimeKeyStatus.RESERVED,
        progress=progress,
    )
    signature = recipient.gateway.sign(asked.draft.core, signer, role)
    fetched = _send(recipient, asked.draft, (signature,), beside=beside, timeout_s=timeout_s, key=key)
    return msgspec.structs.replace(fetched, seconds=time.monotonic() - started)


def begin(
    recipient: Institution,
    peers: Peers,
    grant_id: CaseId,
    *,
    entries: Sequence[EntryId] = (),
    person: KeyId,
    now: UnixMillis,
    progress: Progress = lambda _: None,
) -> Asked:
    """Bring M and ciphertext here, check both, and draft the reservation. Errors as `fetch`."""
    status = OneTimeKeyStatus.ASKED
    asked, _ = _bring(
        recipient, peers, grant_id, entries=entries, person=person, now=now, status=status, progress=progress
    )
    return asked


def _bring(
    recipient: Institution,
    peers: Peers,
    grant_id: CaseId,
    *,
    entries: Sequence[EntryId],
    person: KeyId,
    now: UnixMillis,
    status: OneTimeKeyStatus,
    progress: Progress,
) -> tuple[Asked, OneTimeKey]:
    grant = recipient.gateway.find(Grant, grant_id)
    if grant is None:
        raise NoGrantError(f"there is no grant {grant_id.hex()} on the ledger: ask the custodian for one")
    wanted = tuple(entries) or grant.fields.entries
    found = tuple(_entry(recipient, entry) for entry in wanted)
    pair = generate_x25519()
    custodian = grant.fields.custodian
    request = ExchangeRequest(grant=grant_id, entries=wanted, one_time_key=pair.public_key, person=person)
    terms = Terms(
        chain=recipient.gateway.engine.chain,
        custodian=custodian,
        recipient=recipient.id,
        person=person,
        grant=grant_id,
        one_time_key=pair.public_key,
    )
    listed = tuple(_listed(entry) for entry in found)
    made: list[tuple[Draft, OneTimeKey]] = []
    # Key and M become durable while the ciphertext comes; nothing is reserved before all of it is.
    with ThreadPoolExecutor(1, thread_name_prefix="one-time-key") as aside:
        keeping: list[Future[None]] = []

        def accept(signed: bytes) -> None:
            check_message(signed, gateway_key(recipient, signed, custodian), terms, listed)
            draft = recipient.gateway.draft(
                UseReserve(
                    grant=grant_id,
                    purpose=grant.fields.purpose,
                    entries=wanted,
                    one_time=pair.public_key,
                    message=message_hash(signed),
                )
            )
            key = OneTimeKey(
                public=pair.public_key,
                private=pair.private_key,
                grant=grant_id,
                use_id=draft.case_id,
                message=signed,
                status=status,
                erase_after=now + DAY,
            )
            made.append((draft, key))
            keeping.append(aside.submit(recipient.vault.releases.put_key, key))

        _receive(recipient, peers, custodian, request, entries=found, accept=accept, now=now, progress=progress)
    for kept in keeping:
        kept.result()
    ((draft, key),) = made
    return Asked(draft=draft, grant=grant_id, entries=wanted, person=person), key


def _receive(
    recipient: Institution,
    peers: Peers,
    custodian: InstitutionId,
    request: ExchangeRequest,
    *,
    entries: tuple[Found[Entry], ...],
    accept: Callable[[bytes], None],
    now: UnixMillis,
    progress: Progress,
) -> None:
    """Bring M, hand it to `accept`, and make the ciphertext durable that is not whole here, short files beside M."""
    lacking = missing(recipient.blobs, entries)
    asked = short_of(lacking)
    left = list(asked)
    wanted = ReleaseRequest(exchange=request, roots=tuple(entry.fields.root for entry in asked))
    accepted = False
    for attempt in range(_ASKED_TWICE):
        try:
            with peers.release(custodian, wanted) as pieces:
                reader = Reader(pieces)
                signed = reader.take_framed(MAX_MESSAGE)
                if signed is None:
                    raise UnavailableError(f"the message under grant {request.grant.hex()} was cut: ask again")
                accept(signed)
                accepted = True
                with _noting_tampered(recipient, now):
                    keep_files(recipient.blobs, reader, left, progress=progress)
            break
        except UnavailableError:
            if accepted:
                break
            if attempt + 1 == _ASKED_TWICE:
                raise
    rest = [entry for entry in lacking if entry in left or entry not in asked]
    with _noting_tampered(recipient, now):
        fetch_missing(recipient.blobs, peers, rest, request.grant, progress=progress)


@contextmanager
def _noting_tampered(recipient: Institution, now: UnixMillis) -> Iterator[None]:
    try:
        yield
    except VerificationError as error:
        note_tampered(recipient, str(error), now)
        raise


def finish(
    recipient: Institution,
    draft: Draft,
    signatures: tuple[PersonSignature, ...],
    *,
    beside: Beside,
    timeout_s: float = DELIVERY_TIMEOUT_S,
) -> Fetched:
    """Send the signed reservation, wait for the ledger's delivery, and open. Errors as `fetch`."""
    # RESERVED: somebody here waits for the delivery; a key left ASKED is opened by the node as soon as it is delivered.
    _mark(recipient, draft.case_id, OneTimeKeyStatus.RESERVED)
    return _send(recipient, draft, signatures, beside=beside, timeout_s=timeout_s)


def _send(
    recipient: Institution,
    draft: Draft,
    signatures: tuple[PersonSignature, ...],
    *,
    beside: Beside,
    timeout_s: float,
    key: OneTimeKey | None = None,
) -> Fetched:
    (answer,) = recipient.gateway.send([Signed(core=draft.core, persons=signatures)])
    try:
        check(answer)
    except Refused:
        _mark(recipient, draft.case_id, OneTimeKeyStatus.CLOSED)
        raise
    return follow(recipient, draft.case_id, beside=beside, timeout_s=timeout_s, key=key)


def follow(
    recipient: Institution,
    use_id: CaseId,
    *,
    beside: Beside,
    timeout_s: float = DELIVERY_TIMEOUT_S,
    key: OneTimeKey | None = None,
) -> Fetched:
    """Wait until a reservation of ours is answered, and conclude it; `key` is its one-time key, if at hand.

    Raises:
        NotFoundError: no such use.
        UnavailableError: it is still unanswered after `timeout_s`; the reservation stands, follow it again.
        VerificationError: the ciphertext here was damaged since it was checked: fetch it again.
    """
    engine, deadline = recipient.gateway.engine, time.monotonic() + timeout_s
    while True:
        height = engine.head().height
        use = recipient.gateway.find(Use, use_id)
        if use is None:
            raise NotFoundError(f"there is no use {use_id.hex()} on the ledger: check the id")
        if use.state != UseState.RESERVED:
            return conclude(recipient, use, beside=beside, key=key)
        left = deadline - time.monotonic()
        if left <= 0:
            raise UnavailableError(
                f"the custodian has not answered reservation {use_id.hex()} within {timeout_s:.0f} s: follow it later"
            )
        engine.wait_height(height + 1, left)


def conclude(recipient: Institution, use: Found[Use], *, beside: Beside, key: OneTimeKey | None = None) -> Fetched:
    """Open what a use delivered and confirm or dispute it; what was not delivered is closed. Does nothing twice."""
    releases = recipient.vault.releases
    if key is None:
        key = releases.find_key_of_use(use.header.id)
    if use.state != UseState.DELIVERED or key is None:
        if key is not None and key.status in {OneTimeKeyStatus.ASKED, OneTimeKeyStatus.RESERVED}:
            releases.put_key(msgspec.structs.replace(key, status=OneTimeKeyStatus.CLOSED))
        if use.state == UseState.RELEASED:
            recipient.gateway.send(beside(use))
        return _outcome(use, use.fields.disputed)
    copies, wrong = open_delivered(recipient, use, key)
    with recipient.vault.transaction():
        releases.put_copies(copies)
        releases.put_key(
            msgspec.structs.replace(key, status=OneTimeKeyStatus.OPENED, erase_after=use.fields.dispute_until)
        )
        behind = beside(use)
    command = UseDispute(entries=tuple(wrong), reason=min(wrong.values(), key=_gravest)) if wrong else UseConfirm()
    draft = recipient.gateway.draft(command, use.header.id, version=use.header.version)
    recipient.gateway.send([Signed(core=draft.core), *behind])
    now = recipient.gateway.find(Use, use.header.id)
    return _outcome(now if now is not None else use, tuple(wrong))


def open_delivered(
    recipient: Institution, use: Found[Use], key: OneTimeKey
) -> tuple[list[ReceivedCopy], dict[EntryId, DisputeReason]]:
    """Open what a use delivered from the ciphertext here: (copies of what holds, what is wrong with the others).

    Raises:
        VerificationError: the ciphertext here was damaged since it was checked: fetch it again.
    """
    _, message = parse_message(key.message)
    copies: list[ReceivedCopy] = []
    wrong: dict[EntryId, DisputeReason] = {}
    for item in message.items:
        opened = _open(recipient, use, message, item, private=key.private)
        if isinstance(opened, DisputeReason):
            wrong[item.key.entry] = opened
            continue
        copies.append(
            ReceivedCopy(
                entry_id=item.key.entry,
                use_id=use.header.id,
                root=item.key.root,
                data_key=opened.data_key,
                salt=opened.slip.salt,
                true_size=opened.slip.true_size,
                level=opened.slip.level,
                sensitivity=opened.slip.sensitivity,
            )
        )
    return copies, wrong


def gateway_key(recipient: Institution, signed: bytes, custodian: InstitutionId) -> bytes:
    """Give the public key that a message says it is signed with, where the ledger says it is that custodian's.

    Raises:
        VerificationError: no key of a node of this custodian.
    """
    _, message = parse_message(signed)
    key = recipient.gateway.find(Key, case_id(message.signer))
    if key is None or key.fields.owner != custodian or key.fields.role != Role.NODE or key.state != "active":
        raise VerificationError(
            f"the message is signed with {message.signer.hex()}, no gateway key of its custodian: ask it again"
        )
    return key.fields.public_key


def note_tampered(recipient: Institution, detail: str, now: UnixMillis) -> None:
    """Record that ciphertext came which the ledger does not name."""
    recipient.vault.audit.append_refusal(EdgeRefusal(time=now, kind=TAMPERED, number=0, detail=detail))


def _mark(recipient: Institution, use_id: CaseId, status: OneTimeKeyStatus) -> None:
    key = recipient.vault.releases.find_key_of_use(use_id)
    if key is not None:
        recipient.vault.releases.put_key(msgspec.structs.replace(key, status=status))


class _Sink:
    """Feeds plaintext into its commitment, and keeps none of it."""

    def __init__(self, commitment: Commitment) -> None:
        self._commitment = commitment

    def write(self, data: bytes) -> int:
        self._commitment.update(data)
        return len(data)


def _open(
    recipient: Institution, use: Found[Use], message: Message, item: Item, *, private: bytes
) -> Opened | DisputeReason:
    """Open one delivered record, or say what is wrong with it; ciphertext that was damaged here is nobody's fault."""
    if use.fields.mask is None:
        raise AssertionError("a delivered use has a mask")
    judged: Opened | DisputeReason
    try:
        opened = open_item(message, item, private, use.fields.mask)
        judged = _judge(recipient, message, item, opened) or opened
    except VerificationError:
        judged = DisputeReason.KEY_DIFFERS
    if isinstance(judged, DisputeReason) and not is_whole(recipient.blobs, item.key.root):
        raise VerificationError(f"blob {item.key.root.hex()} was damaged here since it was checked: fetch it again")
    return judged


def _judge(recipient: Institution, message: Message, item: Item, opened: Opened) -> DisputeReason | None:
    root = item.key.root
    with recipient.blobs.open(root) as blob:
        if not seal.key_fits(BlobReader(blob).header_bytes, opened.data_key):
            return DisputeReason.KEY_DIFFERS
        commitment = record_commitment(message.chain, message.custodian, item.key.entry, opened.slip.salt)
        blob.seek(0)
        try:
            # checked against the root when it came; what was damaged since does not open, or gives other plaintext
            length = seal.open_checked(blob, opened.data_key, root, cast("BinaryIO", _Sink(commitment)))
        except VerificationError:
            return DisputeReason.COMMITMENT_DIFFERS
    holds = commitment.digest() == item.key.commitment and length == opened.slip.true_size
    return None if holds else DisputeReason.COMMITMENT_DIFFERS


def _gravest(reason: DisputeReason) -> int:
    return (DisputeReason.KEY_DIFFERS, DisputeReason.COMMITMENT_DIFFERS).index(reason)


def _outcome(use: Found[Use], disputed: tuple[EntryId, ...]) -> Fetched:
    fields = use.fields
    reason = fields.declined or fields.dispute_reason
    return Fetched(
        use_id=use.header.id,
        state=use.state,
        entries=fields.entries,
        verified=use.state == UseState.CONFIRMED,
        disputed=disputed,
        reason=reason.value if reason is not None else "",
    )


def _entry(recipient: Institution, entry_id: EntryId) -> Found[Entry]:
    found = recipient.gateway.find(Entry, entry_id)
    if found is None:
        raise NotFoundError(f"there is no entry {entry_id.hex()} on the ledger: check the id")
    return found


def _listed(entry: Found[Entry]) -> Listed:
    return Listed(entry=entry.header.id, root=entry.fields.root, commitment=entry.fields.commitment)
