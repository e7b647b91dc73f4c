"""The count law: masks published − forgiven ≤ N of the root, under any interleaving of all that may happen."""

from __future__ import annotations

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, invariant, multiple, rule
from msgspec.structs import replace

from tests.workflows.consent.consent_story import Story
from yilian.ledger.members import Role
from yilian.values import HOUR, MINUTE, CaseId
from yilian.workflows.catalog.interface import DisputeReason
from yilian.workflows.consent.counting import available, used
from yilian.workflows.consent.interface import Consent, Counters, Grant, GrantState, Use
from yilian.workflows.consent.model import (
    LIVING,
    Amend,
    DeclineReason,
    GrantExpire,
    GrantResume,
    GrantRevoke,
    GrantSuspend,
    Holdings,
    Revoke,
    SuspendReason,
    UseConfirm,
    UseDecline,
    UseDeliver,
    UseDispute,
    UseExpire,
    UseForgive,
)

PHYSICIAN = (Role.PHYSICIAN,)
BUDGET = 14
NAMES = ("hospital", "branch", "laboratory")


class Deliveries(RuleBasedStateMachine):
    """Patients, custodians and recipients acting in any order; what the ledger refuses is simply refused."""

    grants: Bundle[CaseId] = Bundle("grants")
    uses: Bundle[CaseId] = Bundle("uses")

    @initialize(target=grants)
    def begin(self) -> object:
        self.story = Story()
        self.entries = self.story.entries(3)
        self.consent = self.story.consent(self.story.policy(maximum=BUDGET))
        self.promised: dict[CaseId, int] = {}
        self.used: list[CaseId] = []
        root, other = (self.story.grant(self.entries, self.consent, deliveries=number) for number in (5, 4))
        child = self.story.child(root, "hospital", "branch", deliveries=3)
        grandchild = self.story.child(child, "branch", "laboratory", deliveries=2)
        self.promised |= {root: 5, other: 4, child: 3, grandchild: 2}
        return multiple(root, other, child, grandchild)

    @rule(target=grants, number=st.integers(1, 8), hours=st.integers(1, 4))
    def issue(self, number: int, hours: int) -> object:
        story = self.story
        terms = story.terms(self.consent, self.entries, deliveries=number, ends=story.later(hours * HOUR))
        answer = story.act("centre", terms)
        if not answer.ok:
            return multiple()
        self.promised[answer.case_id] = number
        return answer.case_id

    @rule(target=grants, parent=grants, number=st.integers(1, 6), to=st.sampled_from(NAMES))
    def delegate(self, parent: CaseId, number: int, to: str) -> object:
        before = self.story.living(parent)
        command = self.story.passing(parent, to, deliveries=number)
        if not self.story.act(self.holder(parent), command, parent, PHYSICIAN).ok:
            return multiple()
        (child,) = (item for item in self.story.living(parent) if item not in before)
        self.promised[child] = number
        return child

    @rule(target=uses, grant=grants, number=st.integers(1, 3))
    def reserve(self, grant: CaseId, number: int) -> object:
        command = self.story.reservation(grant, self.entries[:number])
        answer = self.story.act(self.holder(grant), command, None, PHYSICIAN)
        if not answer.ok:
            return multiple()
        self.used.append(answer.case_id)
        return answer.case_id

    @rule(use=uses)
    def deliver(self, use: CaseId) -> None:
        reserved = self.story.state(Use, use) == "reserved"

        answer = self.story.act("centre", UseDeliver(mask=self.story.mask()), use)

        assert answer.ok == reserved, "a delivery on a RESERVED use is never refused, on another one always"

    @rule(use=uses)
    def decline(self, use: CaseId) -> None:
        self.story.act("centre", UseDecline(reason=DeclineReason.OFFLINE), use)

    @rule(use=uses)
    def lapse(self, use: CaseId) -> None:
        self.story.consortium.advance(11 * MINUTE)
        self.story.act("regulator", UseExpire(), use)

    @rule(use=uses)
    def confirm(self, use: CaseId) -> None:
        self.story.act(self.holder(self.story.found(Use, use).fields.grant), UseConfirm(), use)

    @rule(use=uses)
    def dispute(self, use: CaseId) -> None:
        command = UseDispute(entries=self.story.found(Use, use).fields.entries, reason=DisputeReason.KEY_DIFFERS)
        # Another copy of the entries is disputed only now and then: afterwards nothing can be reserved any more.
        if len(self.used) > 8:
            self.story.act(self.holder(self.story.found(Use, use).fields.grant), command, use)

    @rule(use=uses)
    def forgive(self, use: CaseId) -> None:
        self.story.act("centre", UseForgive(), use)

    @rule(grant=grants)
    def suspend(self, grant: CaseId) -> None:
        halt = GrantSuspend(reason=SuspendReason.DISPUTE, paper=None)
        self.story.act("centre", halt, grant, (Role.DATA_OFFICER,))

    @rule(grant=grants)
    def resume(self, grant: CaseId) -> None:
        self.story.act("centre", GrantResume(paper=None), grant, (Role.DATA_OFFICER,))

    @rule(grant=consumes(grants))
    def revoke(self, grant: CaseId) -> None:
        if self.story.act("centre", GrantRevoke(paper=None), grant).ok:
            self.denied_below(grant)

    @rule(grant=grants)
    def expire(self, grant: CaseId) -> None:
        self.story.act("regulator", GrantExpire(), grant)

    @rule()
    def wait(self) -> None:
        self.story.consortium.advance(61 * MINUTE)

    @rule(less=st.integers(0, 2), depth=st.sampled_from((3, 3, 2, 1, 0)))
    def amend(self, less: int, depth: int) -> None:
        policy = self.story.found(Consent, self.consent).fields.policy
        narrower = replace(policy, maximum=max(1, policy.maximum - less), depth=min(policy.depth, depth))
        self.story.act("centre", Amend(policy=narrower, paper=None), self.consent, self.story.patient)

    @rule(sure=st.integers(0, 9))
    def revoke_consent(self, sure: int) -> None:
        if sure == 9 and self.story.act("centre", Revoke(paper=None), self.consent, self.story.patient).ok:
            for grant in self.promised:
                self.denied_below(grant)

    @invariant()
    def masks_never_exceed_what_was_promised(self) -> None:
        for grant, promised in getattr(self, "promised", {}).items():
            assert self.published(grant) <= promised

    @invariant()
    def all_masks_never_exceed_the_budget(self) -> None:
        if not hasattr(self, "consent"):
            return
        roots = [grant for grant in self.promised if not self.story.found(Grant, grant).fields.ancestors]
        assert sum(self.published(root) for root in roots) <= BUDGET

    @invariant()
    def counters_agree_with_each_other(self) -> None:
        for grant in getattr(self, "promised", {}):
            row, found = self.row(grant), self.story.found(Grant, grant)
            assert min(row.n, row.reserved, row.delivered, row.forgiven, row.delegated) >= 0
            assert row.forgiven <= row.delivered
            below = [one for one in self.promised if self.story.found(Grant, one).fields.ancestors[:1] == (grant,)]
            taken = [self.row(one).n if self.lives(one) else used(self.row(one)) for one in below]
            assert row.delegated == sum(taken)
            assert not self.lives(grant) or available(row) >= 0
            assert found.state != GrantState.EXHAUSTED or (available(row) == 0 and row.reserved == 0)

    @invariant()
    def the_living_are_listed_and_their_budget_is_taken(self) -> None:
        if not hasattr(self, "consent"):
            return
        held = self.story.consortium.register(Holdings, self.consent) or Holdings(living=(), committed=0)
        assert {item.id for item in held.living} == {grant for grant in self.promised if self.lives(grant)}
        roots = [item.id for item in held.living if item.parent is None]
        assert sum(self.row(root).n for root in roots) <= held.committed <= BUDGET

    @invariant()
    def nothing_lives_below_what_was_revoked(self) -> None:
        for grant in getattr(self, "promised", {}):
            above = [self.story.state(Grant, one) for one in self.story.found(Grant, grant).fields.ancestors]
            assert not self.lives(grant) or not {"revoked", "ended"} & set(above)

    @invariant()
    def numbers_are_given_once_and_in_order(self) -> None:
        for grant in getattr(self, "promised", {}):
            numbers: list[int] = []
            for use in self.used:
                fields = self.story.found(Use, use).fields
                if fields.grant == grant and fields.mask is not None:
                    numbers += range(fields.first_number, fields.first_number + len(fields.entries))
            assert sorted(numbers) == list(range(1, self.row(grant).delivered + 1))

    def holder(self, grant: CaseId) -> str:
        recipient = self.story.found(Grant, grant).fields.recipient
        return next(name for name in NAMES if self.story[name].id == recipient)

    def row(self, grant: CaseId) -> Counters:
        row = self.story.consortium.register(Counters, grant)
        assert row is not None
        return row

    def lives(self, grant: CaseId) -> bool:
        return self.story.state(Grant, grant) in LIVING

    def published(self, root: CaseId) -> int:
        """Count the masks of a grant and all below it, without the forgiven ones."""
        total = 0
        for use in self.used:
            found = self.story.found(Use, use)
            under = (found.fields.grant, *self.story.found(Grant, found.fields.grant).fields.ancestors)
            if root in under and found.fields.mask is not None and found.state != "forgiven":
                total += len(found.fields.entries)
        return total

    def denied_below(self, root: CaseId) -> None:
        """Revoked means denied in the next block, here and in all that was passed on."""
        for grant in self.promised:
            if grant == root or root in self.story.found(Grant, grant).fields.ancestors:
                command = self.story.reservation(grant, self.entries[:1])
                assert not self.story.act(self.holder(grant), command, None, PHYSICIAN).ok


Deliveries.TestCase.settings = settings(
    max_examples=40, stateful_step_count=50, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
TestDeliveries = Deliveries.TestCase
