"""Drafts: operations that wait for signatures made outside the node."""

from __future__ import annotations

import time
from collections.abc import Sequence

from yilian.engine.gateway import Draft
from yilian.engine.port import Engine
from yilian.ledger.envelope import PersonSignature, person_message
from yilian.ledger.members import Role
from yilian.values import HOUR, InstitutionId, KeyId, unix_millis
from yilian.web.app.views import DraftView, MessageView


def draft_view(engine: Engine, actor: InstitutionId, draft: Draft, signers: Sequence[tuple[KeyId, Role]]) -> DraftView:
    """Describe a draft, with the message that each signer signs, valid for an hour."""
    now = time.time_ns() // 1_000_000
    until = unix_millis(max(now, engine.head().time) + HOUR)
    messages = []
    for key, role in signers:
        unsigned = PersonSignature(key_id=key, role=role, valid_until=until, signature=bytes(64))
        message = person_message(draft.core, engine.chain, actor, unsigned)
        messages.append(MessageView(key_id=key.hex(), role=role.value, valid_until=until, message=message.hex()))
    return DraftView(
        core=draft.core.hex(),
        op_id=draft.op_id.hex(),
        case_id=draft.case_id.hex(),
        command=draft.command,
        chain=engine.chain.hex(),
        actor=actor.hex(),
        to_sign=tuple(messages),
    )
