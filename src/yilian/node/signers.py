"""Who signs checkpoints, as the ledger says: the sequencer, the witnesses, and how many of them the policy asks for."""

from __future__ import annotations

import time
from collections.abc import Sequence

from yilian.crypto.suite import SuiteId, key_id_of
from yilian.engine.port import Engine
from yilian.ledger.block import Genesis
from yilian.ledger.cases import Found
from yilian.ledger.checkpoint import Checkpoint, SignatureKind, SignatureLine, verify_line
from yilian.ledger.members import Key, KeyState, MemberState, Role, Roster, is_valid
from yilian.ledger.sequencer import sequencer_of
from yilian.ledger.trust import FORMAT, Trust, TrustedKey
from yilian.node.host import Host
from yilian.storage.port import Index
from yilian.storage.rows import CaseQuery
from yilian.values import Digest, InstitutionId, PublicKey, institution_id, key_id

NEEDED = "governance.witnesses"
REMEMBERED_S = 1.0
"""How long keys are not looked up again."""
MOST_KEYS = 200
MOST_ROOTS = 64
_NEEDED: dict[Digest, int] = {}
"""k by the root of the parameters: every release asks, and the parameters hardly ever change."""


def needed(engine: Engine) -> int:
    """Give k: how many distinct operators besides the sequencer's must have cosigned; 0 where nobody must."""
    root = engine.head().parameters_root
    known = _NEEDED.get(root)
    if known is not None:
        return known
    try:
        number = engine.directory().number(NEEDED)
    except KeyError:
        number = 0
    if engine.head().parameters_root == root:  # else a block came between: ask anew next time
        if len(_NEEDED) >= MOST_ROOTS:
            _NEEDED.clear()
        _NEEDED[root] = number
    return number


class Signers:
    """Looks up keys and operators; any thread."""

    def __init__(self, engine: Engine, index: Index, genesis: Genesis, hosts: dict[str, Host]) -> None:
        self._engine = engine
        self._index = index
        self._genesis = genesis
        self._hosts = hosts
        self._known: dict[InstitutionId, tuple[float, tuple[Found[Key], ...]]] = {}

    def sequencer(self) -> InstitutionId:
        """Give the member that orders the blocks."""
        return sequencer_of(self._engine.state)

    def sequencer_keys(self) -> tuple[PublicKey, ...]:
        """Give the keys under which a checkpoint of the present sequencer holds, those that it rotated too."""
        found = self.keys(self.sequencer())
        return tuple(one.fields.public_key for one in found if one.state in {KeyState.ACTIVE, KeyState.ROTATED})

    def keys(self, institution: InstitutionId) -> tuple[Found[Key], ...]:
        """Give the gateway keys of a member, whatever their state."""
        known = self._known.get(institution)
        if known is not None and known[0] > time.monotonic():
            return known[1]
        ids = [host.gateway.key_id for host in tuple(self._hosts.values()) if host.id == institution]
        ids += [
            key_id_of(SuiteId(key.suite), key.public_key)
            for founder in self._genesis.founders
            for key in founder.keys
            if key.owner == institution
        ]
        query = CaseQuery(kind="key", institution=institution, position="owner", limit=MOST_KEYS)
        ids += [key_id(row.case_id) for row in self._index.find_cases(query).items]
        directory = self._engine.directory()
        found = [directory.key(one) for one in dict.fromkeys(ids)]
        keys = tuple(
            one for one in found if one is not None and one.fields.role == Role.NODE and one.fields.owner == institution
        )
        self._known[institution] = (time.monotonic() + REMEMBERED_S, keys)
        return keys

    def active_keys(self, institution: InstitutionId) -> tuple[Key, ...]:
        """Give the gateway keys of a member that are valid now."""
        at = self._engine.head().time
        return tuple(one.fields for one in self.keys(institution) if is_valid(one.fields, one.state, at))

    def operator(self, institution: InstitutionId) -> InstitutionId | None:
        """Give who operates the machine of an active member; None where it is none."""
        member = self._engine.directory().member(institution)
        return member.fields.operator if member is not None and member.state == MemberState.ACTIVE else None

    def may_witness(self, institution: InstitutionId) -> bool:
        """Say whether a member counts as a witness: active, and not run by whoever runs the sequencer."""
        operator = self.operator(institution)
        return operator is not None and operator != self._sequencer_operator()

    def kind_of(self, checkpoint: Checkpoint, line: SignatureLine) -> SignatureKind | None:
        """Say what a witness's line says; None where it is of nobody who counts, or does not hold."""
        try:
            institution = institution_id(bytes.fromhex(line.name))
        except ValueError:
            return None
        if institution.hex() != line.name or not self.may_witness(institution):
            return None
        kinds = (verify_line(checkpoint, line, key.public_key) for key in self.active_keys(institution))
        return next((kind for kind in kinds if kind in {SignatureKind.LOG, SignatureKind.EXECUTED}), None)

    def members(self) -> tuple[InstitutionId, ...]:
        """Give all members ever, in the order of joining."""
        roster = self._engine.reads().register(Roster)
        return roster.members if roster is not None else ()

    def trust(self) -> Trust:
        """Give what a reader of receipts has to believe, as of the newest block."""
        leader = self.sequencer()
        member = self._engine.directory().member(leader)
        operator = member.fields.operator if member is not None else leader
        witnesses = [one for one in self.members() if self.may_witness(one)]
        return Trust(
            format=FORMAT,
            name=self._genesis.name,
            chain=self._engine.chain.hex(),
            sequencer=_trusted(leader, operator, self.active_keys(leader)),
            witnesses=tuple(
                key for one in witnesses for key in _trusted(one, self.operator(one) or one, self.active_keys(one))
            ),
            needed=needed(self._engine),
        )

    def _sequencer_operator(self) -> InstitutionId:
        leader = self.sequencer()
        member = self._engine.directory().member(leader)
        return member.fields.operator if member is not None else leader


def _trusted(institution: InstitutionId, operator: InstitutionId, keys: Sequence[Key]) -> tuple[TrustedKey, ...]:
    return tuple(
        TrustedKey(
            institution=institution.hex(),
            operator=operator.hex(),
            public_key=key.public_key.hex(),
            held_by=str(key.held_by),
        )
        for key in keys
    )
