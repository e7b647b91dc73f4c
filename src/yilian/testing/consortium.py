"""A whole consortium in one test process: parties with keys, one ledger in memory, a clock that a test moves."""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from typing import TypeVar

from yilian import canonical
from yilian.crypto.intl import Ed25519Signer, x25519_from_private
from yilian.crypto.suite import Signer, SuiteId, sha256, tagged_hash
from yilian.ledger import envelope
from yilian.ledger.block import Founder, Genesis, member_id
from yilian.ledger.cases import Case, Command, Found, Register
from yilian.ledger.envelope import PersonSignature
from yilian.ledger.machine import Executed, Machine
from yilian.ledger.members import (
    ROLES_OF_KIND,
    Constitution,
    HeldBy,
    InstitutionKind,
    Key,
    Member,
    Parameter,
    Parameters,
    Role,
)
from yilian.ledger.ports import State
from yilian.ledger.registry import Registry
from yilian.ledger.results import Answer
from yilian.ledger.state import decode_register, key_hash, register_key
from yilian.ledger.workflow import Call, Workflow
from yilian.testing.stores import MemoryState
from yilian.values import DAY, HOUR, CaseId, Digest, InstitutionId, UnixMillis, case_id, digest, op_id, unix_millis

C = TypeVar("C", bound=Case)
R = TypeVar("R", bound=Register)

NOON = unix_millis(1_780_000_000_000)
TREE_DEPTH = 10


class Party:
    """An institution of the test with its keys; persons get one key a role, all registered in the genesis."""

    def __init__(self, name: str, kind: InstitutionKind, operator: str, grade: str = "none") -> None:
        self.name = name
        self.kind = kind
        self.grade = grade
        self.gateway = Ed25519Signer.from_seed(sha256(b"gateway", name.encode()))
        self.exchange = x25519_from_private(sha256(b"exchange", name.encode()))
        self.ca_fingerprint = sha256(b"ca", name.encode())
        self.id = member_id(self.ca_fingerprint)
        self.operator = member_id(sha256(b"ca", operator.encode()))
        self.every_role = False
        self._persons: dict[tuple[Role, int], Ed25519Signer] = {}

    def person(self, role: Role, number: int = 0) -> Ed25519Signer:
        """Give the number-th person (0 or 1) of a role."""
        return self._persons.setdefault(
            (role, number), Ed25519Signer.from_seed(sha256(self.name.encode(), role.value.encode(), bytes((number,))))
        )

    def keys(self, time: UnixMillis) -> tuple[Key, ...]:
        """Give the key records for the genesis: the gateway, and two people of every role of the kind."""
        roles = (Role.NODE, Role.OFFICER, *ROLES_OF_KIND[self.kind])
        if self.every_role:
            roles = tuple(role for role in Role if role not in {Role.PATIENT, Role.NEWCOMER})
        records = []
        for role in roles:
            for number in range(1 if role == Role.NODE else 2):
                signer: Signer = self.gateway if role == Role.NODE else self.person(role, number)
                records.append(
                    Key(
                        owner=self.id,
                        role=role,
                        suite=SuiteId.INTL,
                        public_key=signer.public_key,
                        exchange_key=self.exchange.public_key if role == Role.NODE else None,
                        held_by=HeldBy.NODE if role == Role.NODE else HeldBy.DEVICE,
                        licence=sha256(b"licence") if role in {Role.PHYSICIAN, Role.PHARMACIST} else None,
                        valid_from=unix_millis(0),
                        valid_until=unix_millis(time + 3650 * DAY),
                        compromised_since=unix_millis(0),
                    )
                )
        return tuple(records)

    def member(self) -> Member:
        """Give the member record for the genesis."""
        return Member(
            kind=self.kind,
            operator=self.operator,
            name=self.name,
            legal_name=sha256(b"legal", self.name.encode()),
            district="000000",
            grade=self.grade,
            ca_fingerprint=self.ca_fingerprint,
            keys_digest=digest(b"\0" * 32),
            votes_from=unix_millis(0),
            expires=unix_millis(0),
            leaves_on=unix_millis(0),
        )


