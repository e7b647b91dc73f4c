"""A person's signing key in one encrypted file, for a device that is not the node: an officer's laptop, a USB stick."""

from __future__ import annotations

from pathlib import Path

from yilian.crypto.intl import Ed25519Signer
from yilian.crypto.keyfile import open_with_passphrase, seal_with_passphrase
from yilian.errors import NotFoundError, VerificationError

MAGIC = b"YLNDEV1\n"
_AAD = b"yilian/device-key/v1\0"


def seal_device_key(signer: Ed25519Signer, passphrase: bytes) -> bytes:
    """Give the content of the file that keeps a key under a passphrase."""
    return MAGIC + seal_with_passphrase(passphrase, signer.seed, _AAD)


def load_device_key(path: Path, passphrase: bytes) -> Ed25519Signer:
    """Open a key's file.

    Raises:
        NotFoundError: there is no such file.
        VerificationError: it is none of these files, is damaged, or the passphrase is another.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise NotFoundError(f"key file {path}: {error.strerror}: name the file of the key") from error
    if not content.startswith(MAGIC):
        raise VerificationError(f"{path} is no key file of yilian: name the file that was handed over")
    return Ed25519Signer.from_seed(open_with_passphrase(passphrase, content[len(MAGIC) :], _AAD))
