"""The exchange of release.md section 4 between two institutions over real sockets and mutual TLS."""

from __future__ import annotations

import json

from tests.e2e.exchange.pair import WAIT_S, Pair
from yilian.storage.vault.releases import MessageStatus, OneTimeKeyStatus
from yilian.workflows.audit.model import Disclosure, DisclosureState
from yilian.workflows.audit.table import disclosure_id
from yilian.workflows.catalog.opening import open_copy


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
    use = pair.use(fetched.use_id)
    made = pair.centre.vault.releases.find_message(use.fields.message)
    key = pair.hospital.vault.releases.find_key_of_use(fetched.use_id)
    assert made is not None
    assert key is not None
    assert (made.status, key.status) == (MessageStatus.DELIVERED, OneTimeKeyStatus.OPENED)
    assert (use.fields.first_number, use.fields.allowed) == (1, 10)
    assert pair.reactors.wait_idle(WAIT_S)
