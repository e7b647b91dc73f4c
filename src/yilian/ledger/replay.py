"""Blocks as others read them: checked against the chain so far, then executed again."""

from __future__ import annotations

from yilian.errors import VerificationError
from yilian.ledger.block import Block, BlockHeader, parse_block, verify_block
from yilian.ledger.envelope import TransactionCode
from yilian.ledger.machine import Executed, Machine
from yilian.ledger.members import Role, is_valid
from yilian.ledger.results import Verified
from yilian.ledger.state import Directory
from yilian.values import InstitutionId, KeyId, PublicKey, UnixMillis


def proposer_key(directory: Directory, proposer: InstitutionId, key_id: KeyId, time: UnixMillis) -> PublicKey | None:
    """Find the public key with which a member may sign a block, None where it is no valid gateway key of the member."""
    key = directory.key(key_id)
    if key is None or key.fields.owner != proposer or key.fields.role != Role.NODE:
        return None
    return key.fields.public_key if is_valid(key.fields, key.state, time) else None


def replay(machine: Machine, data: bytes) -> Executed:
    """Check the next block and execute it again; `commit` or `discard` what it gives.

    Raises:
        VerificationError: malformed, not the next block of this chain, not signed by a valid gateway key of the chain's
            sequencer, made on another state than this one, or it holds a transaction that may not enter a block.
    """
    return replay_parsed(machine, *parse_block(data), lambda _: 0)


def replay_parsed(machine: Machine, header: BlockHeader, block: Block, verified: Verified) -> Executed:
    """Do as `replay` with a block that `parse_block` gave; `verified` says what of each transaction was checked."""
    _check_place(machine, header)
    _check_proposer(machine, header, block)
    executed = machine.execute(header.height, header.time, header.digest, block.transactions, verified)
    for index, result in enumerate(executed.results):
        if result.code != TransactionCode.OK:
            machine.discard(executed)
            raise VerificationError(
                f"block {header.height} holds transaction {index} of code {result.code.name} ({result.message}), "
                "expected only valid ones: its proposer broke the rules, keep it as evidence"
            )
    return executed


def _check_proposer(machine: Machine, header: BlockHeader, block: Block) -> None:
    sequencer = machine.sequencer()
    if header.proposer != sequencer:
        raise VerificationError(
            f"block {header.height} is proposed by {header.proposer.hex()}, expected the sequencer {sequencer.hex()}: "
            "keep it as evidence, and fetch the block from the sequencer"
        )
    public_key = proposer_key(machine.directory(), header.proposer, header.key_id, header.time)
    if public_key is None or not verify_block(block, public_key):
        raise VerificationError(
            f"block {header.height} is not signed by a valid gateway key of {header.proposer.hex()}: "
            "fetch it from another member"
        )


def _check_place(machine: Machine, header: BlockHeader) -> None:
    head = machine.head
    comparisons: tuple[tuple[str, bytes | int, bytes | int], ...] = (
        ("chain", header.chain, machine.chain),
        ("height", header.height, head.height + 1),
        ("parent", header.parent, head.block),
        ("app_hash", header.app_hash, head.app_hash),
    )
    for name, one, other in comparisons:
        if one != other:
            raise VerificationError(
                f"block {header.height} says {name} {_show(one)}, expected {_show(other)}: "
                "run `yilian node check`, then fetch the blocks from another member"
            )
    if header.time < head.time:
        raise VerificationError(
            f"block {header.height} is at {header.time}, before block {head.height} at {head.time}: "
            "fetch it from another member"
        )


def _show(value: bytes | int) -> str:
    return value.hex() if isinstance(value, bytes) else str(value)
