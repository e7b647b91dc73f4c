"""Asking a time-stamping authority (RFC 3161 over HTTP), and believing its answer only after checking all of it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import httpx
import msgspec
import rfc3161_client as rfc3161
from cryptography import x509

from yilian.errors import SettingsError, UnavailableError, VerificationError

MAX_ANSWER = 256 << 10
CLOCK_TOLERANCE_MS = 300_000
"""A stamp may be this far off the clock of the machine that asked for it."""
_SHA256 = x509.ObjectIdentifier("2.16.840.1.101.3.4.2.1")
_QUERY, _REPLY = "application/timestamp-query", "application/timestamp-reply"


class Stamp(msgspec.Struct, frozen=True, kw_only=True):
    """A timestamp that holds."""

    time: int
    """Milliseconds, as the authority said."""
    response: bytes
    """TimeStampResp, DER."""


def load_roots(file: str) -> tuple[x509.Certificate, ...]:
    """Read the root certificates of the authorities, PEM.

    Raises:
        SettingsError: no file is named, or it holds no certificate.
    """
    if not file:
        raise SettingsError("anchoring.authorities is set and anchoring.roots is not: name the PEM file of their roots")
    try:
        return tuple(x509.load_pem_x509_certificates(Path(file).read_bytes()))
    except (OSError, ValueError) as error:
        raise SettingsError(
            f"anchoring.roots: {file} holds no certificates in PEM ({error}): name the file of the authorities' roots"
        ) from error


def request_stamp(http: httpx.Client, url: str, text: bytes, roots: Sequence[x509.Certificate], *, now: int) -> Stamp:
    """Have a text stamped, its SHA-256 alone leaves the machine.

    Args:
        http: the connections; its time limits are the caller's.
        url: of the authority.
        text: what is stamped.
        roots: certificates that the authority's must lead to.
        now: this machine's clock, milliseconds.

    Raises:
        UnavailableError: no answer, or the authority declined.
        VerificationError: the answer does not hold: another root, nonce, text or hash, no signature, a time far off.
    """
    request = rfc3161.TimestampRequestBuilder().data(text).hash_algorithm(rfc3161.HashAlgorithm.SHA256).build()
    answer = _post(http, url, request.as_bytes())
    stamp = _checked(answer, url, text, roots, nonce=request.nonce)
    if abs(stamp.time - now) > CLOCK_TOLERANCE_MS:
        raise VerificationError(
            f"{url} stamped {stamp.time}, this machine's clock says {now}, expected {CLOCK_TOLERANCE_MS} ms apart at "
            "most: set the clock that is off"
        )
    return stamp


def check_stamp(response: bytes, text: bytes, roots: Sequence[x509.Certificate]) -> int:
    """Check a kept answer once more and give its time in milliseconds; VerificationError where it does not hold."""
    return _checked(response, "the kept answer", text, roots, nonce=None).time


def _checked(response: bytes, url: str, text: bytes, roots: Sequence[x509.Certificate], *, nonce: int | None) -> Stamp:
    try:
        parsed = rfc3161.decode_timestamp_response(response)
        status = parsed.status
    except ValueError as error:
        raise VerificationError(f"{url} gave {len(response)} bytes that are no TimeStampResp: ask another") from error
    if status != rfc3161.PKIStatus.GRANTED:
        raise UnavailableError(f"{url} declined with PKIStatus {status}: ask it why, or ask another")
    verifier = rfc3161.VerifierBuilder(roots=list(roots), nonce=nonce).build()
    try:
        info = parsed.tst_info
        if info.message_imprint.hash_algorithm != _SHA256:
            raise VerificationError(f"{url} stamped another hash than the SHA-256 that was asked for: ask another")
        verifier.verify_message(parsed, text)
    except (rfc3161.VerificationError, ValueError) as error:
        raise VerificationError(
            f"the timestamp of {url} does not hold ({error}): check anchoring.roots, or ask another"
        ) from error
    return Stamp(time=int(info.gen_time.timestamp() * 1000), response=response)


def _post(http: httpx.Client, url: str, body: bytes) -> bytes:
    headers = {"content-type": _QUERY, "accept": _REPLY}
    answer = bytearray()
    try:
        with http.stream("POST", url, content=body, headers=headers) as got:
            if got.status_code != httpx.codes.OK:
                raise UnavailableError(f"{url} answered with HTTP status {got.status_code}: ask again later")
            for piece in got.iter_bytes():
                answer += piece
                if len(answer) > MAX_ANSWER:
                    raise VerificationError(f"{url} sent more than {MAX_ANSWER} bytes: ask another")
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise UnavailableError(f"{url} does not answer ({type(error).__name__}): ask again later") from error
    return bytes(answer)
