"""The vector of a snapshot: recomputed after the text of `spec/files.md`, and restored by the product."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import cbor2
import pytest

from yilian import canonical
from yilian.ledger.block import Genesis
from yilian.ledger.snapshot import Restoration, check_head, parse_manifest
from yilian.node.stores import NewStores
from yilian.values import digest

FILE = Path(__file__).parent.parent.parent / "spec" / "vectors" / "snapshot.json"


@pytest.fixture(scope="module")
def vector() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(FILE.read_text(encoding="utf-8"))
    return found


def _h(*parts: bytes) -> bytes:
    return hashlib.sha256(b"".join(parts)).digest()


def test_the_manifest_names_its_chunks_by_their_plain_hash(vector: dict[str, Any]) -> None:
    raw = bytes.fromhex(vector["manifest"])
    _, _, _, first_block, count, chunks = cbor2.loads(raw)
    data = [bytes.fromhex(chunk["bytes"]) for chunk in vector["chunks"]]
    assert _h(raw).hex() == vector["manifest_digest"]
    assert chunks == [[chunk["kind"], _h(one), len(one)] for chunk, one in zip(vector["chunks"], data, strict=True)]
    assert [kind for kind, _, _ in chunks] == [1, 2, 3, 4]
    assert (first_block, count) == (1, len(cbor2.loads(data[0])))


def test_the_app_hash_and_the_log_follow_from_the_chunks(vector: dict[str, Any]) -> None:
    _, _, head, *_ = cbor2.loads(bytes.fromhex(vector["manifest"]))
    _, _, _, app_hash, log_size, log_root, state_root, parameters_root = head
    rows, tiles, records, blocks = (cbor2.loads(bytes.fromhex(chunk["bytes"])) for chunk in vector["chunks"])
    one, two, three = (tiles[0][at : at + 32] for at in (0, 32, 64))
    keys = [_h(cbor2.loads(row)[0]) for row in rows]
    leaves = [cbor2.dumps(leaf) for item in records for leaf, _ in cbor2.loads(item)[1]]
    assert app_hash == _h(b"yilian/app/v1", log_size.to_bytes(8, "big"), log_root, state_root, parameters_root)
    assert app_hash.hex() == vector["app_hash"]
    assert log_root == _h(b"\x01", _h(b"\x01", one, two), three)
    assert [_h(b"\x00", leaf) for leaf in leaves] == [one, two, three]
    assert keys == sorted(set(keys))
    assert len(blocks) == head[0] == log_size == 3


def test_the_product_restores_it(vector: dict[str, Any], tmp_path: Path) -> None:
    genesis = canonical.decode(bytes.fromhex(vector["genesis"]), Genesis)
    manifest = parse_manifest(bytes.fromhex(vector["manifest"]))
    data = [bytes.fromhex(chunk["bytes"]) for chunk in vector["chunks"]]
    check_head(manifest, digest(bytes.fromhex(vector["app_hash"])))
    with NewStores(tmp_path, first_block=manifest.first_block) as stores:
        head = Restoration(manifest, genesis, data.__getitem__, stores).run()
        stores.finish(head)
    assert head.app_hash.hex() == vector["app_hash"]
    assert (tmp_path / "state" / "data.mdb").is_file()
