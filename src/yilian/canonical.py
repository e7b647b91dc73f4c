"""One byte form per value: deterministic CBOR of array-like msgspec structs (RFC 8949 section 4.2.1).

Strict decoding refuses trailing bytes, tags, floats, duplicate keys, indefinite lengths, unknown fields and integers
that are not in their shortest form; wire types bound every integer, since CBOR bignums pass all of this.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

import cbor2
import msgspec

from yilian.errors import VerificationError

T = TypeVar("T")

MAX_DEPTH = 16


def encode(value: Any) -> bytes:  # noqa: ANN401 - any wire value
    """Encode a struct (or builtin) as deterministic CBOR; structs become arrays, bytes stay byte strings."""
    return cbor2.dumps(msgspec.to_builtins(value, builtin_types=(bytes,)))


def decode(data: bytes, kind: type[T]) -> T:
    """Decode bytes strictly as one `kind`, and make sure that they are the only encoding of it.

    Raises:
        VerificationError: not CBOR, not this type, or not its canonical byte form.
    """
    raw = decode_builtins(data)
    try:
        return msgspec.convert(raw, kind, builtin_types=(bytes,))
    except (msgspec.ValidationError, TypeError, OverflowError) as error:
        raise VerificationError(
            f"{len(data)} bytes are no {_name(kind)} ({error}): send the type that the command declares"
        ) from error


def decode_builtins(data: bytes) -> Any:  # noqa: ANN401 - lists, bytes, text and integers
    """Decode bytes strictly into lists, byte strings, text and integers.

    Raises:
        VerificationError: not CBOR, or another encoding than the canonical one.
    """
    try:
        raw = cbor2.loads(data, allow_duplicate_keys=False, allow_indefinite=False, max_depth=MAX_DEPTH)
        same = cbor2.dumps(raw) == data
    except (cbor2.CBORError, ValueError, TypeError, OverflowError, RecursionError) as error:
        raise VerificationError(f"{len(data)} bytes are not strict CBOR ({error}): encode them canonically") from error
    if not same:
        raise VerificationError(f"{len(data)} bytes are not in canonical CBOR form: encode them canonically")
    return raw


def decode_trusted(data: bytes, kind: type[T]) -> T:
    """Decode bytes that were strictly checked before, without the second encoding; never for bytes from outside."""
    return msgspec.convert(cbor2.loads(data), kind, builtin_types=(bytes,))


def array(items: Sequence[bytes]) -> bytes:
    """Join encoded items to the array of them."""
    return _head(0x80, len(items)) + b"".join(items)


def byte_string(content: bytes) -> bytes:
    """Encode a byte string."""
    return _head(0x40, len(content)) + content


def split_byte_string(data: bytes, at: int) -> tuple[bytes, int]:
    """Read the byte string that begins at `at`; give it and where it ends.

    Raises:
        VerificationError: none begins there, its length is not in the shortest form, or the data ends before it does.
    """
    size, start = _split_head(data, at, 0x40)
    content = data[start : start + size]
    if len(content) != size:
        raise VerificationError(f"a byte string of {size} bytes ends after {len(content)}: send all bytes")
    return content, start + size


def split_array(data: bytes, at: int) -> tuple[int, int]:
    """Read the head of the array that begins at `at`; give its length and where its items begin; errors as above."""
    return _split_head(data, at, 0x80)


def _split_head(data: bytes, at: int, major: int) -> tuple[int, int]:
    first = data[at] - major if at < len(data) else -1
    if 0 <= first < 24:
        return first, at + 1
    if first == 24:
        number, stop, least = int.from_bytes(data[at + 1 : at + 2], "big"), at + 2, 24
    elif first == 25:
        number, stop, least = int.from_bytes(data[at + 1 : at + 3], "big"), at + 3, 1 << 8
    elif first == 26:
        number, stop, least = int.from_bytes(data[at + 1 : at + 5], "big"), at + 5, 1 << 16
    else:
        number, stop, least = 0, at, 1
    if number < least or stop > len(data):
        raise VerificationError(f"no canonical head of major type {major >> 5} at byte {at}: encode canonically")
    return number, stop


def _head(major: int, number: int) -> bytes:
    """Give the shortest head of a major type (RFC 8949 section 3.1) with a number below 2³²."""
    if number < 24:
        return bytes((major | number,))
    if number < 1 << 8:
        return bytes((major | 24, number))
    if number < 1 << 16:
        return bytes((major | 25,)) + number.to_bytes(2, "big")
    return bytes((major | 26,)) + number.to_bytes(4, "big")


def _name(kind: object) -> str:
    return getattr(kind, "__name__", str(kind))
