"""The vectors of `spec/`: recomputed here after the text of the specification, and read by the product."""

from __future__ import annotations

import hashlib
import hmac
import importlib.util
import io
import json
from pathlib import Path
from types import ModuleType
from typing import Any

import cbor2
import pytest

from yilian import canonical
from yilian.crypto import cose, merkle, seal
from yilian.crypto.commitment import record_commitment
from yilian.crypto.suite import SuiteId, verify
from yilian.crypto.tags import entry_id, subject_tag
from yilian.errors import VerificationError
from yilian.ledger.block import Genesis, parse_block, verify_block
from yilian.ledger.envelope import parse
from yilian.ledger.machine import Machine
from yilian.ledger.registry import Registry
from yilian.ledger.replay import replay
from yilian.ledger.tree import ProvenRow, StateProof, verify_state
from yilian.testing.stores import MemoryState
from yilian.values import case_id, digest, institution_id, key_id, public_key
from yilian.workflows.consent.message import Listed, Slip, Terms, check_message, message_hash, open_item
from yilian.workflows.registry import WORKFLOWS

ROOT = Path(__file__).parent.parent.parent
FOLDER = ROOT / "spec" / "vectors"

Vector = dict[str, Any]


def _load(name: str) -> Vector:
    found: Vector = json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))
    return found


