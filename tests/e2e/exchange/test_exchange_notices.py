"""A revocation reaches the custodians directly, beside the ledger; nobody waits, and a false one says nothing."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable

from tests.e2e.exchange.pair import WAIT_S, Pair
from yilian.crypto.intl import Ed25519Signer
from yilian.crypto.suite import Signer, sha256
from yilian.engine.gateway import Signed, check
from yilian.ledger.cases import Command
from yilian.ledger.members import Role
from yilian.ledger.results import Answer
from yilian.node.host import Host
from yilian.node.operations import NodeApi
from yilian.storage.vault.releases import NoteKind
from yilian.values import CaseId
from yilian.web.app import Caller
from yilian.workflows.consent import service
from yilian.workflows.consent.model import Grant, GrantRevoke, GrantState, Revoke

SOON_S = 4.0
"""Less than a connection to a silent door may take."""


def _send(pair: Pair, host: Host, command: Command, case: CaseId, signer: Signer) -> Answer:
    """Hand in through an institution's API what the patient's wallet signed."""
    caller = Caller(
        slug=host.slug,
        institution=host.id,
        key_id=host.person(Role.PHYSICIAN).key_id,
        role=Role.PHYSICIAN,
        label="physician",
    )
    draft = host.gateway.draft(command, case)
    signature = host.gateway.sign(draft.core, signer, Role.PATIENT)
    return NodeApi(pair.node).send(caller, Signed(core=draft.core, persons=(signature,)))


def _is_stopped(host: Host, case: CaseId) -> bool:
    return host.vault.releases.find_note(case, NoteKind.STOP) is not None


def _wait(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + WAIT_S
    while not holds():
        assert time.monotonic() < deadline, "not within the time"
        threading.Event().wait(0.02)


def _notices() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("notice-")]


def test_a_grant_revoked_by_a_wallet_at_the_recipient_stops_its_custodian_directly(pair: Pair) -> None:
    grant = pair.grant(pair.publish(b"to be revoked at the hospital"))
    check(_send(pair, pair.hospital, GrantRevoke(paper=None), grant, pair.wallet))
    _wait(lambda: _is_stopped(pair.centre, grant))


def test_a_consent_revoked_at_its_proposer_stops_every_other_custodian_that_attested_it(pair: Pair) -> None:
    consent = pair.consent()
    service.attest(pair.hospital, consent)
    service.attest(pair.node.host("other"), consent)
    check(_send(pair, pair.centre, Revoke(paper=None), consent, pair.wallet))
    _wait(lambda: _is_stopped(pair.hospital, consent) and _is_stopped(pair.node.host("other"), consent))
    assert not _is_stopped(pair.centre, consent)


def test_a_custodian_that_does_not_answer_holds_no_revocation_up(pair: Pair) -> None:
    grant = pair.grant(pair.publish(b"of a silent custodian"))
    with socket.create_server(("127.0.0.1", 0)) as silent:
        honest, pair.centre.peer_address = pair.centre.peer_address, f"https://127.0.0.1:{silent.getsockname()[1]}"
        try:
            began = time.monotonic()
            check(_send(pair, pair.hospital, GrantRevoke(paper=None), grant, pair.wallet))
            took = time.monotonic() - began
            hanging = _notices()
        finally:
            pair.centre.peer_address = honest
    found = pair.centre.gateway.find(Grant, grant)
    assert found is not None
    assert found.state in {GrantState.REVOKED, GrantState.REVOKED_EVERYWHERE}
    assert took < SOON_S
    assert hanging
    for thread in hanging:
        thread.join(WAIT_S)
    assert not _notices()


def test_a_revocation_that_somebody_else_signed_is_refused_and_tells_nobody(pair: Pair) -> None:
    (entry,) = pair.publish(b"not to be stopped by a stranger")
    grant = pair.grant((entry,))
    answer = _send(pair, pair.hospital, GrantRevoke(paper=None), grant, Ed25519Signer.from_seed(sha256(b"stranger")))
    assert not answer.ok
    assert not _notices()
    assert not _is_stopped(pair.centre, grant)
    assert pair.fetch(grant).verified


def test_an_institution_whose_word_the_custodian_would_not_take_leaves_it_to_the_ledger(pair: Pair) -> None:
    grant = pair.grant(pair.publish(b"revoked by way of a third institution"))
    before = pair.refusals(pair.centre)
    check(_send(pair, pair.node.host("other"), GrantRevoke(paper=None), grant, pair.wallet))
    assert not _notices()
    assert pair.refusals(pair.centre) == before
