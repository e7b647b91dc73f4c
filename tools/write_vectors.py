"""Write `spec/vectors/*.json`: one small chain and one release, from fixed seeds, byte for byte the same each time.

What the product draws at random (nonces, one-time keys) is fixed here, so sealing and wrapping are written out a second
time after the text of `spec/`, with nothing but AES-GCM, X25519 and HMAC: the product must open what this makes.
After a release a vector is never changed: only new files are added.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import sys
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from yilian import canonical
from yilian.crypto import cose, merkle
from yilian.crypto.intl import Ed25519Signer
from yilian.crypto.suite import SuiteId, sha256, tagged_hash
from yilian.crypto.tags import entry_id, subject_tag
from yilian.ledger import envelope
from yilian.ledger.block import BlockHeader, Founder, Genesis, member_id, parse_block, seal_block, transactions_root
from yilian.ledger.log import LogProofs
from yilian.ledger.machine import Executed, Machine
from yilian.ledger.members import (
    Constitution,
    HeldBy,
    InstitutionKind,
    Key,
    Member,
    Parameter,
    Parameters,
    Role,
    Rule,
)
from yilian.ledger.registry import Registry
from yilian.ledger.replay import replay
from yilian.ledger.snapshot import FORMAT, Chunk, ChunkKind, Manifest, pack
from yilian.ledger.state import case_key, key_hash
from yilian.testing import proof_vectors
from yilian.testing.stores import MemoryState
from yilian.values import (
    DAY,
    HOUR,
    CaseId,
    InstitutionId,
    case_id,
    day_of,
    digest,
    month_of,
    op_id,
    public_key,
    unix_millis,
)
from yilian.workflows.audit.statements import statement_id, statement_leaf
from yilian.workflows.catalog.model import Origin, Publish, Withdraw
from yilian.workflows.consent.copies import copy_id
from yilian.workflows.registry import WORKFLOWS

FOLDER = Path(__file__).parent.parent / "spec" / "vectors"
START = unix_millis(1_767_225_600_000)
WORKFLOWS_OF_VECTORS = ("governance", "catalog")


def seed(name: str) -> bytes:
    """Give the 32 bytes that a name stands for in these vectors."""
    return hashlib.sha256(b"yilian vector " + name.encode()).digest()


# --------------------------------------------------------------------------------------------------------- the chain

CENTRE, HOSPITAL = (member_id(digest(seed(f"ca {name}"))) for name in ("centre", "hospital"))
GATEWAY = Ed25519Signer.from_seed(seed("gateway centre"))
OFFICER = Ed25519Signer.from_seed(seed("data officer centre"))


def _member(name: str, kind: InstitutionKind) -> Member:
    return Member(
        kind=kind,
        operator=member_id(digest(seed(f"ca {name}"))),
        name=name,
        legal_name=digest(seed(f"legal name {name}")),
        district="000000",
        grade="none",
        ca_fingerprint=digest(seed(f"ca {name}")),
        keys_digest=digest(bytes(32)),
        votes_from=unix_millis(0),
        expires=unix_millis(0),
        leaves_on=unix_millis(0),
    )


def _key(owner: InstitutionId, role: Role, signer: Ed25519Signer) -> Key:
    exchange = X25519PrivateKey.from_private_bytes(seed("exchange")).public_key().public_bytes_raw()
    return Key(
        owner=owner,
        role=role,
        suite=SuiteId.INTL,
        public_key=signer.public_key,
        exchange_key=public_key(exchange) if role == Role.NODE else None,
        held_by=HeldBy.NODE if role == Role.NODE else HeldBy.DEVICE,
        licence=None,
        valid_from=START,
        valid_until=unix_millis(START + 3650 * DAY),
        compromised_since=unix_millis(0),
    )


def genesis() -> Genesis:
    """Give the start of the chain of these vectors: two members, the workflows governance and catalog."""
    rule = Rule(
        action="member.admit",
        proposers=(),
        numerator=2,
        denominator=3,
        strict=False,
        delay=unix_millis(3 * DAY),
        voting_period=unix_millis(14 * DAY),
    )
    gateway = Ed25519Signer.from_seed(seed("gateway hospital"))
    return Genesis(
        version=1,
        name="vectors",
        time=START,
        suites=(SuiteId.INTL,),
        tree_depth=8,
        workflows=WORKFLOWS_OF_VECTORS,
        founders=(
            Founder(
                member=_member("centre", InstitutionKind.COMMUNITY_CENTRE),
                keys=(_key(CENTRE, Role.NODE, GATEWAY), _key(CENTRE, Role.DATA_OFFICER, OFFICER)),
            ),
            Founder(
                member=_member("hospital", InstitutionKind.HOSPITAL),
                keys=(_key(HOSPITAL, Role.NODE, gateway),),
            ),
        ),
        constitution=Constitution(version=1, rules=(rule,)),
        parameters=Parameters(items=(Parameter(name="catalog.kinds", number=0, words=("C0002", "C0007")),)),
    )


def machine(state: MemoryState) -> Machine:
    """Start the chain of the vectors over a store in memory."""
    enabled = [item for item in WORKFLOWS if item.name in WORKFLOWS_OF_VECTORS]
    return Machine(state, Registry(enabled), genesis())


def _core(command: object, word: str, case: CaseId, version: int, *, draw: str) -> bytes:
    return envelope.encode_core(
        envelope.Core(
            op_id=op_id(seed(draw)[:16]),
            workflow="catalog",
            command=word,
            case_id=case,
            case_version=version,
            refs=(),
            body=canonical.encode(command),
            claims_root=None,
        )
    )


def _block(running: Machine, operations: list[bytes]) -> tuple[bytes, Executed]:
    height, time = running.head.height + 1, unix_millis(running.head.time + 1_000)
    transaction = envelope.sign_transaction(
        operations, GATEWAY, chain=running.chain, actor=CENTRE, valid_until=unix_millis(time + HOUR)
    )
    header = BlockHeader(
        version=1,
        chain=running.chain,
        height=height,
        time=time,
        parent=running.head.block,
        transactions_root=transactions_root((transaction,)),
        app_hash=running.head.app_hash,
        proposer=CENTRE,
        key_id=GATEWAY.key_id,
    )
    executed = running.execute(height, time, header.digest, (transaction,), lambda _: 0)
    running.commit(executed)
    return seal_block(header, (transaction,), GATEWAY), executed


def chain_vector() -> dict[str, Any]:
    """Give a chain of three blocks: an entry published, the same refused at a stale version, the entry withdrawn."""
    state = MemoryState()
    running = machine(state)
    tag = subject_tag(seed("subject key"), 0)
    entry = entry_id(running.chain, CENTRE, tag)
    publish = Publish(
        tag=tag,
        root=digest(bytes.fromhex(seal_vector()["root"])),
        commitment=digest(seed("commitment")),
        size_class=8,
        kind="C0002",
        level=4,
        month=month_of(day_of(START)),
        origin=Origin.SYSTEM,
        late=False,
    )
    published = _core(publish, "catalog.publish", entry, 0, draw="op 1")
    again = _core(publish, "catalog.publish", entry, 0, draw="op 2")
    withdrawn = _core(Withdraw(), "catalog.withdraw", entry, 1, draw="op 3")
    person = envelope.sign_core(
        withdrawn,
        OFFICER,
        Role.DATA_OFFICER,
        chain=running.chain,
        actor=CENTRE,
        valid_until=unix_millis(START + 2 * HOUR),
    )
    before = running.head
    blocks = []
    for operations in (
        [envelope.encode_operation(published)],
        [envelope.encode_operation(again)],
        [envelope.encode_operation(withdrawn, (person,))],
    ):
        data, _ = _block(running, operations)
        blocks.append(_described(running, data))
    log = LogProofs(state.tile)
    row = state.get(key_hash(case_key(entry)))
    return {
        "genesis": canonical.encode(running.genesis).hex(),
        "chain": running.chain.hex(),
        "tree_depth": running.genesis.tree_depth,
        "head_0": _head(before),
        "actor": CENTRE.hex(),
        "gateway_public_key": GATEWAY.public_key.hex(),
        "gateway_key_id": GATEWAY.key_id.hex(),
        "person_public_key": OFFICER.public_key.hex(),
        "person_role": str(Role.DATA_OFFICER),
        "person_message": envelope.person_message(withdrawn, running.chain, CENTRE, person).hex(),
        "person_signature": person.signature.hex(),
        "subject_key": seed("subject key").hex(),
        "tag": tag.hex(),
        "entry": entry.hex(),
        "blocks": blocks,
        "inclusion": {"leaf": 0, "size": 3, "path": [node.hex() for node in log.inclusion_proof(0, 3)]},
        "consistency": {"old": 2, "size": 3, "path": [node.hex() for node in log.consistency_proof(2, 3)]},
        "present": {**_state_proof(running, case_key(entry)), "row": row.hex() if row else None},
        "absent": _state_proof(running, case_key(case_id(seed("nobody")))),
    }


def snapshot_vector() -> dict[str, Any]:
    """Give the snapshot of the chain vector's newest block: `spec/files.md`, Snapshot."""
    state = MemoryState()
    running = machine(state)
    blocks = [bytes.fromhex(block["block"]) for block in chain_vector()["blocks"]]
    for block in blocks:
        running.commit(replay(running, block))
    head = running.head
    rows = [row for _, row in state.scan(b"", None)]
    parts = (
        (ChunkKind.ROWS, rows),
        (ChunkKind.LEAF_HASHES, [state.tile(0, 0) or b""]),
        (ChunkKind.RECORDS, [state.leaves(height) or b"" for height in range(1, head.height + 1)]),
        (ChunkKind.BLOCKS, blocks),
    )
    packed = [(kind, data) for kind, items in parts for data in pack(items)]
    manifest = Manifest(
        version=FORMAT,
        chain=running.chain,
        head=head,
        first_block=1,
        rows=len(rows),
        chunks=tuple(Chunk(kind=kind, digest=sha256(data), size=len(data)) for kind, data in packed),
    )
    return {
        "genesis": canonical.encode(running.genesis).hex(),
        "manifest": canonical.encode(manifest).hex(),
        "manifest_digest": manifest.digest.hex(),
        "app_hash": head.app_hash.hex(),
        "chunks": [{"kind": int(kind), "bytes": data.hex()} for kind, data in packed],
    }


