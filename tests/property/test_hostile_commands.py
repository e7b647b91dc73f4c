"""Any command that decodes, by any signers, over realistic states: the ledger does it or refuses it, nothing else.

An exception other than `Refused`, or a row that does not decode again, would stop every node of a consortium.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cache
from random import Random
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec import inspect
from msgspec.structs import replace

from tests.workflows.governance.council import Council
from tests.workflows.referral.referral_story import AS_PATIENT, DOCTOR, WALLET, Story
from yilian import canonical
from yilian.crypto.suite import SuiteId, key_id_of, sha256
from yilian.errors import Refused
from yilian.ledger.cases import Command, Found, Patient
from yilian.ledger.envelope import Core, Operation, PersonSignature, encode_core
from yilian.ledger.judge import Actor, Judge
from yilian.ledger.members import LIVING, HeldBy, MemberState, Parameters, Role
from yilian.ledger.registry import Bound
from yilian.ledger.running import Circumstances
from yilian.ledger.state import (
    GOVERNANCE,
    Directory,
    Layer,
    decode_case,
    decode_register,
    encode_case,
    encode_register,
    key_hash,
    register_key,
)
from yilian.ledger.workflow import Alternative, Row
from yilian.testing.consortium import Party
from yilian.values import DAY, HOUR, CaseId, digest, op_id, unix_millis
from yilian.workflows.audit.model import (
    DisclosureSent,
    InspectionApproveScope,
    InspectionOpen,
    InspectionRequestContent,
    OpenPaper,
    RequestPaper,
)
from yilian.workflows.catalog.interface import DisputeReason
from yilian.workflows.catalog.model import ChallengeAnswer, ChallengeFail, Dispute, Restrict
from yilian.workflows.consent.emergency_model import EmergencyMatch, EmergencyOpen, EmergencyReason
from yilian.workflows.consent.interface import Access, Basis, Effect, Policy, Purpose, provision
from yilian.workflows.consent.model import (
    Amend,
    GrantDelegate,
    GrantIssue,
    Holdings,
    Propose,
    Sign,
    UseDeliver,
    UseDispute,
)
from yilian.workflows.governance import interface
from yilian.workflows.governance.model import KeyRegister, KeyRotate, NewKey, ProposalOpen
from yilian.workflows.governance.records import Action, ParameterChange, Remove, Suspend
from yilian.workflows.referral.model import State

STEPS = 40
EXAMPLES = 60
WAITS = (*(1,) * 30, HOUR, HOUR, DAY, 40 * DAY)


class Rows:
    """A store of rows over another one, which a walk changes and throws away."""

    def __init__(self, below: Any) -> None:  # noqa: ANN401 - any store
        self._below = below
        self.rows: dict[bytes, bytes] = {}

    def get(self, key: bytes) -> bytes | None:
        """Give a row."""
        found: bytes | None = self.rows.get(key) or self._below.get(key)
        return found


class World:
    """A consortium in the middle of its work, and every command that brought it there."""

    def __init__(self) -> None:
        self.story = Story()
        self.consortium = self.story.consortium
        self.sent: list[Command] = []
        self._listen()
        self._governance()
        for state in (State.REQUESTED, State.RECEIVED, State.NEED_INFO, State.SCHEDULED, State.IN_CARE):
            self.story.at(state)
        self.referral = self.story.at(State.COMPLETED)
        self._challenges()
        self._grants()
        self._custodial()
        self._emergencies()
        self._inspection()
        self.base = self.consortium.state
        self.start = self.consortium.time
        self.parties = {party.id: party for party in self.consortium.parties.values()}

    def _listen(self) -> None:
        plain = self.consortium.core

        def core(party: Party, command: Command, *given: Any, **options: Any) -> bytes:  # noqa: ANN401 - as `core` takes it
            self.sent.append(command)
            return plain(party, command, *given, **options)

        self.consortium.core = core  # type: ignore[method-assign]  # to keep what the story sends

    def do(self, name: str, command: Command, case: CaseId | None = None, *persons: Any, **options: Any) -> CaseId:  # noqa: ANN401 - persons and options of `act`
        return self.story.done(self.consortium.act(self.consortium[name], command, case, persons=persons, **options))

    def _challenges(self) -> None:
        story = self.story
        self.entries = tuple(story.publish(story.centre) for _ in range(4))
        story.challenge(self.entries[:1])
        answered = story.challenge(self.entries[:2])
        self.do("centre", ChallengeAnswer(message=story.draw()), answered)
        contested = story.challenge(self.entries[1:3])
        self.do("centre", ChallengeAnswer(message=story.draw()), contested)
        self.do("hospital", ChallengeFail(entries=self.entries[1:2]), contested)
        kept = [story.publish(story.centre) for _ in range(2)]
        story.failed(kept, kept[:1])
        self.do("centre", Restrict(), story.publish(story.centre))
        own, doubted = story.publish(story.other), story.publish(story.centre)
        contradicting = Dispute(reason=DisputeReason.WRONG_PATIENT, own_entry=own)
        self.do("other", contradicting, doubted, Role.DATA_OFFICER)

    def _policy(self, **fields: Any) -> Policy:  # noqa: ANN401 - fields of a policy
        now = self.consortium.time
        plain: dict[str, Any] = {
            "begins": now,
            "ends": unix_millis(now + 90 * DAY),
            "maximum": 40,
            "depth": 2,
            "access": Access.VIEW,
            "erase_by": None,
            "base": provision(Effect.PERMIT, Purpose.TREAT),
            "exceptions": (),
        }
        return Policy(**{**plain, **fields})

    def _proposed(self, patient: Patient, policy: Policy) -> CaseId:
        proposal = Propose(
            patient=patient,
            text=sha256(b"text"),
            language="zh",
            policy_uri=sha256(b"uri"),
            policy=policy,
            replaces=None,
        )
        return self.do("centre", proposal)

    def _grants(self) -> None:
        story = self.story
        by_key = Patient(key=WALLET.public_key, home=None)
        self._proposed(by_key, self._policy())
        policy = self._policy()
        consent = self._proposed(by_key, policy)
        for narrower in (replace(policy, maximum=14), replace(policy, depth=1), replace(policy, maximum=20, depth=0)):
            self.sent.append(Amend(policy=narrower, paper=None))
        self.sent.append(UseDispute(entries=self.entries[:1], reason=DisputeReason.KEY_DIFFERS))
        self.do("centre", Sign(text=sha256(b"text"), paper=None, paper_entry=None), consent, *AS_PATIENT)
        now = self.consortium.time
        terms: dict[str, Any] = {
            "recipient": story.hospital.id,
            "purpose": Purpose.TREAT,
            "entries": self.entries,
            "level_cap": 4,
            "begins": now,
            "ends": unix_millis(now + 60 * DAY),
            "deliveries": 12,
            "depth": 2,
        }
        grant = self.do("centre", GrantIssue(basis=Basis.CONSENT, covered_by=consent, **terms))
        passing = GrantDelegate(**{**terms, "recipient": story.other.id, "deliveries": 5, "depth": 1})
        self.do("hospital", passing, grant, *DOCTOR)
        holdings = self.consortium.register(Holdings, consent)
        assert holdings is not None
        child = holdings.living[-1].id
        onward = GrantDelegate(**{**terms, "recipient": self.consortium["laboratory"].id, "deliveries": 2, "depth": 0})
        self.do("other", onward, child, *DOCTOR)
        use = child
        for number in (1, 2):
            self.do("hospital", story.reservation(grant, self.entries[:number], Purpose.TREAT), None, *DOCTOR)
            use = self.do("other", story.reservation(child, self.entries[:1], Purpose.TREAT), None, *DOCTOR)
            self.do("centre", UseDeliver(mask=story.draw()), use)
        self.do("centre", DisclosureSent(event=story.draw()), None, refs=[use])

    def _custodial(self) -> None:
        story, paper = self.story, self.story.draw()
        scan = story.publish(story.centre, commitment=paper)
        home = Patient(key=None, home=story.centre.id)
        self._proposed(home, self._policy(depth=0))
        self.custodial = self._proposed(home, self._policy(depth=0))
        self.do("centre", Sign(text=sha256(b"text"), paper=paper, paper_entry=scan), self.custodial, *DOCTOR)

    def _emergencies(self) -> None:
        for matched in (False, True):
            opening = EmergencyOpen(
                custodian=self.story.centre.id,
                identity=self.story.draw(),
                reason=EmergencyReason.NO_TIME,
                lasts=6 * HOUR,
            )
            emergency = self.do("hospital", opening, None, *DOCTOR)
            if matched:
                self.do("centre", EmergencyMatch(entries=self.entries[:2], deliveries=3), emergency)

    def _inspection(self) -> None:
        opening = InspectionOpen(
            legal_basis="law",
            institutions=(self.story.centre.id,),
            period_from=self.story.day(-40),
            period_to=self.story.day(1),
            question=self.story.draw(),
        )
        self.do("bureau", opening, None, Role.INSPECTOR)
        inspection = self.do("bureau", opening, None, Role.INSPECTOR)
        self.do("bureau", InspectionApproveScope(), inspection, Role.SECOND_OFFICER)
        self.do("bureau", InspectionRequestContent(entries=self.entries[:2]), inspection, Role.INSPECTOR)
        now = self.consortium.time
        granting = GrantIssue(
            basis=Basis.STATUTORY,
            covered_by=None,
            recipient=self.consortium["bureau"].id,
            purpose=Purpose.HOPERAT,
            entries=self.entries[:2],
            level_cap=4,
            begins=now,
            ends=unix_millis(now + DAY),
            deliveries=2,
            depth=0,
        )
        self.do("centre", granting, None, refs=[inspection])
        for opened in (False, True):
            paper = self.do("bureau", RequestPaper(consent=self.custodial), None, Role.AUDITOR)
            if opened:
                self.do("centre", OpenPaper(), paper, Role.DATA_OFFICER)

    def _governance(self) -> None:
        council = Council(self.consortium)
        everybody = tuple(self.consortium.parties)
        newcomer = council.newcomer()
        change = ParameterChange(name="consent.lease", number=5 * HOUR, words=())
        suspend = Suspend(institution=self.story.other.id, reason="incident")
        remove = Remove(institution=self.story.other.id, reason="incident")
        waiting: tuple[Action, ...] = (change, suspend, remove)
        for action in waiting:
            self.do("centre", ProposalOpen(action=action), None, Role.OFFICER)
        approved: tuple[Action, ...] = (replace(change, number=6 * HOUR), replace(suspend, reason="again"))
        for action in (council.admit(newcomer), *approved):
            proposal = self.do("centre", ProposalOpen(action=action), None, Role.OFFICER)
            for name in everybody:
                council.vote(name, proposal)
            if action not in approved:
                self.consortium.advance(14 * DAY)
                self.story.done(council.apply(proposal))
        self.sent.append(council.join_command(newcomer))
        fresh = self.story.centre.person(Role.NURSE, 9)
        message = interface.possession_message(self.consortium.chain, self.story.centre.id, fresh.public_key, None)
        now = self.consortium.time
        key = NewKey(
            suite=SuiteId.INTL,
            public_key=fresh.public_key,
            exchange_key=None,
            held_by=HeldBy.DEVICE,
            licence=None,
            valid_from=now,
            valid_until=unix_millis(now + DAY),
            possession=fresh.sign(message),
        )
        self.do("centre", KeyRegister(role=Role.NURSE, key=key), None, Role.OFFICER)
        other = council.key(self.story.centre, self.story.centre.person(Role.NURSE, 8))
        self.sent.append(KeyRotate(key=other, endorsement=None))


@cache
def world() -> World:
    """Build the world once."""
    return World()


class Walk:
    """Hostile operations one after the other, each a block of its own over what the ones before left."""

    def __init__(self, seed: int) -> None:
        self.world = world()
        self.random = Random(seed)
        self.registry = self.world.consortium.machine.registry
        self.rows = Rows(self.world.base)
        self.time = self.world.start
        self.done = 0
        self.cases = self._known_cases()
        self.words = self._known_words()
        self._set_parameters(self.random.choice(("as founded", "least", "most", "any")))

    def step(self) -> None:
        """Send one operation, and take over what it changed."""
        bound, row = self._chosen()
        ways = [one for one in row.who.alternatives if one.kind != "workflow"]
        self.time = unix_millis(self.time + self.random.choice(WAITS))
        found = None if row.opens and self.random.random() < 0.95 else self._case_of(bound, row)
        command = self._command(bound.command)
        way = self.random.choice(ways) if ways else None
        actor, persons = self._signers(way, found)
        role = way.signers[0].roles[0] if way is not None and way.kind == "node" else Role.NODE
        self._run(bound, row, command, found, actor=(actor, role), persons=persons)

    def _chosen(self) -> tuple[Bound, Row]:
        """Choose a row, rather one that leaves a state in which some case is."""
        rows = [(bound, row) for bound in self.registry.commands.values() for row in bound.rows]
        if self.random.random() < 0.1:
            return self.random.choice(rows)
        there = {(word, state) for word, known in self.cases.items() for state in known.values()}
        possible = [
            (bound, row)
            for bound, row in rows
            if row.opens or any((bound.case_type.word, state) in there for state in row.from_states)
        ]
        bound = self.random.choice(list(dict.fromkeys(bound.word for bound, _ in possible)))
        return self.random.choice([one for one in possible if one[0].word == bound])

    def _run(
        self,
        bound: Bound,
        row: Row,
        command: Command,
        found: Found[Any] | None,
        *,
        actor: tuple[Party, Role],
        persons: tuple[PersonSignature, ...],
    ) -> None:
        consortium, party = self.world.consortium, actor[0]
        consortium.time = self.time
        draw, refs = op_id(self.random.randbytes(16)), self._refs(row)
        try:
            target = found.header.id if found is not None else consortium.derived_id(party, command, draw, refs)
        except IndexError:
            return  # an id that comes from a reference, of which none was named
        core = Core(
            op_id=draw,
            workflow=bound.workflow.name,
            command=bound.word,
            case_id=target,
            case_version=found.header.version if found is not None else 0,
            refs=refs,
            body=canonical.encode(command),
            claims_root=None,
        )
        read_again = canonical.decode(core.body, bound.command)
        operation = Operation(digest(b"\0" * 32), encode_core(core), core, persons, read_again)
        directory = Directory(self.rows)  # type: ignore[arg-type]  # of a store it only gets rows
        member = directory.member(party.id)
        signing = (MemberState.INVITED,) if actor[1] == Role.NEWCOMER else LIVING
        if member is None or member.state not in signing:
            return
        circumstances = Circumstances(
            chain=consortium.chain,
            height=1_000,
            time=self.time,
            previous_app_hash=consortium.machine.head.app_hash,
            directory=directory,
        )
        layer = Layer(self.rows, self.registry.fields)  # type: ignore[arg-type]  # of a store it only gets rows
        layer.begin()
        sender = Actor(institution=party.id, role=actor[1], member=member)
        try:
            Judge(self.registry, circumstances).run(operation, sender, layer, signatures_hold=True)
        except Refused:
            return
        except Exception as error:
            raise AssertionError(f"{bound.word} as {[one.role.value for one in persons]}: {command!r}") from error
        self.done += 1
        for key, content in layer.keep().items():
            self._check_decodes(bound, key, content)
            self.rows.rows[key_hash(key)] = content
            if key.startswith(b"case/"):
                self._know(self.cases, content)

    def _know(self, known: dict[str, dict[CaseId, str]], content: bytes) -> None:
        decoded = decode_case(content, self.registry.fields)
        assert decoded is not None
        known.setdefault(decoded[0], {})[decoded[1].header.id] = decoded[1].state

    def _check_decodes(self, bound: Bound, key: bytes, content: bytes) -> None:
        if key.startswith(b"case/"):
            decoded = decode_case(content, self.registry.fields)
            assert decoded is not None
            word, found = decoded
            assert encode_case(word, self.registry.case_types[word][1].shape, found) == content, (bound.word, word)
            return
        kinds = [
            kind
            for item in self.registry.workflows
            for kind in (*item.registers, *((Parameters,) if item.name == GOVERNANCE else ()))
            if key.startswith(register_key(item.name, kind.word))
        ]
        kind = max(kinds, key=lambda one: len(one.word))
        assert encode_register(key, decode_register(content, kind)) == content, (bound.word, kind.word)

    def _known_cases(self) -> dict[str, dict[CaseId, str]]:
        known: dict[str, dict[CaseId, str]] = {}
        for _, row in self.world.base.scan(b"\0" * 32, None):
            if row[1:7] == b"\x58\x25case":
                self._know(known, row)
        return known

    def _known_words(self) -> list[str]:
        kinds = ["C0007", "C0053", "intl", "x", "x" * 64, "TREAT", "primary"]
        return [*kinds, *(spec.name for spec in self.registry.parameters()), "member.admit", "rule.change"]

    def _case_of(self, bound: Bound, row: Row) -> Found[Any] | None:
        """Give a case of the command's type, rather one in a state that the row leaves."""
        layer = Layer(self.rows, self.registry.fields)  # type: ignore[arg-type]  # of a store it only gets rows
        known = self.cases.get(bound.case_type.word, {})
        fitting = [one for one, state in known.items() if state in row.from_states]
        chosen = fitting if fitting and self.random.random() < 0.95 else list(known)
        found = layer.find_case(self.random.choice(chosen)) if chosen else None
        return None if found is None else found[1]

    def _refs(self, row: Row) -> tuple[CaseId, ...]:
        refs: list[CaseId] = []
        for declared in row.refs:
            known = self.cases.get(declared.case_type, {})
            fitting = [one for one, state in known.items() if state in declared.states]
            number = min(len(fitting), self.random.randint(declared.at_least, declared.at_most))
            refs += self.random.sample(fitting, number)
        return tuple(refs)

    def _signers(self, way: Alternative | None, found: Found[Any] | None) -> tuple[Party, tuple[PersonSignature, ...]]:
        parties = list(self.world.parties.values())
        anyone = self.random.choice(parties)
        if way is None:
            return anyone, ()
        if way.kind == "patient":
            return self._patient(way, found, anyone)
        able = [one for one in parties if any(self._holds(one, role) for role in way.signers[0].roles)]
        party = self._at(way.position, found, self.random.choice(able or parties))
        if way.kind == "node":
            return party, ()
        persons = []
        for index, signer in enumerate(way.signers):
            held = [role for role in signer.roles if self._holds(party, role)]
            role = self.random.choice(held or list(signer.roles))
            persons.append(self._signature(party.person(role, index).public_key, role))
        return party, tuple(persons)

    def _patient(
        self, way: Alternative, found: Found[Any] | None, anyone: Party
    ) -> tuple[Party, tuple[PersonSignature, ...]]:
        patient = found.header.patient if found is not None else None
        if patient is None:
            return anyone, ()
        if patient.key is not None:
            return anyone, (self._signature(patient.key, Role.PATIENT),)
        home = anyone if patient.home is None else self.world.parties.get(patient.home, anyone)
        role = way.witnesses[0] if way.witnesses else None
        return home, () if role is None else (self._signature(home.person(role).public_key, role),)

    def _at(self, position: str, found: Found[Any] | None, anyone: Party) -> Party:
        if not position or found is None or self.random.random() < 0.05:
            return anyone
        value: Any = found.header.id if position == "@case" else getattr(found.fields, position)
        value = self.random.choice(value) if isinstance(value, tuple) else value
        return self.world.parties.get(value, anyone)

    def _holds(self, party: Party, role: Role) -> bool:
        key = Directory(self.rows).key(key_id_of(SuiteId.INTL, party.person(role).public_key))  # type: ignore[arg-type]  # of a store it only gets rows
        return key is not None

    def _signature(self, public_key: Any, role: Role) -> PersonSignature:  # noqa: ANN401 - raw bytes of a key
        return PersonSignature(
            key_id=key_id_of(SuiteId.INTL, public_key),
            role=role,
            valid_until=unix_millis(self.time + HOUR),
            signature=b"\0" * 64,
        )

    def _command(self, kind: type[Command]) -> Command:
        """Make a command: one that was sent before with some fields changed, or one from its schema alone."""
        like = [one for one in self.world.sent if type(one) is kind]
        if not like or self.random.random() < 0.3:
            made: Command = self._value(inspect.type_info(kind))
            return made
        template = self.random.choice(like)
        names = list(template.__struct_fields__)
        changed = self.random.sample(names, min(len(names), self.random.choice((0, 1, 1, 2))))
        info = inspect.type_info(kind)
        assert isinstance(info, inspect.StructType)
        types = {field.name: field.type for field in info.fields}
        return replace(template, **{name: self._value(types[name]) for name in changed})

    def _value(self, info: inspect.Type) -> Any:  # noqa: ANN401, PLR0911 - one return a kind of type
        match info:
            case inspect.Metadata():
                return self._value(info.type)
            case inspect.UnionType():
                return self._value(self.random.choice(info.types))
            case inspect.NoneType():
                return None
            case inspect.BoolType():
                return self.random.random() < 0.5
            case inspect.IntType():
                return self._integer(info)
            case inspect.BytesType():
                return self._bytes(info)
            case inspect.StrType():
                return "名" if info.pattern is None else self.random.choice(self.words)[: info.max_length]
            case inspect.EnumType():
                return self.random.choice(list(info.cls))
            case inspect.LiteralType():
                return self.random.choice(info.values)
            case inspect.VarTupleType():
                return self._tuple(info)
            case inspect.StructType():
                return info.cls(**{field.name: self._value(field.type) for field in info.fields})
            case _:
                raise AssertionError(f"no value for {info}")

    def _integer(self, info: inspect.IntType) -> int:
        least = info.ge if info.ge is not None else -(2**63)
        most = info.le if info.le is not None else 2**63 - 1
        near = (least, most, least + 1, most - 1, 0, 1, 2, 4, 12, 20_000, 24_317)
        times = (self.time - 1, self.time, self.time + 1, self.time + DAY, self.time + 30 * DAY, self.time + 400 * DAY)
        fitting = [one for one in (*near, *times) if least <= one <= most]
        return self.random.choice(fitting)

    def _bytes(self, info: inspect.BytesType) -> bytes:
        least, most = info.min_length or 0, info.max_length if info.max_length is not None else 64
        if least <= 32 <= most and self.random.random() < 0.9:
            pools: Iterable[list[Any]] = (
                list(self.world.parties),
                *(
                    list(self.cases[word])
                    for word in (self.random.choice(list(self.cases)), "entry", "grant", "consent")
                ),
                [WALLET.public_key, sha256(b"text"), b"\0" * 32, b"\xff" * 32, self.random.randbytes(32)],
            )
            return bytes(self.random.choice(self.random.choice(list(pools))))
        return self.random.randbytes(self.random.choice((least, most)))

    def _tuple(self, info: inspect.VarTupleType) -> tuple[Any, ...]:
        least, most = info.min_length or 0, info.max_length if info.max_length is not None else 8
        number = self.random.choice((least, most, min(most, least + 1), min(most, least + 2), min(most, least + 2)))
        made = tuple(self._value(info.item_type) for _ in range(number))
        return tuple(dict.fromkeys(made)) if self.random.random() < 0.7 and len(set(made)) >= least else made

    def _set_parameters(self, how: str) -> None:
        """Put the parameters where a vote could put them."""
        key = register_key(GOVERNANCE, Parameters.word)
        found = Layer(self.rows, {}).find_register(key, Parameters)  # type: ignore[arg-type]  # of a store it only gets rows
        assert found is not None
        specs: Mapping[str, Any] = {spec.name: spec for spec in self.registry.parameters()}
        items = []
        for item in found.items:
            spec = specs[item.name]
            choice = self.random.choice(("as founded", "least", "most")) if how == "any" else how
            number = {"as founded": item.number, "least": spec.least, "most": spec.most}[choice]
            words = tuple(self.random.sample(self.words, 3)) if item.words and how == "any" else item.words
            items.append(replace(item, number=0 if item.words else number, words=words))
        self.rows.rows[key_hash(key)] = encode_register(key, Parameters(items=tuple(items)))


@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(seed=st.integers(0, 2**64 - 1))
def test_a_hostile_command_is_done_or_refused_and_every_row_it_leaves_decodes(seed: int) -> None:
    walk = Walk(seed)
    for _ in range(STEPS):
        walk.step()


def test_the_walk_reaches_the_contracts_of_most_commands_and_changes_cases() -> None:
    done = 0
    for seed in range(10):
        walk = Walk(seed)
        for _ in range(STEPS):
            walk.step()
        done += walk.done
    assert done > 40
