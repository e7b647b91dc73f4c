"""Rows proven together: a law over any rows, and every way to bend what is shown."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from yilian import canonical
from yilian.client.verify import verify_receipt
from yilian.crypto.suite import sha256
from yilian.errors import VerificationError
from yilian.ledger.multiproof import AbsentRow, Neighbour, Shown, ShownRow, join, pack, root_of, unpack
from yilian.ledger.receipt import parse_receipt
from yilian.ledger.tree import StateTree
from yilian.values import digest, unix_millis

replace = msgspec.structs.replace
DEPTH = 8
NAMES = st.integers(0, 400).map(lambda number: b"row %d" % number)


def shown(names: set[bytes], present: list[bytes], absent: bytes | None) -> tuple[Shown, list[bytes], bytes]:
    """Build a state of rows (a row's bytes are its name) and show some of them."""
    leaves = sorted((sha256(name), sha256(name)) for name in names)
    tree = StateTree.build(DEPTH, leaves)

    def stored(index: int) -> list[tuple[bytes, bytes]]:
        return [leaf for leaf in leaves if tree.bucket(leaf[0]) == index]

    keys = sorted(sha256(name) for name in present)
    by_key: Mapping[bytes, bytes] = {sha256(name): name for name in present}
    proofs = {key: tree.prove(key, stored) for key in keys}
    rows = tuple(
        ShownRow(
            row=by_key[key],
            count=proofs[key].count,
            index=proofs[key].rows[0].index,
            path=pack(proofs[key].rows[0].path),
        )
        for key in keys
    )
    missing: tuple[AbsentRow, ...] = ()
    if absent is not None:
        proof = proofs[sha256(absent)] = tree.prove(sha256(absent), stored)
        neighbours = tuple(
            Neighbour(key_hash=row.key_hash, value_hash=row.value_hash, index=row.index, path=pack(row.path))
            for row in proof.rows
        )
        missing = (AbsentRow(natural_key=absent, count=proof.count, neighbours=neighbours),)
    state = Shown(depth=DEPTH, present=rows, absent=missing, siblings=join(DEPTH, proofs))
    return state, [bytes(key) for key in keys], tree.root


@given(st.sets(NAMES, min_size=1, max_size=300), st.data())
def test_rows_shown_together_lead_to_the_root(names: set[bytes], data: st.DataObject) -> None:
    present = data.draw(st.lists(st.sampled_from(sorted(names)), unique=True, max_size=12))
    absent = data.draw(st.none() | NAMES.filter(lambda name: name not in names))
    if not present and absent is None:
        present = sorted(names)[:1]
    state, keys, root = shown(names, present, absent)
    assert root_of(state, keys) == root
    assert len(state.siblings) <= 32 * DEPTH * (len(present) + (absent is not None))


@given(st.sets(NAMES, min_size=3, max_size=300), st.data())
def test_a_bent_bit_leads_to_another_root_or_to_none(names: set[bytes], data: st.DataObject) -> None:
    present = data.draw(st.lists(st.sampled_from(sorted(names)), unique=True, min_size=1, max_size=3))
    absent = data.draw(NAMES.filter(lambda name: name not in names))
    state, _, root = shown(names, present, absent)
    encoded = canonical.encode(state)
    bit = data.draw(st.integers(0, 8 * len(encoded) - 1))
    bent = bytearray(encoded)
    bent[bit // 8] ^= 1 << bit % 8
    try:
        other = canonical.decode(bytes(bent), Shown)
        keys_of_bent = [sha256(row.row) for row in other.present]
        found = root_of(other, keys_of_bent)
    except VerificationError:
        return
    named = other.absent[0].natural_key
    # another name may be absent at the same place, and truthfully so
    assert found != root or (named != absent and named not in names)


NAMED = {b"row %d" % number for number in range(600)}
"""About two rows a bucket."""


def crowded() -> tuple[bytes, AbsentRow, Shown, bytes]:
    """Find an absent row between two neighbours."""
    for number in range(1_000, 9_000):
        name = b"row %d" % number
        state, _, root = shown(NAMED, [], name)
        if len(state.absent[0].neighbours) == 2:
            return name, state.absent[0], state, root
    raise AssertionError("no crowded bucket")


@pytest.mark.parametrize("bend", ["one", "none", "count", "order", "far", "key", "index", "other bucket"])
def test_an_absence_whose_neighbours_are_none_is_refused(bend: str) -> None:
    _, absent, state, root = crowded()
    left, right = absent.neighbours
    bent = {
        "one": replace(absent, neighbours=(left,)),
        "none": replace(absent, neighbours=()),
        "count": replace(absent, count=absent.count + 1),
        "order": replace(absent, neighbours=(right, left)),
        "far": replace(absent, neighbours=(left, replace(right, index=right.index + 1))),
        "key": replace(absent, neighbours=(replace(left, key_hash=digest(sha256(absent.natural_key))), right)),
        "index": replace(absent, neighbours=(replace(left, index=absent.count), right)),
        "other bucket": replace(absent, neighbours=(left, replace(right, key_hash=digest(b"\xff" * 32)))),
    }[bend]
    try:
        found = root_of(replace(state, absent=(bent,)), [])
    except VerificationError:
        return
    assert found != root


def test_an_empty_bucket_with_neighbours_or_rows_without_is_refused() -> None:
    _, absent, state, _ = crowded()
    for bent in (replace(absent, count=0), replace(absent, neighbours=())):
        with pytest.raises(VerificationError, match="not the neighbours"):
            root_of(replace(state, absent=(bent,)), [])


def test_two_rows_that_say_other_things_of_one_bucket_are_refused() -> None:
    _, absent, state, _ = crowded()
    left, right = absent.neighbours
    other = replace(absent, neighbours=(left, replace(right, value_hash=digest(bytes(32)))))
    with pytest.raises(VerificationError, match="say other things"):
        root_of(replace(state, absent=(other,)), [])


@pytest.mark.parametrize(("size", "said"), [(-32, "missing"), (32, "too few or too many"), (-1, "multiple of 32")])
def test_too_few_or_too_many_siblings_are_refused(size: int, said: str) -> None:
    state, keys, _ = shown(NAMED, [b"row 1"], None)
    siblings = state.siblings[:size] if size < 0 else state.siblings + bytes(size)
    with pytest.raises(VerificationError, match=said):
        root_of(replace(state, siblings=siblings), keys)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"path": bytes(32 * 9)}, "too long"),
        ({"path": b"", "count": 2}, "too short"),
        ({"index": 9, "count": 2}, "expected one below"),
    ],
)
def test_a_path_of_another_length_is_refused(change: dict[str, object], said: str) -> None:
    state, keys, _ = shown({b"row 1"}, [b"row 1"], None)
    bent = replace(state.present[0], **change)
    with pytest.raises(VerificationError, match=said):
        root_of(replace(state, present=(bent,)), keys)


def test_packed_hashes_come_apart_as_they_were_put_together() -> None:
    hashes = [sha256(bytes((number,))) for number in range(5)]
    assert unpack(pack(hashes)) == tuple(hashes)


@given(st.binary(max_size=400))
def test_any_bytes_are_refused_and_never_an_exception(data: bytes) -> None:
    report = verify_receipt(data, None, now=unix_millis(0))
    assert (report.ok, report.failed) == (False, "file")
    with pytest.raises(VerificationError):
        parse_receipt(data)
