"""The law of governance: acts of fewer than 2/3 of the electorate change no rule and remove no member."""

from __future__ import annotations

from fractions import Fraction

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from msgspec.structs import replace

from yilian.crypto.intl import Ed25519Signer
from yilian.crypto.suite import SuiteId, sha256
from yilian.ledger.members import Constitution, InstitutionKind, Member, MemberState, Parameters, Role, Roster
from yilian.testing.consortium import Consortium, Party
from yilian.values import DAY, CaseId, case_id, unix_millis
from yilian.workflows import governance
from yilian.workflows.governance import interface
from yilian.workflows.governance.model import (
    NEWCOMER_WAIT,
    WITNESSES,
    KeyRevoke,
    KeySuspend,
    MemberAnnounceLeave,
    MemberLeave,
    ProposalApply,
    ProposalExpire,
    ProposalOpen,
    ProposalVoid,
    ProposalVote,
    ProposalWithdraw,
)
from yilian.workflows.governance.records import (
    Action,
    Admit,
    Choice,
    ParameterChange,
    Proposal,
    Reinstate,
    Remove,
    RuleChange,
    Sequencer,
    SequencerReplace,
    Suspend,
    WitnessPolicyChange,
)

index = st.sampled_from(range(9))
kinds = st.sampled_from(range(10))
SEAL = [Role.OFFICER]


