"""With `anchoring.max_age` no exchange begins without a fresh outside timestamp, at either end; with one it goes on."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import pytest

from tests.e2e.exchange.pair import Pair, found_home
from tests.support.authority import Authority
from yilian.crypto.intl import generate_x25519
from yilian.errors import NoGrantError, Refused
from yilian.ledger.checkpoint import Note
from yilian.ledger.members import Role
from yilian.node import exchange
from yilian.node.anchoring import Anchoring
from yilian.node.settings import AnchoringSettings
from yilian.workflows.audit.model import Refusal
from yilian.workflows.consent.ports import ExchangeRequest


@pytest.fixture
def authority() -> Iterator[Authority]:
    with Authority() as running:
        yield running


@pytest.fixture
def anchored(tmp_path: Path, authority: Authority) -> Iterator[Pair]:
    running = Pair(found_home(tmp_path))
    roots = tmp_path / "roots.pem"
    roots.write_bytes(authority.root_pem)
    settings = AnchoringSettings(authorities=(authority.url,), roots=str(roots), max_age=120)
    running.node.settings = msgspec.structs.replace(running.node.settings, anchoring=settings)
    running.start()
    running.register()
    yield running
    running.stop()


def newest(pair: Pair) -> Note:
    head = pair.node.engine.head()
    checkpoint = head.checkpoint(pair.node.chain)
    return Note(checkpoint, ())


def test_nothing_is_asked_for_or_given_until_an_authority_has_stamped(anchored: Pair) -> None:
    grant = anchored.grant(anchored.publish(b"a record"))
    physician = anchored.hospital.person(Role.PHYSICIAN)
    with pytest.raises(Refused, match="no timestamp") as caught:
        anchored.fetch(grant)
    assert (caught.value.workflow, caught.value.number) == ("audit", Refusal.EVIDENCE_TOO_OLD)
    with pytest.raises(Refused):
        exchange.begin(anchored.node, anchored.hospital, grant, person=physician.key_id)
    peers = anchored.node.peers.of(anchored.hospital)
    key = generate_x25519().public_key
    listed = anchored.publish(b"another")
    wish = ExchangeRequest(grant=anchored.grant(listed), entries=listed, one_time_key=key, person=physician.key_id)
    with pytest.raises(NoGrantError, match="EVIDENCE_TOO_OLD"):
        peers.message(anchored.centre.id, wish)
    assert anchored.refusals(anchored.centre)["EVIDENCE_TOO_OLD"] == 1

    Anchoring(anchored.node, lambda: newest(anchored)).anchor_now()
    assert anchored.fetch(grant).verified


def test_an_old_timestamp_stops_exchanges_and_a_new_one_lets_them_go_on(anchored: Pair, authority: Authority) -> None:
    thread = Anchoring(anchored.node, lambda: newest(anchored))
    authority.clock = lambda: datetime.now(UTC) - timedelta(minutes=3)
    thread.anchor_now()
    grant = anchored.grant(anchored.publish(b"a record"))
    with pytest.raises(Refused, match=r"1[78]\d s old"):
        anchored.fetch(grant)
    authority.clock = lambda: datetime.now(UTC)
    thread.anchor_now()
    assert anchored.fetch(grant).verified
