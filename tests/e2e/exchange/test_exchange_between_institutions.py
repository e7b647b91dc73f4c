"""The exchange between two institutions over real sockets and mutual TLS."""

from __future__ import annotations

import json

import pytest

from tests.e2e.exchange.pair import WAIT_S, Pair
from yilian.crypto.suite import sha256
from yilian.errors import NoGrantError, VerificationError
from yilian.ledger.members import Role
from yilian.node import exchange
from yilian.storage.vault.releases import MessageStatus, NoteKind, OneTimeKeyStatus
from yilian.values import case_id
from yilian.workflows.audit.model import Disclosure, DisclosureState
from yilian.workflows.audit.table import disclosure_id
from yilian.workflows.catalog.interface import Entry
from yilian.workflows.catalog.opening import open_copy
from yilian.workflows.consent.ports import SealedIdentity
from yilian.workflows.consent.service import Identity, open_identity, seal_identity


def test_a_granted_record_is_delivered_verified_and_stands_on_both_sides_record(pair: Pair) -> None:
    first, second = pair.publish(b'{"resourceType":"Bundle","id":"1"}', b'{"resourceType":"Bundle","id":"2"}')
    before = pair.node.engine.head().height
    grant = pair.grant((first, second))
    issued = pair.node.engine.head().height
    fetched = pair.fetch(grant)
    assert fetched.verified
    assert (fetched.state, fetched.entries) == ("confirmed", (first, second))
    assert open_copy(pair.hospital, first) == b'{"resourceType":"Bundle","id":"1"}'
    assert open_copy(pair.hospital, second) == b'{"resourceType":"Bundle","id":"2"}'
    assert pair.node.engine.head().height - issued == 3, "reserve, deliver, confirm: one commit each"
    assert issued > before

    pair_of_events = pair.centre.gateway.find(Disclosure, disclosure_id(pair.node.chain, fetched.use_id))
    assert pair_of_events is not None
    assert pair_of_events.state == DisclosureState.MATCHED
    (sent,), (received,) = (pair.node.host(slug).vault.audit.of_use(fetched.use_id) for slug in ("centre", "hospital"))
    assert sent.op_id == received.op_id
    assert json.loads(sent.body)["meta"]["profile"] == [
        "https://profiles.ihe.net/ITI/BALP/StructureDefinition/IHE.BasicAudit.PrivacyDisclosure.Source"
    ]
    assert pair.reactors.wait_idle(WAIT_S)
    use = pair.use(fetched.use_id)
    made = pair.centre.vault.releases.find_message(use.fields.message)
    key = pair.hospital.vault.releases.find_key_of_use(fetched.use_id)
    assert made is not None
    assert key is not None
    assert (made.status, key.status) == (MessageStatus.DELIVERED, OneTimeKeyStatus.OPENED)
    assert (use.fields.first_number, use.fields.allowed) == (1, 10)


def test_the_home_of_a_custodial_case_learns_sealed_whom_it_is_about_from_one_sender_alone(pair: Pair) -> None:
    case, identity = case_id(sha256(b"a custodial case")), Identity(identifiers=("urn:test|custodial",))
    peers = pair.node.peers.of(pair.hospital)
    _, sealed = seal_identity(peers.exchange_key(pair.centre.id), case, identity)
    peers.identity(pair.centre.id, SealedIdentity(case=case, sealed=sealed))
    kept = pair.centre.vault.releases.find_note(case, NoteKind.CUSTODIAL_IDENTITY)
    assert kept is not None
    assert kept.by == pair.hospital.id
    assert open_identity(pair.centre, case, kept.body) == identity
    with pytest.raises(VerificationError):
        open_identity(pair.hospital, case, kept.body)
    with pytest.raises(NoGrantError):
        pair.node.peers.of(pair.node.host("other")).identity(pair.centre.id, SealedIdentity(case=case, sealed=b"other"))


def test_a_fetch_can_be_asked_for_only_some_entries_and_again(pair: Pair) -> None:
    first, second = pair.publish(b"first of two", b"second of two")
    grant = pair.grant((first, second), deliveries=3)
    assert pair.fetch(grant, entries=(second,)).entries == (second,)
    assert not pair.hospital.vault.releases.copies_of_entry(first)
    again = pair.fetch(grant)
    assert again.verified
    assert pair.use(again.use_id).fields.first_number == 2


def test_progress_is_told_in_bytes_and_nothing_is_sent_twice(pair: Pair) -> None:
    (entry,) = pair.publish(b"told in bytes" * 1000)
    grant = pair.grant((entry,))
    person = pair.hospital.person(Role.PHYSICIAN)
    told: list[int] = []
    exchange.begin(pair.node, pair.hospital, grant, person=person.key_id, progress=told.append)
    found = pair.hospital.gateway.find(Entry, entry)
    assert found is not None
    assert sum(told) == pair.centre.blobs.size(found.fields.root)
    exchange.begin(pair.node, pair.hospital, grant, person=person.key_id, progress=told.append)
    assert sum(told) == pair.centre.blobs.size(found.fields.root)
