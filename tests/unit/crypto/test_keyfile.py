from __future__ import annotations

import msgspec
import pytest

from yilian import canonical
from yilian.crypto import keyfile
from yilian.crypto.keyfile import Locked
from yilian.errors import VerificationError

KEY = b"k" * 32
WITH_KEY = keyfile.seal_with_key(KEY, b"secret", b"place")
WITH_PASSPHRASE = keyfile.seal_with_passphrase(b"correct horse", b"secret", b"place")


def flipped(raw: bytes, index: int) -> bytes:
    return raw[:index] + bytes((raw[index] ^ 1,)) + raw[index + 1 :]


def test_a_key_opens_what_it_sealed() -> None:
    assert keyfile.open_with_key(KEY, WITH_KEY, b"place") == b"secret"


def test_a_passphrase_opens_what_it_sealed() -> None:
    assert keyfile.open_with_passphrase(b"correct horse", WITH_PASSPHRASE, b"place") == b"secret"


def test_sealing_twice_gives_different_bytes() -> None:
    assert keyfile.seal_with_key(KEY, b"secret", b"place") != WITH_KEY


@pytest.mark.parametrize(
    ("key", "sealed", "aad"),
    [
        pytest.param(b"j" * 32, WITH_KEY, b"place", id="other-key"),
        pytest.param(KEY, WITH_KEY, b"elsewhere", id="other-place"),
        pytest.param(KEY, flipped(WITH_KEY, 0), b"place", id="version"),
        pytest.param(KEY, flipped(WITH_KEY, 1), b"place", id="nonce"),
        pytest.param(KEY, flipped(WITH_KEY, -1 % len(WITH_KEY)), b"place", id="ciphertext"),
        pytest.param(KEY, WITH_KEY[:-1], b"place", id="cut"),
        pytest.param(KEY, WITH_KEY[:28], b"place", id="too-short"),
        pytest.param(KEY, b"", b"place", id="nothing"),
    ],
)
def test_what_was_not_sealed_so_does_not_open(key: bytes, sealed: bytes, aad: bytes) -> None:
    with pytest.raises(VerificationError):
        keyfile.open_with_key(key, sealed, aad)


@pytest.mark.parametrize(
    ("passphrase", "sealed", "aad"),
    [
        pytest.param(b"wrong horse", WITH_PASSPHRASE, b"place", id="other-passphrase"),
        pytest.param(b"correct horse", WITH_PASSPHRASE, b"elsewhere", id="other-place"),
        pytest.param(b"correct horse", flipped(WITH_PASSPHRASE, -1 % len(WITH_PASSPHRASE)), b"place", id="one-bit"),
        pytest.param(b"correct horse", WITH_PASSPHRASE[:-1], b"place", id="cut"),
        pytest.param(b"correct horse", b"", b"place", id="nothing"),
    ],
)
def test_a_changed_keyfile_does_not_open(passphrase: bytes, sealed: bytes, aad: bytes) -> None:
    with pytest.raises(VerificationError):
        keyfile.open_with_passphrase(passphrase, sealed, aad)


@pytest.mark.parametrize(
    ("field", "value"),
    [("operations", 0), ("operations", 17), ("memory_bytes", 1 << 31), ("memory_bytes", 1024), ("version", 2)],
)
def test_a_keyfile_with_parameters_outside_the_limits_is_refused(field: str, value: int) -> None:
    locked = canonical.decode(WITH_PASSPHRASE, Locked)
    greedy = canonical.encode(msgspec.structs.replace(locked, **{field: value}))

    with pytest.raises(VerificationError, match="are no Locked"):
        keyfile.open_with_passphrase(b"correct horse", greedy, b"place")


def test_an_empty_passphrase_is_refused() -> None:
    with pytest.raises(ValueError, match="passphrase is empty"):
        keyfile.seal_with_passphrase(b"", b"secret", b"place")


def test_a_key_of_another_length_is_refused() -> None:
    with pytest.raises(ValueError, match="key has 31 bytes, expected 32"):
        keyfile.seal_with_key(bytes(31), b"secret", b"place")