def _writer() -> ModuleType:
    spec = importlib.util.spec_from_file_location("write_vectors", ROOT / "tools" / "write_vectors.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _hex(vector: Vector, name: str) -> bytes:
    return bytes.fromhex(vector[name])


def _h(*parts: bytes) -> bytes:
    return hashlib.sha256(b"".join(parts)).digest()


def _frame(tag: str, *parts: bytes) -> bytes:
    return tag.encode() + b"".join(len(part).to_bytes(8, "big") + part for part in parts)


@pytest.fixture(scope="module")
def chain() -> Vector:
    return _load("chain")


@pytest.fixture(scope="module")
def sealed() -> Vector:
    return _load("seal")


@pytest.fixture(scope="module")
def message() -> Vector:
    return _load("message")


def test_the_files_are_what_the_tool_writes() -> None:
    writer = _writer()
    written = {name: (FOLDER / f"{name}.json").read_text(encoding="utf-8") for name in writer.vectors()}
    assert written == {name: writer.text(content) for name, content in writer.vectors().items()}


@pytest.mark.parametrize("case", _load("canonical")["encoded"], ids=lambda case: case["bytes"][:16] or "empty")
def test_a_value_has_one_byte_form(case: Vector) -> None:
    value = case["value"]
    expected = bytes.fromhex(value["hex"]) if isinstance(value, dict) else value
    assert canonical.decode_builtins(bytes.fromhex(case["bytes"])) == expected
    assert canonical.encode(expected).hex() == case["bytes"]


@pytest.mark.parametrize("case", _load("canonical")["refused"], ids=lambda case: case["why"])
def test_other_byte_forms_are_refused(case: Vector) -> None:
    with pytest.raises(VerificationError):
        canonical.decode(bytes.fromhex(case["bytes"]), list[int])


def test_the_chain_id_is_the_digest_of_the_genesis(chain: Vector) -> None:
    assert _h(_frame("yilian/genesis/v1", _hex(chain, "genesis"))).hex() == chain["chain"]


def test_an_entry_id_follows_from_chain_custodian_and_tag(chain: Vector) -> None:
    tag = hmac.digest(_hex(chain, "subject_key"), bytes(8), "sha256")
    assert tag.hex() == chain["tag"] == subject_tag(_hex(chain, "subject_key"), 0).hex()
    assert _h(_frame("yilian/entry/v1", _hex(chain, "chain"), _hex(chain, "actor"), tag)).hex() == chain["entry"]
    found = entry_id(digest(_hex(chain, "chain")), institution_id(_hex(chain, "actor")), digest(tag))
    assert found.hex() == chain["entry"]


@pytest.mark.parametrize("index", [0, 1, 2], ids=["published", "refused", "withdrawn"])
def test_a_transaction_is_signed_over_the_root_of_its_operations(chain: Vector, index: int) -> None:
    raw = _hex(chain["blocks"][index], "transaction")
    (protected, unprotected, payload, signature), operations = cbor2.loads(raw)
    version, chain_id, actor, key, _, count, root = cbor2.loads(payload)
    signed = cbor2.dumps(["Signature1", protected, b"yilian/tx/v1", payload])
    assert (version, protected, unprotected, count) == (1, b"\xa1\x01\x27", {}, 1)
    assert (chain_id, actor) == (_hex(chain, "chain"), _hex(chain, "actor"))
    assert key == _h(b"yilian/key/v1", b"\x01", _hex(chain, "gateway_public_key"))
    assert root == _h(b"\x00", operations[0])
    assert verify(SuiteId.INTL, _hex(chain, "gateway_public_key"), signed, signature)


def test_a_person_signs_the_core_with_chain_actor_key_role_and_validity(chain: Vector) -> None:
    _, (operation,) = cbor2.loads(_hex(chain["blocks"][2], "transaction"))
    core, ((key, role, valid_until, signature),) = cbor2.loads(operation)
    signed = cbor2.dumps(["yilian/person/v1", _hex(chain, "chain"), _hex(chain, "actor"), key, role, valid_until, core])
    assert signed.hex() == chain["person_message"]
    assert (role, signature.hex()) == (chain["person_role"], chain["person_signature"])
    assert verify(SuiteId.INTL, _hex(chain, "person_public_key"), signed, signature)


def test_the_results_are_done_refused_with_a_number_and_done(chain: Vector) -> None:
    assert [block["result"] for block in chain["blocks"]] == [[], [["kernel", 5]], []]


@pytest.mark.parametrize("index", [0, 1, 2])
def test_a_leaf_names_operation_result_and_changes(chain: Vector, index: int) -> None:
    vector = chain["blocks"][index]
    _, (operation,) = cbor2.loads(_hex(vector, "transaction"))
    rows = [bytes.fromhex(row) for row in vector["rows"]]
    pairs = sorted((_h(cbor2.loads(row)[0]), _h(row)) for row in rows)
    height, time, actor, op, found, result, changes, claims = cbor2.loads(_hex(vector, "leaf"))
    assert (height, time) == (vector["head"]["height"], vector["head"]["time"])
    assert actor == _hex(chain, "actor")
    assert op == cbor2.loads(cbor2.loads(operation)[0])[0]
    assert found == _h(b"\x00", operation)
    assert result == vector["result"]
    assert changes == _h(b"yilian/changes/v1", *[key + value for key, value in pairs])
    assert claims is None
    assert _h(b"\x00", _hex(vector, "leaf")).hex() == vector["leaf_hash"]


def test_the_app_hash_binds_log_state_and_parameters(chain: Vector) -> None:
    heads = [chain["head_0"], *[block["head"] for block in chain["blocks"]]]
    found = [
        _h(
            b"yilian/app/v1",
            head["log_size"].to_bytes(8, "big"),
            _hex(head, "log_root"),
            _hex(head, "state_root"),
            _hex(head, "parameters_root"),
        ).hex()
        for head in heads
    ]
    assert found == [head["app_hash"] for head in heads]


def test_the_blocks_replay_to_the_same_heads(chain: Vector) -> None:
    genesis = canonical.decode(_hex(chain, "genesis"), Genesis)
    registry = Registry([item for item in WORKFLOWS if item.name in genesis.workflows])
    machine = Machine(MemoryState(), registry, genesis)
    heads = [machine.head.app_hash.hex()]
    for vector in chain["blocks"]:
        machine.commit(replay(machine, _hex(vector, "block")))
        heads.append(machine.head.app_hash.hex())
        assert machine.head.block.hex() == vector["header_digest"]
    assert heads == [chain["head_0"]["app_hash"], *[block["head"]["app_hash"] for block in chain["blocks"]]]


def test_a_block_is_signed_by_its_proposer(chain: Vector) -> None:
    header, block = parse_block(_hex(chain["blocks"][0], "block"))
    assert verify_block(block, _hex(chain, "gateway_public_key"))
    assert header.parent == _hex(chain, "chain")
    assert header.app_hash.hex() == chain["head_0"]["app_hash"]


def test_the_product_parses_what_the_vector_signs(chain: Vector) -> None:
    genesis = canonical.decode(_hex(chain, "genesis"), Genesis)
    registry = Registry([item for item in WORKFLOWS if item.name in genesis.workflows])
    envelope = parse(_hex(chain["blocks"][0], "transaction"), registry.command_types)
    assert [operation.core.command for operation in envelope.operations] == ["catalog.publish"]


def test_a_leaf_proves_its_place_and_the_log_its_growth(chain: Vector) -> None:
    leaves = [_hex(block, "leaf_hash") for block in chain["blocks"]]
    newest = chain["blocks"][2]["head"]
    path = [bytes.fromhex(node) for node in chain["inclusion"]["path"]]
    assert path == [leaves[1], leaves[2]]
    assert _h(b"\x01", _h(b"\x01", leaves[0], leaves[1]), leaves[2]).hex() == newest["log_root"]
    assert merkle.verify_inclusion(leaves[0], 0, 3, path, _hex(newest, "log_root"))
    growth = [bytes.fromhex(node) for node in chain["consistency"]["path"]]
    old = _hex(chain["blocks"][1]["head"], "log_root")
    assert merkle.verify_consistency(2, 3, growth, old, _hex(newest, "log_root"))


@pytest.mark.parametrize("name", ["present", "absent"])
def test_a_state_proof_shows_presence_and_absence(chain: Vector, name: str) -> None:
    vector = chain[name]
    rows = tuple(
        ProvenRow(
            index=index,
            key_hash=digest(bytes.fromhex(key)),
            value_hash=digest(bytes.fromhex(value)),
            path=tuple(digest(bytes.fromhex(node)) for node in path),
        )
        for index, key, value, path in vector["rows"]
    )
    siblings = tuple(digest(bytes.fromhex(node)) for node in vector["siblings"])
    bucket_root = digest(_hex(vector, "bucket_root"))
    key = _h(_hex(vector, "natural_key"))
    value = _h(bytes.fromhex(vector["row"])) if "row" in vector else None
    root = _hex(chain["blocks"][2]["head"], "state_root")
    proof = StateProof(count=vector["count"], bucket_root=bucket_root, rows=rows, siblings=siblings)
    assert verify_state(proof, key, value, root)
    assert _state_root(vector["count"], bucket_root, siblings, key) == root


def _state_root(count: int, bucket_root: bytes, siblings: tuple[bytes, ...], key: bytes) -> bytes:
    node = _h(b"\x02", count.to_bytes(8, "big"), bucket_root) if count else _h(b"yilian/empty-bucket/v1")
    index = int.from_bytes(key, "big") >> (256 - len(siblings))
    for sibling in siblings:
        node = _h(b"\x01", sibling, node) if index & 1 else _h(b"\x01", node, sibling)
        index >>= 1
    return node


def test_a_sealed_record_opens_under_its_key_and_root(sealed: Vector) -> None:
    opened = seal.open_bytes(_hex(sealed, "blob"), _hex(sealed, "data_key"), _hex(sealed, "root"))
    assert opened.hex() == sealed["plaintext"]
    assert seal.root_of_blob(io.BytesIO(_hex(sealed, "blob"))).hex() == sealed["root"]
    assert seal.padded_size(len(opened)) == sealed["padded_size"]
    assert seal.size_class(sealed["padded_size"]) == sealed["size_class"]


def test_a_sealed_record_does_not_open_under_another_key(sealed: Vector) -> None:
    with pytest.raises(VerificationError, match="key check"):
        seal.open_bytes(_hex(sealed, "blob"), bytes(32), _hex(sealed, "root"))


def test_the_commitment_is_over_the_bytes_as_received(sealed: Vector) -> None:
    commitment = record_commitment(
        digest(_hex(sealed, "chain")),
        institution_id(_hex(sealed, "custodian")),
        case_id(_hex(sealed, "entry")),
        _hex(sealed, "salt"),
    )
    commitment.update(_hex(sealed, "plaintext"))
    assert commitment.digest().hex() == sealed["commitment"]


def test_a_message_is_checked_before_and_opened_after_the_mask(message: Vector) -> None:
    terms = Terms(
        chain=digest(_hex(message, "chain")),
        custodian=institution_id(_hex(message, "custodian")),
        recipient=institution_id(_hex(message, "recipient")),
        person=key_id(_hex(message, "person")),
        grant=case_id(_hex(message, "grant")),
        one_time_key=public_key(_hex(message, "one_time_public_key")),
    )
    listed = Listed(
        entry=case_id(_hex(message, "entry")),
        root=digest(_hex(message, "root")),
        commitment=digest(_hex(message, "commitment")),
    )
    signed = _hex(message, "message")
    parsed = check_message(signed, _hex(message, "gateway_public_key"), terms, (listed,))
    opened = open_item(parsed, parsed.items[0], _hex(message, "one_time_private_key"), _hex(message, "mask"))
    slip = message["slip"]
    assert opened.data_key.hex() == message["data_key"]
    assert opened.slip == Slip(
        salt=bytes.fromhex(slip["salt"]),
        level=slip["level"],
        sensitivity=tuple(slip["sensitivity"]),
        content_type=slip["content_type"],
        true_size=slip["true_size"],
    )
    assert message_hash(signed).hex() == message["message_hash"]
    assert _h(_frame("yilian/message/v1", signed)).hex() == message["message_hash"]
    assert canonical.decode(signed, cose.Sign1).protected == b"\xa1\x01\x27"


def test_a_daily_statement_is_a_tree_over_its_lines() -> None:
    stated = _load("statement")
    chain_id, institution = _hex(stated, "chain"), _hex(stated, "institution")
    lines = [cbor2.dumps([one["number"], _hex(one, "pair"), _hex(one, "event")]) for one in stated["lines"]]
    first, second, third = (_h(b"\x00", line) for line in lines)
    assert stated["leaves"] == [first.hex(), second.hex(), third.hex()]
    assert _h(b"\x01", _h(b"\x01", first, second), third).hex() == stated["root"]
    assert stated["path_of_second"] == [first.hex(), third.hex()]
    day = stated["day"].to_bytes(8, "big")
    assert _h(_frame("yilian/statement/v1", chain_id, institution, day)).hex() == stated["statement"]
    assert _h(_frame("yilian/copy/v1", chain_id, _hex(stated, "entry"), institution)).hex() == stated["copy"]
