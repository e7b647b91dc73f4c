"""A custodian releases nothing while its newest cosigned checkpoint, or outside timestamp, is older than the limit."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec
import pytest

from tests.e2e.exchange.pair import Pair, found_home
from yilian.engine.gateway import Signed
from yilian.errors import NoGrantError, Refused, UnavailableError
from yilian.ledger.checkpoint import Note, SignatureKind, cosign, sign
from yilian.ledger.members import Role
from yilian.node import exchange, reactions
from yilian.node.evidence import check_evidence, evidence_age, why_too_old
from yilian.node.home import GATEWAY
from yilian.node.settings import AnchoringSettings
from yilian.values import HOUR, SECOND, unix_millis
from yilian.workflows.audit.model import Refusal
from yilian.workflows.consent.model import UseState

LIMIT = 4 * HOUR


class Checkpoints:
    """Gives the newest checkpoint, cosigned by the hospital some time ago; never, where that is None."""

    def __init__(self, pair: Pair) -> None:
        self.pair = pair
        self.ago: int | None = 0

    def newest(self) -> Note:
        """Give it with the policy's lines."""
        if self.ago is None:
            raise UnavailableError("no checkpoint is cosigned: start a witness")
        node, head = self.pair.node, self.pair.node.engine.head()
        checkpoint = head.checkpoint(node.chain)
        centre, hospital = (host.keystore.load_signer(GATEWAY) for host in (self.pair.centre, self.pair.hospital))
        made = unix_millis(node.clock() - self.ago)
        witness = cosign(checkpoint, SignatureKind.EXECUTED, hospital, institution=self.pair.hospital.id, now=made)
        return Note(checkpoint, (sign(checkpoint, centre), witness))

    def covers(self, height: int) -> bool:
        """Every block is covered."""
        return height <= self.pair.node.engine.head().height


@pytest.fixture(scope="module")
def witnessed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    home = found_home(tmp_path_factory.mktemp("evidence"), audit__evidence_age=LIMIT, governance__witnesses=1)
    running = Pair(home)
    running.node.checkpoints = Checkpoints(running)
    running.start()
    running.register()
    yield running
    running.stop()


@pytest.fixture(autouse=True)
def fresh(witnessed: Pair) -> None:
    witnessed.node.checkpoints.ago = 0


def test_on_fresh_evidence_records_are_released(witnessed: Pair) -> None:
    witnessed.node.checkpoints.ago = LIMIT - HOUR
    age = evidence_age(witnessed.node)
    assert age is not None
    assert LIMIT - HOUR - SECOND <= age <= LIMIT - HOUR + 60 * SECOND
    assert witnessed.fetch(witnessed.grant(witnessed.publish(b"fresh"))).verified


@pytest.mark.parametrize("ago", [LIMIT + SECOND, None])
def test_on_old_evidence_nothing_is_released_and_the_refusal_has_its_name(witnessed: Pair, ago: int | None) -> None:
    grant = witnessed.grant(witnessed.publish(b"old"))
    witnessed.node.checkpoints.ago = ago
    with pytest.raises(Refused) as caught:
        check_evidence(witnessed.node)
    assert (caught.value.workflow, caught.value.number) == ("audit", Refusal.EVIDENCE_TOO_OLD)
    with pytest.raises(NoGrantError, match="EVIDENCE_TOO_OLD"):
        witnessed.fetch(grant)
    assert witnessed.refusals(witnessed.centre)["EVIDENCE_TOO_OLD"] > 0
    witnessed.node.checkpoints.ago = 0
    assert witnessed.fetch(grant).verified


def test_a_reservation_on_old_evidence_waits_until_there_is_fresh(witnessed: Pair) -> None:
    host, physician = witnessed.hospital, witnessed.hospital.person(Role.PHYSICIAN)
    grant = witnessed.grant(witnessed.publish(b"reserved"))
    asked = exchange.begin(witnessed.node, host, grant, person=physician.key_id)
    witnessed.node.checkpoints.ago = LIMIT + SECOND
    signature = host.gateway.sign(asked.draft.core, physician.signer, Role.PHYSICIAN)
    (answer,) = host.gateway.send([Signed(core=asked.draft.core, persons=(signature,))])
    assert answer.ok
    use = asked.draft.case_id
    left = reactions.answer(witnessed.node, witnessed.centre, [use])
    assert (left.waiting, witnessed.use(use).state) == ((use,), UseState.RESERVED)
    witnessed.node.checkpoints.ago = 0
    witnessed.wait(lambda: witnessed.use(use).state in {UseState.DELIVERED, UseState.CONFIRMED})


def test_an_outside_timestamp_that_is_too_old_stops_releases_too(witnessed: Pair) -> None:
    node, settings = witnessed.node, witnessed.node.settings
    anchoring = AnchoringSettings(authorities=("https://tsa.example",), max_age=3600)
    node.settings = msgspec.structs.replace(settings, anchoring=anchoring)
    try:
        assert "no timestamp" in why_too_old(node)
    finally:
        node.settings = settings
    assert why_too_old(node) == ""


def test_without_a_limit_or_a_policy_any_evidence_will_do(tmp_path_factory: pytest.TempPathFactory) -> None:
    running = Pair(found_home(tmp_path_factory.mktemp("nolimit"), audit__evidence_age=LIMIT)).start()
    try:
        assert evidence_age(running.node) is None
        assert why_too_old(running.node) == ""
    finally:
        running.stop()
