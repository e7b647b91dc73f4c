"""What must be refused between institutions, where, under which number, and what is recorded of it."""

from __future__ import annotations

import ssl
import time
from pathlib import Path

import httpx
import pytest

from tests.e2e.exchange.pair import Pair
from yilian.crypto.intl import Ed25519Signer, generate_x25519
from yilian.engine.gateway import check
from yilian.errors import ConflictError, NoGrantError, NotFoundError, Refused, UnavailableError, VerificationError
from yilian.ledger.members import Role
from yilian.node import exchange, pki
from yilian.storage.vault.releases import NoteKind
from yilian.values import CaseId, case_id
from yilian.workflows.catalog.interface import Entry
from yilian.workflows.consent import release, service
from yilian.workflows.consent.message import message_hash
from yilian.workflows.consent.model import (
    DeclineReason,
    Grant,
    GrantRevoke,
    GrantState,
    Refusal,
    Use,
    UseReserve,
    UseState,
)
from yilian.workflows.consent.policy import Purpose
from yilian.workflows.consent.ports import ExchangeRequest, RevocationNotice
from yilian.workflows.consent.receiving import TAMPERED, Asked, Fetched


def _begin(pair: Pair, grant: CaseId) -> Asked:
    person = pair.hospital.person(Role.PHYSICIAN)
    return exchange.begin(pair.node, pair.hospital, grant, person=person.key_id)


def _finish(pair: Pair, asked: Asked) -> Fetched:
    person = pair.hospital.person(Role.PHYSICIAN)
    signature = pair.hospital.gateway.sign(asked.draft.core, person.signer, Role.PHYSICIAN)
    return exchange.finish(pair.node, pair.hospital, asked.draft, (signature,))


def _flip(path: Path, at: int) -> None:
    with path.open("r+b") as file:
        file.seek(at)
        (byte,) = file.read(1)
        file.seek(at)
        file.write(bytes((byte ^ 1,)))


def test_a_member_without_a_grant_gets_neither_message_nor_ciphertext_and_is_recorded(pair: Pair) -> None:
    (entry,) = pair.publish(b"a record")
    grant = pair.grant((entry,))
    before = pair.refusals(pair.centre).get("NO_GRANT", 0)
    with pytest.raises(NoGrantError, match="NO_GRANT"):
        pair.fetch(grant, by="other")
    found = pair.centre.gateway.find(Entry, entry)
    assert found is not None
    peers = pair.node.peers.of(pair.node.host("other"))
    with pytest.raises(NoGrantError), peers.blob(pair.centre.id, found.fields.root, grant) as pieces:
        list(pieces)
    with pytest.raises(NoGrantError), peers.blobs(pair.centre.id, (found.fields.root,), grant) as pieces:
        list(pieces)
    with pytest.raises(NoGrantError):
        peers.leaves(pair.centre.id, found.fields.root, grant)
    assert pair.refusals(pair.centre)["NO_GRANT"] == before + 4
    newest = pair.centre.vault.audit.refusals(kind="NO_GRANT")[-1]
    assert newest.number == Refusal.NOT_THE_RECIPIENT


def test_a_stranger_to_the_consortium_does_not_pass_the_handshake(pair: Pair, tmp_path: Path) -> None:
    key, certificate = pki.make_ca("Nobody")
    leaf, sealed = pki.issue_leaf(key, certificate, "secret")
    (tmp_path / "leaf.pem").write_bytes(leaf)
    (tmp_path / "key.pem").write_bytes(sealed)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(pair.centre.tls.ca)
    context.load_cert_chain(tmp_path / "leaf.pem", tmp_path / "key.pem", "secret")
    with httpx.Client(verify=context, trust_env=False) as client, pytest.raises(httpx.TransportError):
        client.get(f"{pair.centre.peer_address}/peer/key")
    deadline = time.monotonic() + 10
    while not pair.refusals(pair.centre).get("TLS_NON_MEMBER") and time.monotonic() < deadline:
        pair.node.engine.wait_height(pair.node.engine.head().height + 1, 0.05)
    assert pair.refusals(pair.centre)["TLS_NON_MEMBER"] >= 1


def test_a_door_under_another_ca_is_not_taken_for_the_custodian(pair: Pair) -> None:
    honest, pair.centre.peer_address = pair.centre.peer_address, pair.node.host("other").peer_address
    try:
        with pytest.raises(VerificationError, match="another CA"):
            pair.node.peers.of(pair.hospital).exchange_key(pair.centre.id)
    finally:
        pair.centre.peer_address = honest
    assert pair.node.peers.of(pair.hospital).exchange_key(pair.centre.id) == pair.centre.exchange.public_key


