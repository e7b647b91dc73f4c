"""Who orders the blocks: the member that the members voted for last, else the first founder of the chain.

The ballot is governance's; here its register is read by its key alone, since the kernel judges every block by it.
A change takes effect from the block after the one that decided it.
"""

from __future__ import annotations

import cbor2

from yilian.errors import VerificationError
from yilian.ledger.members import Roster
from yilian.ledger.ports import State
from yilian.ledger.state import GOVERNANCE, decode_register, key_hash, register_key
from yilian.values import InstitutionId, institution_id

_VOTED = key_hash(register_key(GOVERNANCE, "sequencer"))
_ROSTER = key_hash(register_key(GOVERNANCE, Roster.word))


def sequencer_of(state: State) -> InstitutionId:
    """Name the member that may sign the next block after a committed state.

    Raises:
        VerificationError: the state names no member at all, so it holds no chain.
    """
    voted = state.get(_VOTED)
    if voted is not None:
        return institution_id(cbor2.loads(voted)[1][0])
    row = state.get(_ROSTER)
    members = () if row is None else decode_register(row, Roster).members
    if not members:
        raise VerificationError("the state lists no members, expected founders: open the store of a chain")
    return members[0]
