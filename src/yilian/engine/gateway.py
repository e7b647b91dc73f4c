"""An institution's hand on the ledger: drafts cores, signs envelopes, submits them and waits for the answer.

Services, reactors and the API all act through it, so that there is one way to sign and one way to read a refusal.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import TypeVar, cast

import msgspec

from yilian import canonical
from yilian.crypto import cose
from yilian.crypto.cose_receipt import Inclusion, sign_receipt
from yilian.crypto.suite import Signer
from yilian.engine.port import Engine
from yilian.errors import Refused, UnavailableError
from yilian.ledger import envelope
from yilian.ledger.cases import Case, Command, Found
from yilian.ledger.checkpoint import origin
from yilian.ledger.claims import Claim, claims_root
from yilian.ledger.envelope import PersonSignature
from yilian.ledger.members import InstitutionKind, Role
from yilian.ledger.registry import Registry
from yilian.ledger.results import Answer, TransactionResult
from yilian.ledger.workflow import Call
from yilian.values import HOUR, MINUTE, CaseId, InstitutionId, KeyId, OpId, UnixMillis, case_id, op_id, unix_millis

C = TypeVar("C", bound=Case)

ENVELOPE_VALIDITY = 30 * MINUTE
OPERATIONS_AN_ENVELOPE = 100
ENVELOPE_BYTES = 700_000
ANSWER_TIMEOUT_S = 120.0


class Draft(msgspec.Struct, frozen=True, kw_only=True):
    """A core that waits for signatures: what a wallet or an officer's device signs."""

    core: bytes
    op_id: OpId
    case_id: CaseId
    command: str


class Signed(msgspec.Struct, frozen=True, kw_only=True):
    """A core with its persons' signatures."""

    core: bytes
    persons: tuple[PersonSignature, ...] = ()


