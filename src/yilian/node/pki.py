"""Certificates of institutions: each its own CA (P-256), no root above; whom a TLS peer speaks for.

X.509 is parsed here only. Consensus knows the SHA-256 fingerprint of a CA's DER bytes; who a peer is follows from the
CA that issued its leaf, and what it may do is judged against the ledger on each request.
"""

from __future__ import annotations

import datetime as dt
import ssl
import threading
from collections.abc import Callable, Iterable
from ipaddress import IPv4Address
from typing import Any, ClassVar

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from yilian.crypto.suite import sha256
from yilian.errors import VerificationError
from yilian.node.host import TlsFiles
from yilian.values import Digest, InstitutionId
from yilian.workflows.governance.interface import institution_id_of

CA_DAYS = 20 * 366
LEAF_DAYS = 398
RENEW_DAYS = 30
"""A leaf with fewer days left is issued anew when its node starts."""
URN = "urn:yilian:institution:"
GENESIS_TAG = b"yilian/genesis-signature/v1\0"
_CLOCK_SKEW = dt.timedelta(hours=1)


def make_ca(name: str) -> tuple[bytes, bytes]:
    """Make a CA: (private key as PKCS #8 DER, self-signed certificate as DER). `name` is public."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name[:64])])
    identifier = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    certificate = (
        _builder(subject, subject, key.public_key(), CA_DAYS)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(is_ca=True), critical=True)
        .add_extension(identifier, critical=False)
        .sign(key, hashes.SHA256())
    )
    return _private_der(key), certificate.public_bytes(serialization.Encoding.DER)


def issue_leaf(ca_key: bytes, ca_der: bytes, password: str) -> tuple[bytes, bytes]:
    """Issue a leaf for server and client use on this machine: (certificate PEM, encrypted key PEM).

    Its names are 127.0.0.1, localhost and the institution's id as a URI.
    """
    authority, key = x509.load_der_x509_certificate(ca_der), ec.generate_private_key(ec.SECP256R1())
    names = x509.SubjectAlternativeName(
        [
            x509.DNSName("localhost"),
            x509.IPAddress(IPv4Address("127.0.0.1")),
            x509.UniformResourceIdentifier(institution_urn(institution_id_of(fingerprint(ca_der)))),
        ]
    )
    issuer_key = authority.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"yilian node {fingerprint(ca_der).hex()[:16]}")])
    certificate = (
        _builder(subject, authority.subject, key.public_key(), LEAF_DAYS)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage(is_ca=False), critical=True)
        .add_extension(
            x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False
        )
        .add_extension(names, critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(issuer_key), critical=False)
        .sign(_load_key(ca_key), hashes.SHA256())
    )
    sealed = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(password.encode()),
    )
    return certificate.public_bytes(serialization.Encoding.PEM), sealed


def needs_renewal(leaf_pem: bytes) -> bool:
    """Say whether a leaf ends within `RENEW_DAYS`."""
    end = x509.load_pem_x509_certificate(leaf_pem).not_valid_after_utc
    return end < _now() + dt.timedelta(days=RENEW_DAYS)


def fingerprint(ca_der: bytes) -> Digest:
    """Give the anchor of an institution: SHA-256 of the DER bytes of its CA certificate."""
    return sha256(ca_der)


def institution_urn(institution: InstitutionId) -> str:
    """Give the URI by which a certificate names its institution."""
    return URN + institution.hex()


def pem_of(der: bytes) -> bytes:
    """Give a certificate as PEM."""
    return x509.load_der_x509_certificate(der).public_bytes(serialization.Encoding.PEM)


def der_of(pem: bytes) -> bytes:
    """Give a certificate's DER bytes; VerificationError where it is none."""
    try:
        return x509.load_pem_x509_certificate(pem).public_bytes(serialization.Encoding.DER)
    except ValueError as error:
        raise VerificationError(f"{len(pem)} bytes are no PEM certificate: restore the file from a backup") from error


def check_ca(ca_der: bytes) -> None:
    """Check that bytes are a self-signed P-256 CA certificate that is valid now.

    Raises:
        VerificationError: they are not.
    """
    try:
        certificate = x509.load_der_x509_certificate(ca_der)
        certificate.verify_directly_issued_by(certificate)
        constraints = certificate.extensions.get_extension_for_class(x509.BasicConstraints).value
        public = certificate.public_key()
    except (ValueError, TypeError, InvalidSignature, x509.ExtensionNotFound) as error:
        raise VerificationError(f"CA {fingerprint(ca_der).hex()} is not self-signed: ask for another") from error
    is_p256 = isinstance(public, ec.EllipticCurvePublicKey) and isinstance(public.curve, ec.SECP256R1)
    if not (is_p256 and constraints.ca and _is_valid_now(certificate)):
        raise VerificationError(
            f"CA {fingerprint(ca_der).hex()} is no P-256 CA that is valid now: make one with `yilian node init`"
        )


def sign_genesis(ca_key: bytes, chain: Digest) -> bytes:
    """Sign a chain's id as a founding CA: ECDSA with SHA-256, DER."""
    return sign_with_ca(ca_key, GENESIS_TAG + chain)


def verify_genesis(ca_der: bytes, chain: Digest, signature: bytes) -> bool:
    """Say whether a founding CA signed this chain's id."""
    return verify_with_ca(ca_der, GENESIS_TAG + chain, signature)


def sign_with_ca(ca_key: bytes, message: bytes) -> bytes:
    """Sign a message, which starts with a tag of its own, with a CA key: ECDSA with SHA-256, DER."""
    return _load_key(ca_key).sign(message, ec.ECDSA(hashes.SHA256()))