@pytest.mark.parametrize(
    ("how", "refusal"),
    [
        pytest.param("revoked", Refusal.GRANT_REVOKED, id="revoked"),
        pytest.param("expired", Refusal.GRANT_EXPIRED, id="expired"),
        pytest.param("exhausted", Refusal.DELIVERIES_SPENT, id="exhausted"),
    ],
)
def test_a_message_prepared_before_is_of_no_use_once_the_grant_is_over(pair: Pair, how: str, refusal: Refusal) -> None:
    (entry,) = pair.publish(f"a record {how}".encode())
    grant = pair.grant((entry,), deliveries=1, lasts_ms=1500 if how == "expired" else 3_600_000)
    asked = _begin(pair, grant)
    _END[how](pair, grant)
    with pytest.raises(Refused) as caught:
        _finish(pair, asked)
    assert (caught.value.workflow, caught.value.number) == ("consent", refusal)
    assert pair.hospital.gateway.find(Use, asked.draft.case_id) is None
    last = pair.node.engine.events(pair.node.engine.head().height)
    numbers = [event.result[0] for event in last if event.command == "use.reserve"]
    assert numbers in ([], [("consent", int(refusal))])


def _revoke(pair: Pair, grant: CaseId) -> None:
    check(pair.centre.gateway.act(GrantRevoke(paper=None), grant))


def _wait_over(pair: Pair, grant: CaseId) -> None:
    found = pair.centre.gateway.find(Grant, grant)
    assert found is not None
    while pair.node.clock() <= found.fields.ends:
        pair.node.engine.wait_height(pair.node.engine.head().height + 1, 0.05)


def _spend(pair: Pair, grant: CaseId) -> None:
    assert pair.fetch(grant).verified
    found = pair.centre.gateway.find(Grant, grant)
    assert found is not None
    assert found.state == GrantState.EXHAUSTED


_END = {"revoked": _revoke, "expired": _wait_over, "exhausted": _spend}


def test_both_sides_acknowledge_a_revocation_by_themselves(pair: Pair) -> None:
    (entry,) = pair.publish(b"a record to revoke")
    grant = pair.grant((entry,))
    assert pair.fetch(grant).verified
    _revoke(pair, grant)
    deadline = time.monotonic() + 20
    while pair.node.engine.find_case(grant)[1].state != "revoked_everywhere":
        assert time.monotonic() < deadline
        pair.node.engine.wait_height(pair.node.engine.head().height + 1, 0.05)


def test_a_direct_notice_stops_deliveries_before_any_block_does(pair: Pair) -> None:
    (entry,) = pair.publish(b"a record to stop")
    grant = pair.grant((entry,))
    asked = _begin(pair, grant)
    pair.node.peers.of(pair.hospital).revocation(pair.centre.id, RevocationNotice(case=grant))
    fetched = _finish(pair, asked)
    assert (fetched.state, fetched.reason, fetched.verified) == (
        UseState.DECLINED,
        DeclineReason.REVOCATION_RECEIVED,
        False,
    )
    with pytest.raises(ConflictError, match="revocation_received"):
        pair.fetch(grant)


def test_only_who_speaks_for_a_case_may_stop_it(pair: Pair) -> None:
    (entry,) = pair.publish(b"another record")
    grant = pair.grant((entry,))
    with pytest.raises(NoGrantError):
        pair.node.peers.of(pair.node.host("other")).revocation(pair.centre.id, RevocationNotice(case=grant))
    with pytest.raises(NotFoundError):
        pair.node.peers.of(pair.hospital).revocation(pair.centre.id, RevocationNotice(case=case_id(bytes(32))))
    assert pair.fetch(grant).verified


def test_a_flipped_byte_is_refused_at_verification_and_the_record_fetched_once_it_is_put_back(pair: Pair) -> None:
    (entry,) = pair.publish(b"a record to flip" * 100)
    grant = pair.grant((entry,))
    found = pair.centre.gateway.find(Entry, entry)
    assert found is not None
    name = found.fields.root.hex()
    blob = pair.centre.folder / "blobs" / name[:2] / name[2:]
    _flip(blob, 600)
    before = pair.refusals(pair.hospital).get(TAMPERED, 0)
    with pytest.raises(VerificationError, match=name):
        pair.fetch(grant)
    assert pair.refusals(pair.hospital)[TAMPERED] == before + 1
    assert not pair.hospital.blobs.exists(found.fields.root)
    _flip(blob, 600)
    assert pair.fetch(grant).verified