class Gateway:
    """Acts for one institution; thread-safe."""

    def __init__(
        self,
        engine: Engine,
        registry: Registry,
        institution: InstitutionId,
        signer: Signer,
        *,
        clock: Callable[[], UnixMillis],
    ) -> None:
        self.engine = engine
        self.registry = registry
        self.institution = institution
        self._signer = signer
        self._clock = clock

    @property
    def key_id(self) -> KeyId:
        """Id of the gateway key that it signs with."""
        return self._signer.key_id

    def draft(
        self,
        command: Command,
        case: CaseId | None = None,
        *,
        refs: Sequence[CaseId] = (),
        op: OpId | None = None,
        version: int | None = None,
        claims: Sequence[Claim] = (),
    ) -> Draft:
        """Build a core; without `case` it opens one, whose id is derived. `version` defaults to the current one.

        Of `claims` the core carries the root; whoever drafts keeps them, or none of them can be shown later.
        """
        bound = self.registry.by_type[type(command)]
        drawn = op_id(os.urandom(16)) if op is None else op
        target = self.derive_id(command, drawn, refs) if case is None else case
        if version is None:
            found = self.engine.find_case(target)
            version = found[1].header.version if found is not None else 0
        core = envelope.Core(
            op_id=drawn,
            workflow=bound.workflow.name,
            command=bound.word,
            case_id=target,
            case_version=version,
            refs=tuple(refs),
            body=canonical.encode(command),
            claims_root=claims_root(claims),
        )
        return Draft(core=envelope.encode_core(core), op_id=drawn, case_id=target, command=bound.word)

    def derive_id(self, command: Command, op: OpId, refs: Sequence[CaseId] = ()) -> CaseId:
        """Derive the id of the case that a command of this institution opens."""
        head = self.engine.head()
        call = Call(
            chain=self.engine.chain,
            institution=self.institution,
            operator=self.institution,
            kind=InstitutionKind.HOSTING,
            suspended=False,
            persons=(),
            refs=tuple(refs),
            time=head.time,
            height=head.height,
            op_id=op,
            previous_app_hash=head.app_hash,
            case_id=case_id(bytes(32)),
            header=None,
            caller="",
        )
        return self.registry.by_type[type(command)].opened_id(call, command)

    def sign(self, core: bytes, signer: Signer, role: Role) -> PersonSignature:
        """Sign a core with a person's key that this node holds, valid for an hour."""
        valid_until = unix_millis(self._clock() + HOUR)
        return envelope.sign_core(
            core, signer, role, chain=self.engine.chain, actor=self.institution, valid_until=valid_until
        )

    def act(
        self,
        command: Command,
        case: CaseId | None = None,
        *,
        persons: Sequence[tuple[Signer, Role]] = (),
        refs: Sequence[CaseId] = (),
        op: OpId | None = None,
    ) -> Answer:
        """Draft, sign, submit and wait until it is durable.

        Raises:
            Refused: the ledger refused it, with workflow, number and inner refusals.
            InvalidTransaction: it could not enter a block.
            UnavailableError: the engine is busy or stopped.
        """
        draft = self.draft(command, case, refs=refs, op=op)
        signatures = tuple(self.sign(draft.core, signer, role) for signer, role in persons)
        (answer,) = self.send([Signed(core=draft.core, persons=signatures)])
        return check(answer)

    def find(self, kind: type[C], case: CaseId) -> Found[C] | None:
        """Find a committed case of one type; None where there is none, or one of another type."""
        found = self.engine.find_case(case)
        if found is None or found[0] != self.registry.case_words[kind]:
            return None
        return cast("Found[C]", found[1])

    def sign_document(self, payload: bytes, tag: str) -> bytes:
        """Sign bytes for another institution, off the ledger, under a domain tag: an encoded COSE_Sign1."""
        return canonical.encode(cose.sign1(payload, tag.encode(), self._signer))

    def sign_receipt(self, inclusion: Inclusion, subject: str) -> bytes:
        """Sign the log root that a leaf leads to as a COSE receipt of this chain (RFC 9942)."""
        return sign_receipt(inclusion, self._signer, issuer=origin(self.engine.chain), subject=subject)

    def send(self, operations: Sequence[Signed], *, valid_until: UnixMillis | None = None) -> list[Answer]:
        """Submit operations, up to 100 an envelope, and wait for all answers; refused ones are answers too.

        After the block time `valid_until` (by default half an hour from now) none of them may enter a block.

        Raises:
            InvalidTransaction: an envelope could not enter a block.
            UnavailableError: the engine is busy or stopped.
        """
        encoded = [envelope.encode_operation(item.core, item.persons) for item in operations]
        until = unix_millis(self._clock() + ENVELOPE_VALIDITY) if valid_until is None else valid_until
        futures = [self.engine.submit(self._envelope(batch, until)) for batch in _batches(encoded)]
        answers: list[Answer] = []
        for future in futures:
            try:
                result: TransactionResult = future.result(ANSWER_TIMEOUT_S)
            except TimeoutError as error:
                raise UnavailableError(
                    f"no answer from the ledger within {ANSWER_TIMEOUT_S:.0f} s: ask for the operation's state later"
                ) from error
            if result.code:
                raise envelope.InvalidTransaction(result.code, result.message)
            answers.extend(result.answers)
        return answers

    def _envelope(self, operations: Sequence[bytes], valid_until: UnixMillis) -> bytes:
        return envelope.sign_transaction(
            operations,
            self._signer,
            chain=self.engine.chain,
            actor=self.institution,
            valid_until=valid_until,
        )


def check(answer: Answer) -> Answer:
    """Return an answer that is done.

    Raises:
        Refused: it is not; with the kernel's or the workflow's number.
    """
    if answer.ok:
        return answer
    (workflow, number), *inner = answer.result
    message = answer.message or f"{answer.command} was refused by {workflow} with number {number}"
    raise Refused(number, message, workflow=workflow, inner=tuple(inner))


def _batches(encoded: Sequence[bytes]) -> list[list[bytes]]:
    batches: list[list[bytes]] = []
    size = 0
    for item in encoded:
        if not batches or len(batches[-1]) >= OPERATIONS_AN_ENVELOPE or size + len(item) > ENVELOPE_BYTES:
            batches.append([])
            size = 0
        batches[-1].append(item)
        size += len(item) + 8
    return batches