def verify_with_ca(ca_der: bytes, message: bytes, signature: bytes) -> bool:
    """Say whether the key of a CA certificate signed a message."""
    public = x509.load_der_x509_certificate(ca_der).public_key()
    if not isinstance(public, ec.EllipticCurvePublicKey):
        return False
    try:
        public.verify(signature, message, ec.ECDSA(hashes.SHA256()))
    except InvalidSignature:
        return False
    return True


def member_of_leaf(leaf_der: bytes, cas: Iterable[bytes]) -> Digest | None:
    """Say whose leaf this is: the fingerprint of the CA that issued it, None where none of these did.

    The leaf must be valid now, no CA itself, and name the institution of that CA: a CA speaks for its own alone.
    """
    try:
        leaf = x509.load_der_x509_certificate(leaf_der)
        constraints = leaf.extensions.get_extension_for_class(x509.BasicConstraints).value
        names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        uris = names.get_values_for_type(x509.UniformResourceIdentifier)
    except (ValueError, x509.ExtensionNotFound, x509.DuplicateExtension, x509.UnsupportedGeneralNameType):
        return None
    if constraints.ca or not _is_valid_now(leaf):
        return None
    for ca_der in cas:
        anchor = fingerprint(ca_der)
        if uris == [institution_urn(institution_id_of(anchor))] and _is_issued_by(leaf, ca_der):
            return anchor
    return None


class TrustStore:
    """CA certificates of members, growing while the node runs; hands out TLS contexts that grow with it."""

    def __init__(self, cas: Iterable[bytes]) -> None:
        self._lock = threading.Lock()
        self._cas: dict[Digest, bytes] = {fingerprint(ca_der): ca_der for ca_der in cas}
        self._contexts: list[ssl.SSLContext] = []

    def add(self, ca_der: bytes) -> None:
        """Trust one more CA, in every context handed out so far too; VerificationError where it is no CA."""
        check_ca(ca_der)
        with self._lock:
            if fingerprint(ca_der) in self._cas:
                return
            self._cas[fingerprint(ca_der)] = ca_der
            for context in self._contexts:
                context.load_verify_locations(cadata=ca_der)

    def find(self, anchor: Digest) -> bytes | None:
        """Give the CA certificate (DER) of a fingerprint, or None."""
        return self._cas.get(anchor)

    def cas(self) -> tuple[bytes, ...]:
        """Give all CA certificates, DER."""
        with self._lock:
            return tuple(self._cas.values())

    def issuer_of(self, leaf_der: bytes) -> Digest | None:
        """Give the fingerprint of the CA that a leaf speaks for (`member_of_leaf`), None for a stranger."""
        return member_of_leaf(leaf_der, self.cas())

    def server_context(self, files: TlsFiles, on_failure: Callable[[str], None]) -> ssl.SSLContext:
        """Give a context for a door: TLS 1.3, certificate required, any member's CA; failures go to `on_failure`."""
        context = _context(ssl.PROTOCOL_TLS_SERVER, files)
        context.sslobject_class = _reporting(on_failure)
        with self._lock:
            for ca_der in self._cas.values():
                context.load_verify_locations(cadata=ca_der)
            self._contexts.append(context)
        return context

    def client_context(self, files: TlsFiles, anchor: Digest) -> ssl.SSLContext:
        """Give a context that shows our leaf and trusts the CA of one member alone.

        Raises:
            VerificationError: the CA certificate of this fingerprint is not known here.
        """
        ca_der = self.find(anchor)
        if ca_der is None:
            raise VerificationError(f"no certificate of CA {anchor.hex()} is here: get it from its institution")
        context = _context(ssl.PROTOCOL_TLS_CLIENT, files)
        context.load_verify_locations(cadata=ca_der)
        # the one CA trusted here signs for one institution alone; the host name, which changes with its machine, adds
        # nothing to that
        context.check_hostname = False
        return context


def _context(protocol: int, files: TlsFiles) -> ssl.SSLContext:
    context = ssl.SSLContext(protocol)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_cert_chain(files.certificate, files.key, files.password)
    return context


def _reporting(on_failure: Callable[[str], None]) -> type[ssl.SSLObject]:
    class Reporting(ssl.SSLObject):
        hook: ClassVar[Callable[[str], None]] = staticmethod(on_failure)

        def do_handshake(self) -> None:
            try:
                super().do_handshake()
            except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
                raise
            except ssl.SSLError as error:
                type(self).hook(error.reason or "HANDSHAKE_FAILED")
                raise

    return Reporting


def _builder(
    subject: x509.Name, issuer: x509.Name, public: ec.EllipticCurvePublicKey, days: int
) -> x509.CertificateBuilder:
    start = _now() - _CLOCK_SKEW
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(start + dt.timedelta(days=days))
    )


def _key_usage(*, is_ca: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        key_cert_sign=is_ca,
        crl_sign=is_ca,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _is_issued_by(leaf: x509.Certificate, ca_der: bytes) -> bool:
    try:
        leaf.verify_directly_issued_by(x509.load_der_x509_certificate(ca_der))
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True


def _is_valid_now(certificate: x509.Certificate) -> bool:
    return certificate.not_valid_before_utc <= _now() <= certificate.not_valid_after_utc


def _private_der(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _load_key(der: bytes) -> ec.EllipticCurvePrivateKey:
    key: Any = serialization.load_der_private_key(der, None)
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise VerificationError("the CA key is no P-256 key: restore the keystore from a backup")
    return key


def _now() -> dt.datetime:
    return dt.datetime.now(dt.UTC)
