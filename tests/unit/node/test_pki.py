"""Certificates: who a leaf speaks for, who is let in at a door, and what of the rest is recorded."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from cryptography import x509

from yilian.crypto.suite import sha256
from yilian.errors import UnavailableError, VerificationError
from yilian.node import pki
from yilian.node.doors import STRANGERS, Door, listen
from yilian.node.host import TlsFiles
from yilian.workflows.governance.interface import institution_id_of

CHAIN = sha256(b"chain")


class Party:
    """An institution of the test with files for TLS."""

    def __init__(self, folder: Path, name: str) -> None:
        folder.mkdir()
        self.key, self.ca = pki.make_ca(name)
        self.anchor = pki.fingerprint(self.ca)
        certificate, key = pki.issue_leaf(self.key, self.ca, "secret")
        self.files = TlsFiles(ca=folder / "ca", certificate=folder / "cert", key=folder / "key", password="secret")
        self.files.certificate.write_bytes(certificate)
        self.files.key.write_bytes(key)
        self.leaf = pki.der_of(certificate)


@pytest.fixture
def centre(tmp_path: Path) -> Party:
    return Party(tmp_path / "centre", "Centre")


@pytest.fixture
def hospital(tmp_path: Path) -> Party:
    return Party(tmp_path / "hospital", "Hospital")


def test_a_leaf_speaks_for_the_member_whose_ca_issued_it(centre: Party, hospital: Party) -> None:
    assert pki.member_of_leaf(hospital.leaf, [centre.ca, hospital.ca]) == hospital.anchor


def test_a_leaf_of_no_member_speaks_for_nobody(centre: Party, hospital: Party) -> None:
    assert pki.member_of_leaf(hospital.leaf, [centre.ca]) is None


def test_a_ca_certificate_and_garbage_are_no_leaves(centre: Party) -> None:
    assert [pki.member_of_leaf(der, [centre.ca]) for der in (centre.ca, b"garbage")] == [None, None]


def test_a_leaf_that_names_another_institution_than_its_ca_speaks_for_nobody(centre: Party, hospital: Party) -> None:
    # signed by the centre's key, but made for the hospital's certificate
    certificate, _ = pki.issue_leaf(centre.key, hospital.ca, "secret")
    assert pki.member_of_leaf(pki.der_of(certificate), [centre.ca, hospital.ca]) is None


def test_a_leaf_names_this_machine_and_its_institution(centre: Party) -> None:
    names = x509.load_der_x509_certificate(centre.leaf).extensions.get_extension_for_class(x509.SubjectAlternativeName)
    urn = pki.institution_urn(institution_id_of(centre.anchor))
    assert names.value.get_values_for_type(x509.UniformResourceIdentifier) == [urn]
    assert names.value.get_values_for_type(x509.DNSName) == ["localhost"]


def test_a_fresh_leaf_needs_no_renewal(centre: Party) -> None:
    assert not pki.needs_renewal(centre.files.certificate.read_bytes())


def test_a_genesis_signature_holds_for_its_ca_and_its_chain_only(centre: Party, hospital: Party) -> None:
    signature = pki.sign_genesis(centre.key, CHAIN)
    assert pki.verify_genesis(centre.ca, CHAIN, signature)
    assert not pki.verify_genesis(hospital.ca, CHAIN, signature)
    assert not pki.verify_genesis(centre.ca, sha256(b"other"), signature)


@pytest.mark.parametrize("what", ["leaf", "garbage"])
def test_only_a_self_signed_ca_is_taken_for_one(centre: Party, what: str) -> None:
    with pytest.raises(VerificationError, match="CA"):
        pki.check_ca({"leaf": centre.leaf, "garbage": b"\x30\x00"}[what])


def test_a_client_trusts_only_a_ca_that_is_known(centre: Party, hospital: Party) -> None:
    with pytest.raises(VerificationError, match=hospital.anchor.hex()):
        pki.TrustStore([centre.ca]).client_context(centre.files, hospital.anchor)


async def _echo(scope: dict[str, Any], _receive: object, send: Callable[..., Awaitable[None]]) -> None:
    if scope["type"] != "http":
        return
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": scope["extensions"]["tls"]["client_cert_der"]})


@contextmanager
def _door(trust: pki.TrustStore, files: TlsFiles, turned_away: list[str]) -> Iterator[tuple[asyncio.Runner, str]]:
    with asyncio.Runner() as runner:
        door = Door(_echo, listen("127.0.0.1", 0), tls=trust.server_context(files, turned_away.append))
        runner.run(door.open())
        try:
            yield runner, f"https://127.0.0.1:{door.port}"
        finally:
            runner.run(door.close())


async def _get(url: str, context: ssl.SSLContext) -> bytes:
    async with httpx.AsyncClient(verify=context, trust_env=False) as client:
        return (await client.get(url)).content


def test_a_door_lets_a_member_in_and_tells_who_it_is(centre: Party, hospital: Party) -> None:
    trust = pki.TrustStore([centre.ca, hospital.ca])
    with _door(trust, hospital.files, []) as (runner, url):
        seen = runner.run(_get(url, trust.client_context(centre.files, hospital.anchor)))
    assert trust.issuer_of(seen) == centre.anchor


def test_a_member_that_joins_is_let_in_by_a_door_that_is_open_already(centre: Party, hospital: Party) -> None:
    trust = pki.TrustStore([hospital.ca])
    with _door(trust, hospital.files, []) as (runner, url):
        trust.add(centre.ca)
        seen = runner.run(_get(url, trust.client_context(centre.files, hospital.anchor)))
    assert trust.issuer_of(seen) == centre.anchor


def test_strangers_are_turned_away_and_reported(centre: Party, hospital: Party) -> None:
    turned_away: list[str] = []
    stranger = pki.TrustStore([hospital.ca]).client_context(centre.files, hospital.anchor)
    nobody = ssl.create_default_context(cadata=hospital.ca)
    with _door(pki.TrustStore([hospital.ca]), hospital.files, turned_away) as (runner, url):
        for context in (stranger, nobody):
            with pytest.raises(httpx.TransportError):
                runner.run(_get(url, context))
    assert turned_away == ["CERTIFICATE_VERIFY_FAILED", "PEER_DID_NOT_RETURN_A_CERTIFICATE"]
    assert set(turned_away) == STRANGERS


def test_a_door_on_a_taken_port_says_so() -> None:
    first = listen("127.0.0.1", 0)
    with first, pytest.raises(UnavailableError, match="free one"):
        listen("127.0.0.1", first.getsockname()[1])
