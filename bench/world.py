"""A small consortium and signed transactions for it: what benchmarks and tests of the ledger run on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from hashlib import sha256

import msgspec

from yilian import canonical
from yilian.crypto.suite import Signer, SuiteId, key_id_of
from yilian.crypto.tags import entry_id
from yilian.engine.embedded import EmbeddedEngine
from yilian.ledger import envelope
from yilian.ledger.block import Genesis
from yilian.ledger.cases import Command
from yilian.ledger.envelope import PersonSignature
from yilian.ledger.machine import Executed, Machine
from yilian.ledger.members import InstitutionKind, Role
from yilian.ledger.ports import Blocks, State
from yilian.ledger.registry import Registry
from yilian.storage.memory import MemoryState
from yilian.testing.consortium import Consortium, Party
from yilian.values import HOUR, CaseId, Digest, UnixMillis, digest, op_id, unix_millis
from yilian.workflows import catalog, governance
from yilian.workflows.catalog.model import Origin, Publish, Restrict

MONTH = 24_300
SIZE_CLASS = 14
LEVEL = 3


class World:
    """A hospital and a community centre under governance and catalog.

    Everything drawn is the same in every run but the exchange keys in the genesis: hand it in to meet a chain again.
    """

    def __init__(self, tree_depth: int, genesis: Genesis | None = None) -> None:
        founded = Consortium.found(
            {"hospital": InstitutionKind.HOSPITAL, "centre": InstitutionKind.COMMUNITY_CENTRE},
            workflows=(governance.WORKFLOW, catalog.WORKFLOW),
        )
        self.registry: Registry = founded.machine.registry
        fresh = msgspec.structs.replace(founded.machine.genesis, tree_depth=tree_depth)
        self.genesis: Genesis = genesis or fresh
        self.chain: Digest = self.genesis.chain
        self.party: Party = founded["hospital"]
        self.other: Party = founded["centre"]
        self.start: UnixMillis = self.genesis.time
        self.kind = founded.machine.directory().words("catalog.kinds")[0]

    def engine(
        self,
        state: State,
        blocks: Blocks,
        *,
        clock: Callable[[], int] | None = None,
        proposer: Signer | None = None,
        second_core: bool = False,
    ) -> EmbeddedEngine:
        """Open the chain with the hospital as its sequencer; the clock stands a millisecond after the genesis."""
        return EmbeddedEngine(
            genesis=self.genesis,
            registry=self.registry,
            state=state,
            blocks=blocks,
            proposer=proposer or self.party.gateway,
            proposer_id=self.party.id,
            clock=clock or (lambda: self.start + 1),
            second_core=second_core,
        )

    def public_keys(self) -> dict[bytes, bytes]:
        """Give the public keys of the genesis by their ids."""
        return {
            key_id_of(SuiteId(key.suite), key.public_key): key.public_key
            for founder in self.genesis.founders
            for key in founder.keys
        }

    def publish(self, number: int, *, kind: str | None = None) -> tuple[CaseId, Publish]:
        """Make the number-th entry: (id, command)."""
        tag = drawn(b"tag", number)
        command = Publish(
            tag=tag,
            root=drawn(b"root", number),
            commitment=drawn(b"commitment", number),
            size_class=SIZE_CLASS,
            kind=kind or self.kind,
            level=LEVEL,
            month=MONTH,  # type: ignore[arg-type]  # a number of months
            origin=Origin.SYSTEM,
            late=False,
        )
        return entry_id(self.chain, self.party.id, tag), command

    def core(self, word: str, case: CaseId, command: Command, *, op: bytes, version: int = 0) -> bytes:
        """Encode the core of an operation."""
        return envelope.encode_core(
            envelope.Core(
                op_id=op_id(op),
                workflow=word.split(".", maxsplit=1)[0],
                command=word,
                case_id=case,
                case_version=version,
                refs=(),
                body=canonical.encode(command),
                claims_root=None,
            )
        )

    def publication(self, number: int) -> bytes:
        """Encode the operation that publishes the number-th entry."""
        case, command = self.publish(number)
        return envelope.encode_operation(self.core("catalog.publish", case, command, op=drawn(b"op", number)[:16]))

    def restriction(self, number: int) -> bytes:
        """Encode the operation by which a data officer restricts the number-th entry: two signatures in all."""
        case, _ = self.publish(number)
        core = self.core("catalog.restrict", case, Restrict(), op=drawn(b"restrict", number)[:16], version=1)
        return envelope.encode_operation(core, (self.signed(core, Role.DATA_OFFICER),))

    def signed(self, core: bytes, role: Role) -> PersonSignature:
        """Sign a core as a person of the hospital."""
        return envelope.sign_core(
            core,
            self.party.person(role),
            role,
            chain=self.chain,
            actor=self.party.id,
            valid_until=unix_millis(self.start + HOUR),
        )

    def transaction(
        self, operations: Sequence[bytes], *, gateway: Signer | None = None, valid_until: int | None = None
    ) -> bytes:
        """Sign an envelope of the hospital."""
        return envelope.sign_transaction(
            operations,
            gateway or self.party.gateway,
            chain=self.chain,
            actor=self.party.id,
            valid_until=unix_millis(self.start + HOUR if valid_until is None else valid_until),
        )

    def transactions(self, first: int, count: int, *, each: int) -> list[bytes]:
        """Sign envelopes that publish the entries from `first` on, `each` operations an envelope."""
        operations = [self.publication(number) for number in range(first, first + count)]
        return [self.transaction(operations[at : at + each]) for at in range(0, count, each)]


class Ledger:
    """A machine over a store in memory; each `block` is executed and committed."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.state = MemoryState()
        self.machine = Machine(self.state, world.registry, world.genesis)

    def block(self, *transactions: bytes, later: int = 1, checked: int = 0) -> Executed:
        """Execute and commit a block, `later` milliseconds after the one before."""
        executed = self.execute(*transactions, later=later, checked=checked)
        self.machine.commit(executed)
        return executed

    def execute(self, *transactions: bytes, later: int = 1, checked: int = 0) -> Executed:
        """Execute a block without committing it; `checked` says what of all was checked before."""
        head = self.machine.head
        time = unix_millis(head.time + later)
        return self.machine.execute(head.height + 1, time, digest(bytes(32)), transactions, lambda _: checked)

    def rows(self) -> list[tuple[bytes, bytes]]:
        """Give all rows: (key hash, row)."""
        return list(self.state.scan(b"\0" * 32, None))


def drawn(what: bytes, number: int) -> Digest:
    """Give 32 bytes that stand for a random draw."""
    return digest(sha256(what + number.to_bytes(8, "big")).digest())
