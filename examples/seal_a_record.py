"""Seal a record, open it again, and see that a changed byte, another key and another record are each refused."""

from __future__ import annotations

import sys

from yilian.crypto import seal
from yilian.errors import VerificationError

RECORD = b'{"resourceType": "Observation", "valueQuantity": {"value": 1.50, "unit": "mmol/L"}}'


def refused(blob: bytes, key: bytes, root: bytes) -> str:
    """Try to open a blob that must not open, and give the reason."""
    try:
        seal.open_bytes(blob, key, root)
    except VerificationError as error:
        return str(error)
    raise AssertionError("it opened")


def main() -> int:
    """Run the example."""
    blob, sealed, key = seal.seal_bytes(RECORD)
    write = sys.stdout.write
    write(f"root {sealed.root.hex()}, {sealed.segments} segment, {sealed.blob_size} bytes\n")
    opened = seal.open_bytes(blob, key, sealed.root)
    write(f"opens to the same bytes: {opened == RECORD}\n")
    changed = blob[:-1] + bytes((blob[-1] ^ 1,))
    write(f"changed byte: {refused(changed, key, sealed.root)}\n")
    write(f"another key: {refused(blob, seal.new_data_key(), sealed.root)}\n")
    other, _, _ = seal.seal_bytes(RECORD, key)
    write(f"another blob of the same record: {refused(other, key, sealed.root)}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