def _state_proof(running: Machine, natural_key: bytes) -> dict[str, Any]:
    tree, stored = running._tree, running._stored_bucket  # noqa: SLF001 - the machine has no face for proofs yet
    proof = tree.prove(key_hash(natural_key), stored)
    return {
        "natural_key": natural_key.hex(),
        "count": proof.count,
        "bucket_root": proof.bucket_root.hex(),
        "rows": [
            [row.index, row.key_hash.hex(), row.value_hash.hex(), [node.hex() for node in row.path]]
            for row in proof.rows
        ],
        "siblings": [node.hex() for node in proof.siblings],
    }


def _described(running: Machine, data: bytes) -> dict[str, Any]:
    header, block = parse_block(data)
    (record,) = running.records(header.height)
    return {
        "block": data.hex(),
        "header_digest": header.digest.hex(),
        "transaction": block.transactions[0].hex(),
        "leaf": canonical.encode(record.leaf).hex(),
        "leaf_hash": merkle.leaf_hash(canonical.encode(record.leaf)).hex(),
        "result": [list(one) for one in record.leaf.result],
        "rows": [row.hex() for row in record.rows],
        "head": _head(running.head),
    }


def _head(head: Any) -> dict[str, Any]:  # noqa: ANN401 - a Head
    return {
        "height": head.height,
        "time": head.time,
        "log_size": head.log_size,
        "log_root": head.log_root.hex(),
        "state_root": head.state_root.hex(),
        "parameters_root": head.parameters_root.hex(),
        "app_hash": head.app_hash.hex(),
    }