def test_level_five_needs_leave(pair: Pair) -> None:
    (entry,) = pair.publish(b"a record of level 5", level=5)
    grant = pair.grant((entry,))
    with pytest.raises(ConflictError, match="level_five"):
        pair.fetch(grant)
    officer = pair.centre.person(Role.DATA_OFFICER)
    service.record_leave(pair.centre, grant, officer.key_id, pair.node.clock())
    assert pair.centre.vault.releases.find_note(grant, NoteKind.LEVEL_FIVE_LEAVE) is not None
    assert pair.fetch(grant).verified


def test_a_grant_that_lists_two_patients_is_not_delivered(pair: Pair) -> None:
    (one,) = pair.publish(b"of one")
    (two,) = pair.publish(b"of another", subject=bytes(16))
    grant = pair.grant((one, two))
    with pytest.raises(ConflictError, match="another_patient"):
        pair.fetch(grant, entries=(one,))


def test_a_replayed_message_opens_nothing(pair: Pair) -> None:
    (entry,) = pair.publish(b"a record to replay")
    grant = pair.grant((entry,))
    first = pair.fetch(grant)
    use = pair.use(first.use_id)
    physician = pair.hospital.person(Role.PHYSICIAN)
    again = UseReserve(
        grant=grant,
        purpose=Purpose.TREAT,
        entries=use.fields.entries,
        one_time=use.fields.one_time,
        message=use.fields.message,
    )
    replayed = pair.hospital.gateway.act(again, persons=[(physician.signer, Role.PHYSICIAN)])
    _answered(pair, replayed.case_id)
    declined = pair.use(replayed.case_id)
    assert (declined.state, declined.fields.declined, declined.fields.mask) == (
        UseState.DECLINED,
        DeclineReason.MESSAGE_DIFFERS,
        None,
    )


def test_a_message_made_for_another_key_or_never_made_is_declined(pair: Pair) -> None:
    (entry,) = pair.publish(b"a record of another key")
    grant = pair.grant((entry,))
    physician = pair.hospital.person(Role.PHYSICIAN)
    request = ExchangeRequest(
        grant=grant, entries=(entry,), one_time_key=generate_x25519().public_key, person=physician.key_id
    )
    signed = pair.node.peers.of(pair.hospital).message(pair.centre.id, request)
    for message in (message_hash(signed), message_hash(b"never made")):
        command = UseReserve(
            grant=grant,
            purpose=Purpose.TREAT,
            entries=(entry,),
            one_time=generate_x25519().public_key,
            message=message,
        )
        done = pair.hospital.gateway.act(command, persons=[(physician.signer, Role.PHYSICIAN)])
        _answered(pair, done.case_id)
        assert pair.use(done.case_id).fields.declined == DeclineReason.MESSAGE_DIFFERS
    made = pair.centre.vault.releases.find_message(message_hash(signed))
    assert made is not None
    assert made.use_id is None, "another reservation does not use up the message"


def test_entries_outside_the_grant_and_unknown_grants_are_refused_at_the_door(pair: Pair) -> None:
    one, two = pair.publish(b"inside", b"outside")
    grant = pair.grant((one,))
    with pytest.raises(NoGrantError, match="NOT_IN_LIST"):
        pair.fetch(grant, entries=(two,))
    with pytest.raises(NoGrantError):
        pair.fetch(case_id(bytes(32)))
    with pytest.raises(Refused) as caught:
        release.check_party(pair.centre, pair.hospital.id, case_id(bytes(32)))
    assert caught.value.number == Refusal.NO_GRANT


def test_a_key_that_the_ledger_does_not_know_reserves_nothing(pair: Pair) -> None:
    (entry,) = pair.publish(b"for nobody")
    grant = pair.grant((entry,))
    nobody = Ed25519Signer.generate()
    with pytest.raises(Refused) as caught:
        exchange.fetch(pair.node, pair.hospital, grant, signer=nobody, role=Role.PHYSICIAN)
    assert caught.value.workflow == "kernel"


def test_a_closed_door_is_said_to_be_unavailable(pair: Pair) -> None:
    (entry,) = pair.publish(b"behind a closed door")
    grant = pair.grant((entry,))
    open_door, pair.centre.peer_address = pair.centre.peer_address, "https://127.0.0.1:9"
    try:
        with pytest.raises(UnavailableError, match="try again"):
            pair.fetch(grant)
    finally:
        pair.centre.peer_address = open_door
    assert pair.fetch(grant).verified


def _answered(pair: Pair, use: CaseId) -> None:
    deadline = time.monotonic() + 20
    while pair.use(use).state == UseState.RESERVED:
        assert time.monotonic() < deadline
        pair.node.engine.wait_height(pair.node.engine.head().height + 1, 0.05)
