"""A second verifier of receipts, written from `spec/` alone, with cbor2, cryptography and the standard library.

`python independent_verifier.py FILE --trust FILE --json` answers as `tools/check_proofs.py` asks.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import sys
import time
from pathlib import Path
from typing import Any

import cbor2
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey


class Fails(Exception):  # noqa: N818 - a step's, and no error of the program
    """A step does not hold."""


REFUSED = (
    Fails,
    AttributeError,
    IndexError,
    InvalidSignature,
    KeyError,
    StopIteration,
    TypeError,
    ValueError,
    cbor2.CBORError,
)
KINDS = {"operation": 1, "state": 0, "absence": 0, "exchange": 5, "claim": 1}
EXCHANGE = ("use.reserve", "use.deliver", "use.confirm", "disclosure.sent", "disclosure.received")
HOUR, DAY, TOLERANCE = 3_600_000, 86_400_000, 30_000
NOTE = re.compile(
    r"yilian/(?P<chain>[0-9a-f]{64})\n(?P<size>0|[1-9][0-9]{0,18})\n(?P<root>[A-Za-z0-9+/]{43}=)\n"
    r"app (?P<app>[A-Za-z0-9+/]{43}=)\nheight (?P<height>0|[1-9][0-9]{0,18})\ntime (?P<time>0|[1-9][0-9]{0,18})\n"
)


def verified(data: bytes, trust: dict[str, Any], now: int) -> str:
    """Give the name of the step that failed, empty where all hold."""
    check = Check(data, trust, now)
    try:
        for name, step in check.steps():
            check.name = name
            step()
    except REFUSED:
        return check.name
    return ""


class Check:
    """One file under verification; each step leaves what the next ones need."""

    def __init__(self, data: bytes, trust: dict[str, Any], now: int) -> None:
        self.data, self.trust, self.now = data, trust, now
        self.name = "file"
        self.rows: dict[bytes, Any] = {}
        self.bytes: dict[bytes, bytes] = {}
        self.used: set[bytes] = set()
        self.opened: list[Any] = []

    def steps(self) -> Any:  # noqa: ANN401 - pairs of name and step
        """Give the steps in order; those that depend on the file when it is known."""
        yield "file", self.file
        yield "checkpoint", self.checkpoint
        yield "trust", self.trusted
        yield "age", self.age
        yield "state", self.state
        yield "app_hash", self.app_hash
        for logged in self.operations:
            yield "operation", lambda one=logged: self.operation(*one)
            yield "envelope", lambda one=logged: self.envelope(*one)
            yield "leaf", lambda one=logged: self.leaf(*one)
            yield "log", lambda one=logged: self.log(*one)
            yield "signature", lambda one=logged: self.signature(*one)
            yield "persons", lambda one=logged: self.persons(*one)
        yield "parts", self.parts
        if self.kind in {"state", "absence"}:
            yield "subject", self.subject_shown
        if self.kind == "case":
            self.before = -1
            for place in range(len(self.operations)):
                yield "changes", lambda at=place: self.change(at)
            yield "subject", self.last_row
        if self.kind == "exchange":
            yield "exchange", self.exchange
        if self.kind == "claim":
            yield "claim", self.one_claim
        yield "rows", lambda: must(self.used == set(self.rows))

    def file(self) -> None:
        """Step 1."""
        must(len(self.data) <= 16 << 20)
        form, kind, subject, note, parameters, state, operations, changes, claim = strict(self.data)
        must(form == 1 and kind in {*KINDS, "case"} and len(parameters) == 32)
        self.kind, self.subject, self.note, self.parameters = kind, subject, note, parameters
        self.shown, self.operations, self.changes, self.claim = state, operations, changes, claim
        must(len(state) == 4 and 8 <= state[0] <= 24)
        must(all(len(one) == 8 for one in operations))

    def checkpoint(self) -> None:
        """Step 2."""
        text, _, signatures = self.note.decode().partition("\n\n")
        self.text = text + "\n"
        found = NOTE.fullmatch(self.text)
        must(found is not None and (not signatures or signatures.endswith("\n")) and b"\n\n" in self.note)
        self.chain = bytes.fromhex(found["chain"])
        self.size, self.height, self.time = int(found["size"]), int(found["height"]), int(found["time"])
        self.log_root, self.app = base64.b64decode(found["root"]), base64.b64decode(found["app"])
        self.lines = []
        for line in signatures.split("\n")[:-1]:
            mark, name, encoded = line.split(" ")
            raw = base64.b64decode(encoded, validate=True)
            must(mark == "—" and base64.b64encode(raw).decode() == encoded and len(raw) > 4)
            self.lines.append((name, raw[:4], raw[4:]))

    def trusted(self) -> None:
        """Step 3."""
        must(self.trust["chain"] == self.chain.hex())
        name, hashed, body = self.lines[0]
        key = next(one for one in self.trust["sequencer"] if key_hash(name, b"\x01", one["public_key"]) == hashed)
        must(name == f"yilian/{self.chain.hex()}")
        check_signature(key["public_key"], body, self.text.encode())
        operators, self.witnessed = {key["operator"]}, []
        for name, hashed, body in self.lines[1:]:
            kind = b"\xffyilian/executed/v1"
            witness = next(
                one
                for one in self.trust["witnesses"]
                if one["institution"] == name and key_hash(name, kind, one["public_key"]) == hashed
            )
            seconds = int.from_bytes(body[:8], "big")
            check_signature(
                witness["public_key"], body[8:], f"yilian/executed/v1\ntime {seconds}\n{self.text}".encode()
            )
            must(witness["operator"] not in operators and seconds * 1_000 + 999 + TOLERANCE >= self.time)
            operators.add(witness["operator"])
            self.witnessed.append(seconds * 1_000)
        must(len(self.witnessed) == self.trust["needed"])

    def age(self) -> None:
        """Step 4, without a largest age."""
        must(max([self.time, *self.witnessed]) - self.now <= TOLERANCE)

    def state(self) -> None:
        """Step 5."""
        depth, present, absent, siblings = self.shown
        buckets: dict[int, bytes] = {}
        hashes = []
        for row, count, index, path in present:
            content = strict(row)
            key = h(content[0])
            hashes.append(key)
            self.rows[content[0]], self.bytes[content[0]] = content, row
            put(buckets, key, depth, bucket(count, climb(h(b"\x00", key, h(row)), index, count, path)))
        must(hashes == sorted(set(hashes)) and len(self.rows) == len(present))
        for natural_key, count, neighbours in absent:
            key = h(natural_key)
            self.check_between(key, count, neighbours, depth)
            if not neighbours:
                put(buckets, key, depth, h(b"yilian/empty-bucket/v1"))
            for other, value, index, path in neighbours:
                put(buckets, key, depth, bucket(count, climb(h(b"\x00", other, value), index, count, path)))
        self.root = joined(buckets, depth, hashes_of(siblings))

    def check_between(self, key: bytes, count: int, neighbours: Any, depth: int) -> None:  # noqa: ANN401
        """Make sure that an absent row would lie where its neighbours leave no room."""
        places = [one[2] for one in neighbours]
        must(all(place_of(one[0], depth) == place_of(key, depth) for one in neighbours))
        if not neighbours:
            must(count == 0)
        elif len(neighbours) == 1:
            ((other, _, place, _),) = neighbours
            must((place == 0 and key < other) or (place == count - 1 and other < key))
        else:
            must(places[0] + 1 == places[1] and neighbours[0][0] < key < neighbours[1][0])

    def app_hash(self) -> None:
        """Step 6."""
        size = self.size.to_bytes(8, "big")
        must(h(b"yilian/app/v1", size, self.log_root, self.root, self.parameters) == self.app)

    def operation(self, operation: bytes, _index: int, _siblings: bytes, sign1: Any, *_others: Any) -> None:  # noqa: ANN401
        """Step 7."""
        core, persons = strict(operation)
        parts, payload = strict(core), strict(sign1[2])
        must(len(parts) == 8 and len(payload) == 7 and payload[0] == 1)
        self.core, self.parts_of_core, self.signed, self.payload = core, parts, persons, payload

    def envelope(self, operation: bytes, index: int, siblings: bytes, *_others: Any) -> None:  # noqa: ANN401
        """Step 8."""
        must(self.payload[1] == self.chain)
        must(climb(leaf(operation), index, self.payload[5], siblings) == self.payload[6])

    def leaf(self, operation: bytes, _index: int, _siblings: bytes, _sign1: Any, _patients: Any, *rest: Any) -> None:  # noqa: ANN401
        """Step 9."""
        height, moment, actor, op_id, digest, _result, _changes, claims = rest[0]
        must((digest, actor, op_id) == (leaf(operation), self.payload[2], self.parts_of_core[0]))
        must(claims == self.parts_of_core[7] and height <= self.height and moment <= self.time)
        must(moment <= self.payload[4] <= moment + HOUR)

    def log(self, *logged: Any) -> None:  # noqa: ANN401
        """Step 10."""
        must(climb(leaf(cbor2.dumps(logged[5])), logged[6], self.size, logged[7]) == self.log_root)

    def signature(self, *logged: Any) -> None:  # noqa: ANN401
        """Step 11."""
        protected, unprotected, payload, signature = logged[3]
        key = self.key(self.payload[3], logged[5])
        must(key[0] == self.payload[2] and key[1] in {"node", "newcomer"})
        must(protected == b"\xa1\x01\x27" and not unprotected)
        signed = cbor2.dumps(["Signature1", protected, b"yilian/tx/v1", payload])
        check_signature(key[3].hex(), signature, signed)

    def persons(self, *logged: Any) -> None:  # noqa: ANN401
        """Step 12."""
        patients, entry = list(logged[4]), logged[5]
        for key_id, role, valid_until, signature in self.signed if not entry[5] else ():
            must(entry[1] <= valid_until <= entry[1] + DAY)
            if role == "patient":
                public = patients.pop(0)
                must(h(b"yilian/key/v1", b"\x01", public) == key_id)
            else:
                key = self.key(key_id, entry)
                must(key[1] == role)
                public = key[3]
            message = ["yilian/person/v1", self.chain, self.payload[2], key_id, role, valid_until, self.core]
            check_signature(public.hex(), signature, cbor2.dumps(message))
        must(not patients)
        self.opened.append((self.parts_of_core, logged))

    def key(self, key_id: bytes, entry: Any) -> Any:  # noqa: ANN401 - fields of a key
        """Give the fields of a key that might sign at a leaf's block, and mark its rows and its member's."""
        header, fields = self.case(key_id, "key")
        must(h(b"yilian/key/v1", b"\x01", fields[3]) == key_id and fields[2] == 1)
        must(header[4] < entry[0] and fields[7] <= entry[1] <= fields[8])
        must(header[2] == "active" or header[6] >= entry[0])
        self.case(fields[0], "member")
        return fields

    def case(self, raw: bytes, word: str) -> Any:  # noqa: ANN401 - (header, fields)
        """Give header and fields of a case row that is shown."""
        natural_key = b"case/" + raw
        _, _, found, header, fields = self.rows[natural_key]
        must(found == word and header[0] == raw)
        self.used.add(natural_key)
        return header, fields

    def parts(self) -> None:
        """Step 13."""
        absent = len(self.shown[2])
        if self.kind == "case":
            must(bool(self.operations) and len(self.operations) == len(self.changes))
        else:
            must(len(self.operations) == KINDS[self.kind] and not self.changes)
        must(absent == (self.kind == "absence") and (self.claim is not None) == (self.kind == "claim"))
        must(bool(self.subject) == (self.kind not in {"operation", "claim"}))

    def subject_shown(self) -> None:
        """Step 14 of a state and of an absence."""
        if self.kind == "absence":
            must(self.shown[2][0][0] == self.subject)
            return
        must(self.subject in self.rows)
        self.used.add(self.subject)

    def change(self, place: int) -> None:
        """Step 14 of a case, for one operation."""
        (row, digests), logged = self.changes[place], self.operations[place]
        entry = logged[5]
        pairs = [digests[at : at + 64] for at in range(0, len(digests), 64)]
        keys = [pair[:32] for pair in pairs]
        must(all(len(pair) == 64 for pair in pairs) and keys == sorted(set(keys)))
        must(h(b"yilian/changes/v1", digests) == entry[6] and not entry[5])
        natural_key, _, _, header, _ = strict(row)
        must(natural_key == self.subject == b"case/" + header[0] and h(natural_key) + h(row) in pairs)
        must(header[1] == place + 1 and header[6:8] == [entry[0], entry[1]] and logged[6] > self.before)
        self.before = logged[6]

    def last_row(self) -> None:
        """Step 14 of a case, its current row."""
        must(self.bytes[self.subject] == self.changes[-1][0])
        self.used.add(self.subject)

    def exchange(self) -> None:
        """Step 14 of an exchange."""
        must(self.subject.startswith(b"case/"))
        use_id = self.subject.removeprefix(b"case/")
        _, use = self.case(use_id, "use")
        _, grant = self.case(use[0], "grant")
        pair_id = tagged(b"yilian/disclosure/v1", self.chain, use_id)
        _, pair = self.case(pair_id, "disclosure")
        if grant[1] is not None:
            self.case(grant[1], "consent")
        custodian, recipient = use[1], use[2]
        must(grant[2:4] == [custodian, recipient] and pair[:3] == [use_id, custodian, recipient])
        must(all(entry in grant[6] for entry in use[5]))
        actors = (recipient, custodian, recipient, custodian, recipient)
        for (core, logged), command, actor in zip(self.opened, EXCHANGE, actors, strict=True):
            case = use_id if command.startswith("use.") else pair_id
            must((core[2], core[3], logged[5][2], logged[5][5]) == (command, case, actor, []))
            must(case == use_id or core[5] == [use_id])
        order = [logged[6] for _, logged in self.opened[:3]]
        must(order == sorted(order) and self.opened[1][1][5][1] == use[14])

    def one_claim(self) -> None:
        """Step 14 of a claim."""
        (claim, index, count, path) = self.claim
        root, packed = self.operations[0][5][7], b"".join(path)
        hashed = leaf(cbor2.dumps(claim))
        must(len(claim[0]) == 32 and climb(hashed, index, count, packed) == root)
        for fewer in range(index + 1, count):
            must(not leads(hashed, index, fewer, packed, root=root))


def must(holds: object) -> None:
    """Raise where something does not hold."""
    if not holds:
        raise Fails


def h(*parts: bytes) -> bytes:
    """SHA-256 of joined parts."""
    return hashlib.sha256(b"".join(parts)).digest()


def tagged(tag: bytes, *parts: bytes) -> bytes:
    """Hash parts, each after its length in 8 bytes."""
    return h(tag, *(len(part).to_bytes(8, "big") + part for part in parts))


def leaf(content: bytes) -> bytes:
    """Hash a leaf (RFC 6962)."""
    return h(b"\x00", content)


def strict(data: bytes) -> Any:  # noqa: ANN401 - builtins
    """Decode CBOR that must be the only encoding of its value."""
    value = cbor2.loads(data, allow_duplicate_keys=False, allow_indefinite=False)
    must(cbor2.dumps(value) == data and type(value) is list)
    return value


def hashes_of(packed: bytes) -> list[bytes]:
    """Take packed hashes apart."""
    must(len(packed) % 32 == 0)
    return [packed[at : at + 32] for at in range(0, len(packed), 32)]


def climb(found: bytes, index: int, size: int, packed: bytes) -> bytes:
    """Give the root above a leaf (RFC 9162 section 2.1.3.2)."""
    must(0 <= index < size)
    last = size - 1
    for beside in hashes_of(packed):
        must(last)
        if index & 1 or index == last:
            found = h(b"\x01", beside, found)
            while not index & 1 and index:
                index, last = index >> 1, last >> 1
        else:
            found = h(b"\x01", found, beside)
        index, last = index >> 1, last >> 1
    must(last == 0)
    return found


def leads(found: bytes, index: int, size: int, packed: bytes, *, root: bytes) -> bool:
    """Say whether a path leads to a root."""
    try:
        return climb(found, index, size, packed) == root
    except Fails:
        return False


def bucket(count: int, root: bytes) -> bytes:
    """Hash a bucket."""
    return h(b"\x02", count.to_bytes(8, "big"), root)


def place_of(key: bytes, depth: int) -> int:
    """Give the first bits of a key hash."""
    return int.from_bytes(key, "big") >> (256 - depth)


def put(buckets: dict[int, bytes], key: bytes, depth: int, node: bytes) -> None:
    """Note a bucket; two rows of one must agree."""
    must(buckets.setdefault(place_of(key, depth), node) == node)


def joined(level: dict[int, bytes], depth: int, siblings: list[bytes]) -> bytes:
    """Give the state root above buckets."""
    for _ in range(depth):
        above: dict[int, bytes] = {}
        for place in sorted(level):
            if place >> 1 in above:
                continue
            beside = level[place ^ 1] if place ^ 1 in level else siblings.pop(0)
            left, right = (beside, level[place]) if place & 1 else (level[place], beside)
            above[place >> 1] = h(b"\x01", left, right)
        level = above
    must(not siblings and len(level) == 1)
    return level[0]


def key_hash(name: str, kind: bytes, public_key: str) -> bytes:
    """Give the four bytes by which a signature line names its key."""
    return h(name.encode(), b"\n", kind, bytes.fromhex(public_key))[:4]


def check_signature(public_key: str, signature: bytes, message: bytes) -> None:
    """Verify an Ed25519 signature."""
    Ed25519PublicKey.from_public_bytes(bytes.fromhex(public_key)).verify(signature, message)


def main() -> int:
    """Check one file."""
    file, _, trust, _ = sys.argv[1:]
    failed = verified(Path(file).read_bytes(), json.loads(Path(trust).read_text()), time.time_ns() // 1_000_000)
    sys.stdout.write(json.dumps({"ok": not failed, "failed": failed}) + "\n")
    return 5 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