class Minority(RuleBasedStateMachine):
    """Fewer than two thirds act as they like; the others abstain, vote no, or do nothing."""

    @initialize(size=st.sampled_from(range(2, 10)), suspended=st.booleans())
    def found(self, size: int, suspended: bool) -> None:
        """Found a consortium of hospitals and one regulator, which plots too; the last one may stand suspended."""
        names = [f"m{number}" for number in range(size)]
        kinds = dict.fromkeys(names, InstitutionKind.HOSPITAL) | {"m0": InstitutionKind.REGULATOR}
        self.c = Consortium.found(kinds, workflows=(governance.WORKFLOW,))
        self.parties = [self.c[name] for name in names]
        few = (2 * size - 1) // 3
        assert Fraction(few, size) < Fraction(2, 3)
        self.plotters, self.others = self.parties[:few], self.parties[few:]
        if suspended and size > 2:
            self._suspend(self.others[-1])
        self.newcomer = Party("newcomer", InstitutionKind.HOSPITAL, "newcomer")
        self.proposals: list[CaseId] = []
        self.constitution = self.c.register(Constitution)

    def _suspend(self, target: Party) -> None:
        command = ProposalOpen(action=Suspend(institution=target.id, reason="incident"))
        proposal = self.c.act(self.parties[0], command, persons=SEAL).case_id
        for party in self.parties[:-1]:
            self.c.act(party, ProposalVote(choice=Choice.YES), proposal, persons=SEAL)
        self.c.act(self.parties[0], ProposalApply(), proposal)
        assert self.c.case(Member, case_id(target.id)).state == MemberState.SUSPENDED

    @property
    def living(self) -> list[Party]:
        """Plotters whose gateway is still heard."""
        left = [self.c.case(Member, case_id(party.id)).state == MemberState.LEFT for party in self.plotters]
        return [party for party, gone in zip(self.plotters, left, strict=True) if not gone]

    def _action(self, kind: int, target: Party) -> Action:
        rows = self.constitution.rules
        lower = replace(rows[kind % len(rows)], numerator=2, denominator=3, delay=unix_millis(0))
        actions = (
            Remove(institution=target.id, reason="power"),
            RuleChange(rule=lower),
            RuleChange(rule=replace(rows[kind % len(rows)], numerator=1, denominator=1000)),
            Suspend(institution=target.id, reason="power"),
            Reinstate(institution=target.id, reason="power"),
            ParameterChange(name=NEWCOMER_WAIT, number=0, words=()),
            self._admission(),
            SequencerReplace(institution=target.id, reason="power"),
            WitnessPolicyChange(needed=1),
            ParameterChange(name=WITNESSES, number=1, words=()),
        )
        return actions[kind % len(actions)]

    def _admission(self) -> Admit:
        party = self.newcomer
        return Admit(
            ca_fingerprint=party.ca_fingerprint,
            keys_digest=interface.keys_digest(
                party.gateway.public_key, party.exchange.public_key, party.person(Role.OFFICER).public_key
            ),
            kind=party.kind,
            operator=party.id,
            name=party.name,
            legal_name=sha256(b"legal"),
            district="000000",
            grade="none",
            suite=SuiteId.INTL,
            one_time_key=Ed25519Signer.from_seed(sha256(b"one-time")).public_key,
        )

    @precondition(lambda self: self.living)
    @rule(who=index, kind=kinds, at=index)
    def propose(self, who: int, kind: int, at: int) -> None:
        """A plotter proposes whatever would give it power."""
        action = self._action(kind, self.parties[at % len(self.parties)])
        answer = self.c.act(self.living[who % len(self.living)], ProposalOpen(action=action), persons=SEAL)
        if answer.ok:
            self.proposals.append(answer.case_id)

    @precondition(lambda self: self.living)
    @rule(who=index, kind=kinds, at=index)
    def conspire(self, who: int, kind: int, at: int) -> None:
        """The plotters propose, vote as one, wait as long as any rule asks, and try to apply it."""
        known = len(self.proposals)
        self.propose(who, kind, at)
        if len(self.proposals) > known:
            self.vote_together(known)
            self.c.advance(14 * DAY)
            self.push(known, ProposalApply())

    @precondition(lambda self: self.proposals and self.living)
    @rule(which=index)
    def vote_together(self, which: int) -> None:
        """All plotters vote yes."""
        for party in self.living:
            self.c.act(party, ProposalVote(choice=Choice.YES), self._pick(which), persons=SEAL)

    @precondition(lambda self: self.proposals)
    @rule(which=index, who=index, choice=st.sampled_from([Choice.NO, Choice.ABSTAIN]))
    def oppose(self, which: int, who: int, choice: Choice) -> None:
        """One of the others does not agree."""
        party = self.others[who % len(self.others)]
        self.c.act(party, ProposalVote(choice=choice), self._pick(which), persons=SEAL)

    @precondition(lambda self: self.proposals and self.living)
    @rule(which=index, step=st.sampled_from([ProposalApply(), ProposalVoid(), ProposalExpire()]))
    def push(self, which: int, step: ProposalApply | ProposalVoid | ProposalExpire) -> None:
        """A plotter's node tries to bring a proposal to an end."""
        self.c.act(self.living[0], step, self._pick(which))

    @precondition(lambda self: self.proposals and self.living)
    @rule(which=index)
    def withdraw(self, which: int) -> None:
        """A plotter takes a proposal back."""
        proposal = self._pick(which)
        proposer = self.c.case(Proposal, proposal).fields.proposer
        party = next(party for party in self.parties if party.id == proposer)
        if party in self.living:
            self.c.act(party, ProposalWithdraw(), proposal, persons=SEAL)

    @precondition(lambda self: self.living and len(self.living) > len(self.plotters) - 2)
    @rule(who=index, soon=st.booleans())
    def leave(self, who: int, soon: bool) -> None:
        """A plotter, or a second one, makes the electorate smaller by leaving it."""
        party = self.living[who % len(self.living)]
        date = unix_millis(self.c.time + (2 if soon else DAY))
        self.c.act(party, MemberAnnounceLeave(leaves_on=date), case_id(party.id), persons=SEAL)
        if soon:
            self.c.advance(DAY)
            self.c.act(party, MemberLeave(), case_id(party.id), persons=SEAL)

    @precondition(lambda self: self.plotters and self.plotters[0] in self.living)
    @rule(who=index)
    def silence(self, who: int) -> None:
        """The regulator among them revokes an opponent's officer key, or a plotter tries to suspend it."""
        target = self.others[who % len(self.others)]
        key = case_id(target.person(Role.OFFICER).key_id)
        command = KeyRevoke(reason="power", compromised_since=unix_millis(0))
        self.c.act(self.plotters[0], command, key, persons=[Role.INSPECTOR, Role.SECOND_OFFICER])
        assert not self.c.act(self.plotters[0], KeySuspend(), key, persons=SEAL).ok

    @rule(days=st.integers(min_value=1, max_value=40))
    def wait(self, days: int) -> None:
        """Let time pass."""
        self.c.advance(days * DAY)

    def _pick(self, which: int) -> CaseId:
        return self.proposals[which % len(self.proposals)]

    @invariant()
    def nobody_is_removed_and_no_rule_changed(self) -> None:
        """The law, and what would undermine it: roster, parameters that governance reads, sequencer."""
        states = [self.c.case(Member, case_id(party.id)).state for party in self.parties]
        assert MemberState.REMOVED not in states
        assert self.c.register(Constitution) == self.constitution
        assert self.c.register(Roster).members == tuple(party.id for party in self.parties)
        assert self.c.case(Member, case_id(self.newcomer.id)) is None
        numbers = {item.name: item.number for item in self.c.register(Parameters).items}
        assert (numbers[NEWCOMER_WAIT], numbers[WITNESSES]) == (30 * DAY, 0)
        assert self.c.register(Sequencer) is None


TestMinority = Minority.TestCase
TestMinority.settings = settings(max_examples=60, stateful_step_count=40)


def test_two_thirds_do_remove_a_member() -> None:
    """The law is no accident of a machine that removes nobody."""
    names = [f"m{number}" for number in range(6)]
    c = Consortium.found(dict.fromkeys(names, InstitutionKind.HOSPITAL), workflows=(governance.WORKFLOW,))
    action = Remove(institution=c["m5"].id, reason="closed")
    proposal = c.act(c["m0"], ProposalOpen(action=action), persons=SEAL).case_id
    for name in names[:4]:
        assert c.act(c[name], ProposalVote(choice=Choice.YES), proposal, persons=SEAL).ok
    c.advance(7 * DAY)
    assert c.act(c["m0"], ProposalApply(), proposal).ok
    assert c.case(Member, case_id(c["m5"].id)).state == MemberState.REMOVED