class Consortium:
    """Parties and a machine over a store in memory; each `act` is one block."""

    def __init__(self, parties: Mapping[str, Party], machine: Machine, state: State) -> None:
        self.parties = dict(parties)
        self.machine = machine
        self.state = state
        self.time = machine.head.time
        self.transactions: list[tuple[UnixMillis, tuple[bytes, ...]]] = []
        """Every block so far: its time and transactions; what a replay needs."""
        self._drawn = 0

    @classmethod
    def found(
        cls,
        kinds: Mapping[str, InstitutionKind],
        *,
        operators: Mapping[str, str] | None = None,
        grades: Mapping[str, str] | None = None,
        parameters: Mapping[str, int] | None = None,
        words: Mapping[str, tuple[str, ...]] | None = None,
        workflows: Sequence[Workflow] | None = None,
        constitution: Constitution | None = None,
        state: State | None = None,
        every_role: bool = False,
    ) -> Consortium:
        """Found a consortium of named institutions; each runs its own machine unless `operators` says otherwise.

        `every_role`: everyone's people hold every role, whatever the kind (for generated tests of tables).
        """
        parties = {
            name: Party(name, kind, (operators or {}).get(name, name), (grades or {}).get(name, "none"))
            for name, kind in kinds.items()
        }
        for party in parties.values():
            party.every_role = every_role
        enabled = tuple(workflows or importlib.import_module("yilian.workflows.registry").WORKFLOWS)
        registry = Registry(enabled)
        founding = importlib.import_module("yilian.workflows.governance.founding")
        items = tuple(
            Parameter(
                name=spec.name,
                number=(parameters or {}).get(spec.name, spec.number),
                words=(words or {}).get(spec.name, spec.words),
            )
            for spec in registry.parameters()
        )
        genesis = Genesis(
            version=1,
            name="test",
            time=NOON,
            suites=(SuiteId.INTL,),
            tree_depth=TREE_DEPTH,
            workflows=tuple(item.name for item in enabled),
            founders=tuple(Founder(member=party.member(), keys=party.keys(NOON)) for party in parties.values()),
            constitution=constitution or founding.default_constitution(),
            parameters=Parameters(items=items),
        )
        store = state or MemoryState()
        return cls(parties, Machine(store, registry, genesis), store)

    def __getitem__(self, name: str) -> Party:
        return self.parties[name]

    @property
    def chain(self) -> Digest:
        """Id of the chain."""
        return self.machine.chain

    def advance(self, milliseconds: int) -> None:
        """Move the clock forward."""
        self.time = unix_millis(self.time + milliseconds)

    def draw(self) -> bytes:
        """Give 32 bytes that were not given before; the same ones in every run."""
        self._drawn += 1
        return sha256(b"drawn", self._drawn.to_bytes(8, "big"))

    def core(
        self,
        party: Party,
        command: Command,
        case: CaseId | None = None,
        *,
        refs: Sequence[CaseId] = (),
        version: int | None = None,
        operation: bytes | None = None,
    ) -> bytes:
        """Build the core of an operation; an opening derives its id, a version not given is the current one."""
        bound = self.machine.registry.by_type[type(command)]
        op = op_id(operation or self.draw()[:16])
        if case is None:
            case = self.derived_id(party, command, op, refs)
        found = self.machine.find_case(case)
        current = found[1].header.version if found is not None else 0
        return envelope.encode_core(
            envelope.Core(
                op_id=op,
                workflow=bound.workflow.name,
                command=bound.word,
                case_id=case,
                case_version=current if version is None else version,
                refs=tuple(refs),
                body=canonical.encode(command),
                claims_root=None,
            )
        )

    def derived_id(self, party: Party, command: Command, op: bytes, refs: Sequence[CaseId] = ()) -> CaseId:
        """Derive the id of the case that a command opens."""
        bound = self.machine.registry.by_type[type(command)]
        return bound.opened_id(self.call(party, op, refs), command)

    def call(self, party: Party, op: bytes, refs: Sequence[CaseId] = ()) -> Call:
        """Make the circumstances of an opening by one party now."""
        return Call(
            chain=self.chain,
            institution=party.id,
            operator=party.operator,
            kind=party.kind,
            suspended=False,
            persons=(),
            refs=tuple(refs),
            time=self.time,
            height=self.machine.head.height + 1,
            op_id=op_id(op),
            previous_app_hash=self.machine.head.app_hash,
            case_id=case_id(bytes(32)),
            header=None,
            caller="",
        )

    def sign(self, party: Party, core: bytes, role: Role, signer: Signer) -> PersonSignature:
        """Sign a core as a person, valid for an hour."""
        return envelope.sign_core(
            core, signer, role, chain=self.chain, actor=party.id, valid_until=unix_millis(self.time + HOUR)
        )

    def act(
        self,
        party: Party,
        command: Command,
        case: CaseId | None = None,
        *,
        persons: Sequence[Role | tuple[Role, Signer]] = (),
        refs: Sequence[CaseId] = (),
        version: int | None = None,
        operation: bytes | None = None,
        gateway: Signer | None = None,
    ) -> Answer:
        """Submit one operation in a block of its own and give what became of it.

        `persons`: roles (the party's own person of it) or (role, signer) pairs. The clock moves by one millisecond.
        """
        core = self.core(party, command, case, refs=refs, version=version, operation=operation)
        signatures = []
        for person in persons:
            role, signer = person if isinstance(person, tuple) else (person, party.person(person))
            signatures.append(self.sign(party, core, role, signer))
        transaction = self.transaction(party, [envelope.encode_operation(core, signatures)], gateway=gateway)
        (result,) = self.block([transaction]).results
        if not result.answers:
            raise envelope.InvalidTransaction(result.code, result.message)
        return result.answers[0]

    def transaction(self, party: Party, operations: Sequence[bytes], *, gateway: Signer | None = None) -> bytes:
        """Sign an envelope of operations with the party's gateway key."""
        return envelope.sign_transaction(
            operations,
            gateway or party.gateway,
            chain=self.chain,
            actor=party.id,
            valid_until=unix_millis(self.time + HOUR),
        )

    def block(self, transactions: Sequence[bytes]) -> Executed:
        """Execute and commit one block of transactions."""
        self.advance(1)
        height = self.machine.head.height + 1
        name = tagged_hash("test/block", self.machine.head.block, height.to_bytes(8, "big"))
        executed = self.machine.execute(height, self.time, name, transactions, lambda _: False)
        self.machine.commit(executed)
        self.transactions.append((self.time, tuple(transactions)))
        return executed

    def case(self, kind: type[C], case: CaseId) -> Found[C] | None:
        """Find a committed case of one type."""
        found = self.machine.find_case(case)
        if found is None or found[0] != self.machine.registry.case_words[kind]:
            return None
        return found[1]  # type: ignore[return-value]  # the word was compared

    def register(self, kind: type[R], *key: bytes) -> R | None:
        """Find a committed register row."""
        owner = self.machine.registry.owner[kind]
        row = self.state.get(key_hash(register_key(owner, kind.word, key)))
        return None if row is None else decode_register(row, kind)

    def institution(self, name: str) -> InstitutionId:
        """Give the id of a party."""
        return self.parties[name].id
