"""What an institution does about consents and grants beside the exchange: leave, stops, receipts, identities."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import msgspec
from msgspec import Meta

from yilian import canonical
from yilian.crypto.intl import hpke_unwrap, hpke_wrap
from yilian.crypto.suite import framed, tagged_hash
from yilian.engine.gateway import check
from yilian.errors import NoGrantError, NotFoundError, UnavailableError, VerificationError
from yilian.ledger.cases import Found
from yilian.ledger.results import Answer
from yilian.storage.vault.releases import Note, NoteKind, ReceivedCopy
from yilian.values import CaseId, Digest, EntryId, InstitutionId, KeyId, PublicKey, UnixMillis
from yilian.workflows.consent.model import (
    Attest,
    Attestations,
    Consent,
    Copies,
    Grant,
    GrantAcknowledge,
    GrantState,
    Use,
)
from yilian.workflows.consent.ports import Institution, Peers, RevocationNotice

IDENTITY_TAG = "yilian/sealed-identity/v1"


class Identity(msgspec.Struct, frozen=True, kw_only=True, array_like=True, forbid_unknown_fields=True):
    """By what a patient is found: identifiers, each with its system, `urn:…|value`. Travels sealed only."""

    identifiers: Annotated[
        tuple[Annotated[str, Meta(min_length=1, max_length=256)], ...], Meta(min_length=1, max_length=16)
    ]


def record_leave(custodian: Institution, grant: CaseId, by: KeyId, now: UnixMillis) -> None:
    """Record that a person of the custodian gives leave for level 5 under one grant; read at each delivery."""
    custodian.vault.releases.put_note(Note(about=grant, kind=NoteKind.LEVEL_FIVE_LEAVE, by=by, time=now))


def stop(custodian: Institution, sender: InstitutionId, case: CaseId, now: UnixMillis) -> None:
    """Stop deliveries under a grant or consent at once, on the word of who may revoke it or holds its paper.

    Raises:
        NotFoundError: no such case here.
        NoGrantError: the sender is neither its proposer, its home, its issuer nor its recipient.
    """
    speakers = _speakers(custodian, case)
    if speakers is None:
        raise NotFoundError(f"there is no consent or grant {case.hex()}: check the id")
    if sender not in speakers:
        raise NoGrantError(f"{sender.hex()} does not speak for case {case.hex()}: let its home or proposer say it")
    custodian.vault.releases.put_note(Note(about=case, kind=NoteKind.STOP, by=sender, time=now))


def custodians_to_tell(sender: Institution, case: CaseId) -> tuple[InstitutionId, ...]:
    """Give the other custodians whom a revocation concerns; none where they would not take the sender's word."""
    speakers = _speakers(sender, case)
    if speakers is None or sender.id not in speakers:
        return ()
    grant = sender.gateway.find(Grant, case)
    if grant is not None:
        custodians: Sequence[InstitutionId] = (grant.fields.custodian,)
    else:
        row = sender.gateway.engine.reads().register(Attestations, case)
        custodians = row.custodians if row is not None else ()
    return tuple(custodian for custodian in custodians if custodian != sender.id)


def tell_custodian(peers: Peers, custodian: InstitutionId, case: CaseId) -> bool:
    """Tell a custodian of a revocation directly, and say whether it stops now.

    The block tells it too; this only makes it sooner.
    """
    try:
        peers.revocation(custodian, RevocationNotice(case=case))
    except (UnavailableError, NoGrantError, NotFoundError, VerificationError):
        return False
    return True


def attest(custodian: Institution, consent: CaseId) -> Answer | None:
    """Attest a consent over own records; None where it is attested already. The caller has matched the patient.

    Raises:
        Refused: the ledger refused it.
    """
    row = custodian.gateway.engine.reads().register(Attestations, consent)
    if row is not None and custodian.id in row.custodians:
        return None
    return check(custodian.gateway.act(Attest(), consent))


def acknowledgement(party: Institution, grant: Found[Grant]) -> GrantAcknowledge | None:
    """Give what this party still owes to a revoked grant, None where nothing.

    The custodian's deliveries are stopped by the block itself. A recipient that was delivered something keeps it as
    part of its own medical record, which the rules on medical records oblige it to.
    """
    fields = grant.fields
    if grant.state != GrantState.REVOKED:
        return None
    if party.id == fields.custodian:
        return None if fields.stopped else GrantAcknowledge(copies=Copies.DELIVERIES_STOPPED)
    if party.id != fields.recipient or fields.copies is not None:
        return None
    kept = any(_is_of(party, copy.use_id, grant.header.id) for copy in _copies(party, fields.entries))
    return GrantAcknowledge(copies=Copies.KEPT_UNDER_DUTY if kept else Copies.NO_COPY)


def seal_identity(exchange_key: PublicKey, case: CaseId, identity: Identity) -> tuple[Digest, bytes]:
    """Seal whom a case is about to another institution's gateway key: (digest for the ledger, sealed bytes)."""
    sealed = hpke_wrap(exchange_key, canonical.encode(identity), framed(IDENTITY_TAG, case))
    return identity_digest(sealed), sealed


def open_identity(institution: Institution, case: CaseId, sealed: bytes) -> Identity:
    """Open what `seal_identity` sealed to this institution; VerificationError where it does not open."""
    plain = hpke_unwrap(institution.exchange.private_key, sealed, framed(IDENTITY_TAG, case))
    return canonical.decode(plain, Identity)


def identity_digest(sealed: bytes) -> Digest:
    """Name a sealed identity: what `emergency.open` puts on the ledger."""
    return tagged_hash(IDENTITY_TAG, sealed)


def _speakers(institution: Institution, case: CaseId) -> set[InstitutionId | None] | None:
    """Give who may say that a consent or grant is revoked; None where there is no such case."""
    consent, grant = institution.gateway.find(Consent, case), institution.gateway.find(Grant, case)
    found: Found[Consent] | Found[Grant] | None = consent if consent is not None else grant
    if found is None:
        return None
    patient = found.header.patient
    speakers = {patient.home if patient is not None else None}
    if consent is not None:
        speakers.add(consent.fields.institution)
    if grant is not None:
        speakers |= {grant.fields.issuer, grant.fields.recipient}
    return speakers


def _copies(party: Institution, entries: tuple[EntryId, ...]) -> list[ReceivedCopy]:
    return [copy for entry in entries for copy in party.vault.releases.copies_of_entry(entry)]


def _is_of(party: Institution, use: CaseId, grant: CaseId) -> bool:
    found = party.gateway.find(Use, use)
    return found is not None and found.fields.grant == grant