# -------------------------------------------------------------------------------- sealing and release, written again


def frame(tag: str, *parts: bytes) -> bytes:
    """Join a tag and parts, each after its 8-byte length."""
    return tag.encode() + b"".join(len(part).to_bytes(8, "big") + part for part in parts)


def hkdf(secret: bytes, info: bytes, *, salt: bytes = bytes(32)) -> bytes:
    """RFC 5869, HKDF-SHA256, one block."""
    extracted = hmac.digest(salt, secret, "sha256")
    return hmac.digest(extracted, info + b"\x01", "sha256")


def padme(length: int) -> int:
    """Give the padded size (Padmé)."""
    if length < 2:
        return length
    exponent = length.bit_length() - 1
    free = exponent - exponent.bit_length()
    return (length + (1 << free) - 1) >> free << free


def seal_vector() -> dict[str, Any]:
    """Give a record of 2,500 bytes sealed in segments of 1 KiB."""
    plaintext = (b"0123456789abcdef" * 157)[:2500]
    key, prefix, size = seed("data key"), seed("nonce prefix")[:7], 1024
    padded = padme(len(plaintext))
    fields = canonical.encode([1, 1, size, padded, prefix])
    cipher = AESGCM(key)
    nonce = prefix + bytes(4) + b"\x02"
    length = cipher.encrypt(nonce, len(plaintext).to_bytes(8, "big"), frame("yilian/true-length/v1", fields))
    check = hkdf(key, frame("yilian/key-check/v1", fields, length))
    header = canonical.encode([1, 1, size, padded, prefix, length, check])
    padded_text = plaintext.ljust(padded, b"\0")
    pieces = [padded_text[start : start + size] for start in range(0, padded, size)]
    segments = [
        cipher.encrypt(prefix + index.to_bytes(4, "big") + bytes((index == len(pieces) - 1,)), piece, header)
        for index, piece in enumerate(pieces)
    ]
    root = merkle.root([merkle.leaf_hash(part) for part in (header, *segments)])
    salt, entry = seed("salt"), digest(seed("entry"))
    chain, custodian = digest(seed("some chain")), CENTRE
    commitment = hashlib.sha256(frame("yilian/record/v1", chain, custodian, entry, salt) + plaintext).hexdigest()
    return {
        "plaintext": plaintext.hex(),
        "data_key": key.hex(),
        "header": header.hex(),
        "segments": [segment.hex() for segment in segments],
        "blob": (len(header).to_bytes(4, "big") + header + b"".join(segments)).hex(),
        "padded_size": padded,
        "size_class": max(0, padded - 1).bit_length(),
        "root": root.hex(),
        "chain": chain.hex(),
        "custodian": custodian.hex(),
        "entry": entry.hex(),
        "salt": salt.hex(),
        "commitment": commitment,
    }


