"""The act of refusals: each is tried as somebody would try it, and each is on record afterwards.

Revoked, expired and exhausted are tried with message M and ciphertext already here: only the ledger stands between.
"""

from __future__ import annotations

import socket
import ssl
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from yilian.client.devicekey import load_device_key
from yilian.crypto.intl import Ed25519Signer, generate_x25519
from yilian.crypto.suite import Signer, sha256
from yilian.demo.consortium import CENTRAL, SECOND
from yilian.demo.faces import Face, ids, wait_until
from yilian.demo.stage import Stage
from yilian.demo.telling import short
from yilian.demo.wallets import Decided, delegation
from yilian.errors import NoGrantError, Refused, VerificationError
from yilian.ledger.members import HeldBy, Role
from yilian.node import joining, pki
from yilian.node.control import read_node_file
from yilian.values import DAY, case_id, public_key
from yilian.workflows.consent.interface import Purpose, Refusal
from yilian.workflows.consent.model import Revoke, UseReserve

TABLET = "physician-tablet"
EXPIRES_IN_MS = 2_000
_STRANGER_NAME = "stranger"


def refuse_all(stage: Stage, decided: Decided) -> None:
    """Try everything that must be refused; VerificationError where something was not."""
    if stage.is_done("refusing"):
        return
    stage.tell.chapter("refusing")
    _Refusals(stage, decided).all()
    stage.finish("refusing")