def message_vector() -> dict[str, Any]:
    """Give a message M over the record of `seal_vector`, the mask, and the one-time key that opens both."""
    sealed = seal_vector()
    key, mask, salt = seed("data key"), seed("mask"), seed("salt")
    chain, entry, root = (digest(bytes.fromhex(sealed[name])) for name in ("chain", "entry", "root"))
    commitment = digest(bytes.fromhex(sealed["commitment"]))
    physician = Ed25519Signer.from_seed(seed("physician hospital"))
    grant = digest(seed("grant"))
    one_time = X25519PrivateKey.from_private_bytes(seed("one-time key"))
    parties = (chain, CENTRE, HOSPITAL, physician.key_id, grant, entry, root, commitment, b"\x01")
    info = frame("yilian/release/v1", *parties)
    pad = hkdf(mask, frame("yilian/mask/v1", entry))
    masked = bytes(one ^ other for one, other in zip(key, pad, strict=True))
    wrapped = _hpke_seal(one_time.public_key(), seed("ephemeral key"), masked, info)
    slip = canonical.encode([salt, 5, ["PSY"], "application/fhir+json", 2500])
    slip_key, nonce = hkdf(key, frame("yilian/slip/v1", info)), seed("slip nonce")[:12]
    sealed_slip = b"\x01" + nonce + AESGCM(slip_key).encrypt(nonce, slip, info)
    payload = canonical.encode(
        [
            1,
            chain,
            CENTRE,
            GATEWAY.key_id,
            HOSPITAL,
            physician.key_id,
            grant,
            one_time.public_key().public_bytes_raw(),
            [[[entry, root, commitment, wrapped], sealed_slip]],
        ]
    )
    signed = canonical.encode(cose.sign1(payload, b"yilian/message/v1", GATEWAY))
    return {
        "message": signed.hex(),
        "message_hash": tagged_hash("yilian/message/v1", signed).hex(),
        "gateway_public_key": GATEWAY.public_key.hex(),
        "chain": chain.hex(),
        "custodian": CENTRE.hex(),
        "recipient": HOSPITAL.hex(),
        "person": physician.key_id.hex(),
        "grant": grant.hex(),
        "entry": entry.hex(),
        "root": root.hex(),
        "commitment": commitment.hex(),
        "one_time_private_key": seed("one-time key").hex(),
        "one_time_public_key": one_time.public_key().public_bytes_raw().hex(),
        "mask": mask.hex(),
        "data_key": key.hex(),
        "slip": {
            "salt": salt.hex(),
            "level": 5,
            "sensitivity": ["PSY"],
            "content_type": "application/fhir+json",
            "true_size": 2500,
        },
    }