class _Refusals:
    def __init__(self, stage: Stage, decided: Decided) -> None:
        self.stage = stage
        self.tell = stage.tell
        self.decided = decided
        self.hospital = stage.face(CENTRAL, "physician")
        self.stranger = stage.face(SECOND, "physician")
        self.entry = decided.entries[0]

    def all(self) -> None:
        """Go through them; the consent is taken back last."""
        self._strangers()
        self._wider()
        device = _register_tablet(self.stage)
        tablet = self.stage.face(CENTRAL, TABLET)
        self.tell.say("message_held")
        self._exhausted(tablet, device)
        self._expired(tablet, device)
        self._tampered()
        self._revoked(tablet, device)

    def _strangers(self) -> None:
        other, entry = self.stage.name(SECOND), short(self.entry)
        self._refused("stranger_edge", lambda: self.stranger.get_records(self.decided.grant), name=other, entry=entry)
        command = UseReserve(
            grant=case_id(bytes.fromhex(self.decided.grant)),
            purpose=Purpose.TREAT,
            entries=ids([self.entry]),
            one_time=public_key(generate_x25519().public_key),
            message=sha256(b"a message that nobody made"),
        )
        self._refused("stranger_ledger", lambda: self.stranger.take(command), Refusal.NOT_THE_RECIPIENT, name=other)
        _knock(read_node_file(self.stage.home).doors[self.decided.place.slug])
        self.tell.refused("stranger_tls", "TLS_NON_MEMBER")

    def _wider(self) -> None:
        ends = self.hospital.case(self.decided.grant)["fields"]["ends"] + DAY
        command = delegation(self.decided, [self.entry], ends=ends, deliveries=1)
        self._refused(
            "wider",
            lambda: self.hospital.take(command, self.decided.grant),
            Refusal.WIDER_THAN_PARENT,
            name=self.stage.name(CENTRAL),
        )

    def _exhausted(self, tablet: Face, device: Signer) -> None:
        grant = self.decided.issue(self.stage.id(CENTRAL), [self.entry], deliveries=1)
        held = tablet.get_records(grant)["draft"]
        self.hospital.get_records(grant)
        self._late("exhausted", Refusal.DELIVERIES_SPENT, lambda: tablet.sign_and_submit(held, device))

    def _expired(self, tablet: Face, device: Signer) -> None:
        grant = self.decided.issue(self.stage.id(CENTRAL), [self.entry], deliveries=2, lasts=EXPIRES_IN_MS)
        held = tablet.get_records(grant)["draft"]
        ends = tablet.case(grant)["fields"]["ends"]
        wait_until(lambda: time.time_ns() // 1_000_000 > ends + 1, "the grant to expire")
        self._late("expired", Refusal.GRANT_EXPIRED, lambda: tablet.sign_and_submit(held, device))

    def _revoked(self, tablet: Face, device: Signer) -> None:
        grant = self.decided.issue(self.stage.id(CENTRAL), [self.entry], deliveries=2)
        held = tablet.get_records(grant)["draft"]
        signer = self.decided.wallet.case_signer(case_id(bytes.fromhex(self.decided.consent)))
        self.decided.physician.take_with(signer, Role.PATIENT, Revoke(paper=None), self.decided.consent)
        self._late("revoked", Refusal.GRANT_REVOKED, lambda: tablet.sign_and_submit(held, device))

    def _tampered(self) -> None:
        grant = self.decided.issue(self.stage.id(SECOND), [self.entry], deliveries=2)
        root = self.hospital.case(self.entry)["fields"]["root"]
        file = self.stage.home.folder(self.decided.place.slug) / "blobs" / root[:2] / root[2:]
        name = self.stage.name(SECOND)
        with _flipped(file):
            self._refused("tampered", lambda: self.stranger.get_records(grant), kind=VerificationError, name=name)
        self.stranger.get_records(grant)
        self.tell.say("untampered")

    def _late(self, key: str, refusal: Refusal, submit: Callable[[], object]) -> None:
        self._refused(key, submit, refusal, name=self.stage.name(CENTRAL))

    def _refused(
        self,
        key: str,
        attempt: Callable[[], object],
        refusal: Refusal | None = None,
        *,
        kind: type[Exception] = NoGrantError,
        **values: object,
    ) -> None:
        """Try, and tell that it was refused as it should; VerificationError where it was not."""
        try:
            attempt()
        except Refused as refused:
            if refusal is None or (refused.workflow, refused.number) != ("consent", refusal):
                raise
            self.tell.refused(key, refusal.name, **values)
        except kind:
            if refusal is not None:
                raise
            self.tell.refused(key, "NO_GRANT" if kind is NoGrantError else "TAMPERED_BLOB", **values)
        else:
            raise VerificationError(f"{key} was not refused, expected a refusal: the gates do not hold")


def _register_tablet(stage: Stage) -> Signer:
    """Register a physician whose key lies on a tablet, not on the node."""
    person = {"label": TABLET, "role": Role.PHYSICIAN.value, "held_by": HeldBy.DEVICE.value}
    made = stage.control.make_key(CENTRAL.slug, person)
    file = stage.home.people / f"{CENTRAL.slug}-{TABLET}.key"
    device: Ed25519Signer = load_device_key(file, stage.home.passphrase(stage.settings))
    possession = device.sign(bytes.fromhex(made["possession_message"])).hex()
    stage.face(CENTRAL, "officer").take(joining.registration({**made, "possession": possession}))
    return device


def _knock(address: str) -> None:
    """Knock at a door with a certificate that no member's CA issued; VerificationError where it opens."""
    host, _, port = address.removeprefix("https://").partition(":")
    password = sha256(b"a key that protects nothing").hex()
    ca_key, ca_der = pki.make_ca(_STRANGER_NAME)
    certificate, key = pki.issue_leaf(ca_key, ca_der, password)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "cert.pem").write_bytes(certificate)
        Path(folder, "key.pem").write_bytes(key)
        context.load_cert_chain(Path(folder, "cert.pem"), Path(folder, "key.pem"), password)
    try:
        with socket.create_connection((host, int(port)), 10) as line, context.wrap_socket(line) as door:
            door.sendall(b"GET /peer/challenges/00 HTTP/1.1\r\nHost: door\r\n\r\n")
            answer = door.recv(64)
    except (ssl.SSLError, ConnectionError):
        return
    if answer:
        raise VerificationError("a non-member was answered, expected no handshake: the door does not hold")


@contextmanager
def _flipped(file: Path) -> Iterator[None]:
    """Flip one byte in the middle of a file, and put it back."""
    with file.open("r+b") as blob:
        place = file.stat().st_size // 2
        blob.seek(place)
        byte = blob.read(1)[0]
        _put(blob, place, byte ^ 0xFF)
        try:
            yield
        finally:
            _put(blob, place, byte)


def _put(blob: Any, place: int, byte: int) -> None:  # noqa: ANN401 - an open binary file
    blob.seek(place)
    blob.write(bytes([byte]))
    blob.flush()