def _hpke_seal(recipient: X25519PublicKey, ephemeral: bytes, plaintext: bytes, info: bytes) -> bytes:
    """RFC 9180, base mode, DHKEM(X25519, HKDF-SHA256), HKDF-SHA256, AES-256-GCM, with a given ephemeral key."""
    private = X25519PrivateKey.from_private_bytes(ephemeral)
    enc = private.public_key().public_bytes_raw()
    kem, suite = b"KEM\x00\x20", b"HPKE\x00\x20\x00\x01\x00\x02"

    def extract(of: bytes, salt: bytes, label: bytes, secret: bytes) -> bytes:
        return hmac.digest(salt or bytes(32), b"HPKE-v1" + of + label + secret, "sha256")

    def expand(of: bytes, secret: bytes, label: bytes, context: bytes, *, length: int) -> bytes:
        labelled = length.to_bytes(2, "big") + b"HPKE-v1" + of + label + context
        return hmac.digest(secret, labelled + b"\x01", "sha256")[:length]

    shared = extract(kem, b"", b"eae_prk", private.exchange(recipient))
    shared = expand(kem, shared, b"shared_secret", enc + recipient.public_bytes_raw(), length=32)
    psk_id_hash = extract(suite, b"", b"psk_id_hash", b"")
    context = b"\x00" + psk_id_hash + extract(suite, b"", b"info_hash", info)
    secret = extract(suite, shared, b"secret", b"")
    key = expand(suite, secret, b"key", context, length=32)
    nonce = expand(suite, secret, b"base_nonce", context, length=12)
    return enc + AESGCM(key).encrypt(nonce, plaintext, b"")


def canonical_vector() -> dict[str, Any]:
    """Give bytes that are the one form of a value, and bytes that a decoder refuses."""
    values: list[Any] = [0, 23, 24, 255, 256, 65535, 65536, 2**63 - 1, -1, "", "转诊", b"", b"\x00", [], [1, [2]], None]
    refused = {
        "1800": "zero in two bytes",
        "f93c00": "a float",
        "c101": "a tag",
        "9f01ff": "an array of indefinite length",
        "a2616101616101": "a key twice",
        "0000": "a byte behind the value",
        "62c328": "text that is no UTF-8",
        "8201": "an array cut short",
    }
    return {
        "encoded": [{"bytes": canonical.encode(value).hex(), "value": _plain(value)} for value in values],
        "refused": [{"bytes": data, "why": why} for data, why in refused.items()],
    }


def statement_vector() -> dict[str, Any]:
    """Give a daily statement of three events with the path of the second, and the id of an answer for a copy."""
    chain, entry, day = digest(seed("chain")), case_id(seed("entry")), 20_000
    lines = [(number, case_id(seed(f"pair {number}")), digest(seed(f"event {number}"))) for number in (7, 8, 9)]
    leaves = [statement_leaf(*line) for line in lines]
    return {
        "chain": chain.hex(),
        "institution": HOSPITAL.hex(),
        "day": day,
        "statement": statement_id(chain, HOSPITAL, day).hex(),  # type: ignore[arg-type]  # a day is an integer
        "lines": [{"number": number, "pair": pair.hex(), "event": event.hex()} for number, pair, event in lines],
        "leaves": [leaf.hex() for leaf in leaves],
        "root": merkle.root(leaves).hex(),
        "path_of_second": [one.hex() for one in merkle.inclusion_proof(leaves, 1)],
        "entry": entry.hex(),
        "copy": copy_id(chain, entry, HOSPITAL).hex(),
    }


def _plain(value: Any) -> Any:  # noqa: ANN401 - a builtin
    return {"hex": value.hex()} if isinstance(value, bytes) else value


def vectors() -> dict[str, dict[str, Any]]:
    """Give every file's content."""
    return {
        "canonical": canonical_vector(),
        "chain": chain_vector(),
        "seal": seal_vector(),
        "message": message_vector(),
        "proofs": proof_vectors.vector(),
        "statement": statement_vector(),
        "snapshot": snapshot_vector(),
    }


def text(content: dict[str, Any]) -> str:
    """Give the file form of a vector."""
    return json.dumps(content, ensure_ascii=False, indent=2) + "\n"


def main() -> int:
    """Write every file."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name, content in vectors().items():
        (FOLDER / f"{name}.json").write_text(text(content), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
