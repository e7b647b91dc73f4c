"""Homes: folders for their owner alone, files that say when they were changed, passphrases kept outside."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from yilian.client.devicekey import load_device_key
from yilian.errors import ConflictError, NotFoundError, SettingsError, VerificationError
from yilian.ledger.members import HeldBy, InstitutionKind, Role
from yilian.node import pki
from yilian.node.home import (
    Home,
    Institution,
    InstitutionSpec,
    PersonSpec,
    ensure_leaf,
    fill_institution,
    new_keystore,
)
from yilian.node.settings import Settings

SECRET = b"a passphrase"
SPEC = InstitutionSpec(
    slug="hospital",
    name='City "First" Hospital 医院',
    kind=InstitutionKind.HOSPITAL,
    people=(
        PersonSpec(label="officer", role=Role.OFFICER, held_by=HeldBy.DEVICE),
        PersonSpec(label="physician", role=Role.PHYSICIAN, licence="110-220"),
    ),
)


@pytest.fixture
def home(tmp_path: Path) -> Home:
    home = Home(tmp_path / "home")
    home.make()
    return home


def create(home: Home, spec: InstitutionSpec, passphrase: bytes) -> Institution:
    return fill_institution(home, spec, new_keystore(home, spec.slug, passphrase), passphrase=passphrase)


def test_an_institution_reads_back_as_it_was_made(home: Home) -> None:
    made = create(home, SPEC, SECRET)
    assert home.institution("hospital") == made
    assert home.institutions() == [made]
    assert pki.fingerprint(home.ca_der("hospital")) == made.anchor


def test_folders_and_keys_are_for_their_owner_alone(home: Home) -> None:
    create(home, SPEC, SECRET)
    paths = [path for path in [home.path, *home.path.rglob("*")] if path.parent.name != "blobs"]
    assert {path.stat().st_mode & 0o077 for path in paths} == {0}


def test_what_a_person_signs_with_lies_where_the_description_says(home: Home) -> None:
    made = create(home, SPEC, SECRET)
    keystore = home.keystore("hospital", SECRET)
    officer, physician = made.people
    assert keystore.load_signer("person-physician").public_key.hex() == physician.public_key
    assert "person-officer" not in keystore.names()
    key = load_device_key(home.people / "hospital-officer.key", SECRET)
    assert key.key_id.hex() == officer.key_id
    assert (officer.licence, len(physician.licence)) == ("", 64)


def test_a_licence_is_committed_to_with_a_salt(home: Home) -> None:
    first = create(home, SPEC, SECRET)
    second = create(home, msgspec.structs.replace(SPEC, slug="other"), SECRET)
    assert first.people[1].licence != second.people[1].licence


@pytest.mark.parametrize(
    ("people", "said"),
    [
        pytest.param((SPEC.people[0], SPEC.people[0]), "twice", id="one-label-twice"),
        pytest.param(
            (PersonSpec(label="physician", role=Role.PHYSICIAN, public_key="aa" * 32),), "made here", id="given-to-node"
        ),
        pytest.param(
            (PersonSpec(label="officer", role=Role.OFFICER, held_by=HeldBy.DEVICE, public_key="zz"),),
            "hex",
            id="no-hex",
        ),
        pytest.param(
            (PersonSpec(label="officer", role=Role.OFFICER, held_by=HeldBy.DEVICE, public_key="00" * 32),),
            "weak",
            id="weak-key",
        ),
    ],
)
def test_people_that_make_no_sense_are_refused(home: Home, people: tuple[PersonSpec, ...], said: str) -> None:
    with pytest.raises(SettingsError, match=said):
        create(home, msgspec.structs.replace(SPEC, people=people), SECRET)


def test_an_institution_is_made_once(home: Home) -> None:
    create(home, SPEC, SECRET)
    with pytest.raises(ConflictError, match="already"):
        create(home, SPEC, SECRET)


def test_no_name_leads_out_of_the_home(home: Home) -> None:
    with pytest.raises(NotFoundError, match="no name"):
        home.folder("../elsewhere")


def test_a_swapped_ca_certificate_is_noticed(home: Home) -> None:
    create(home, SPEC, SECRET)
    _, other = pki.make_ca("Other")
    (home.folder("hospital") / "ca.pem").write_bytes(pki.pem_of(other))
    with pytest.raises(VerificationError, match="another certificate"):
        home.ca_der("hospital")


def test_a_leaf_that_is_gone_is_issued_anew(home: Home) -> None:
    create(home, SPEC, SECRET)
    keystore = home.keystore("hospital", SECRET)
    files = ensure_leaf(home, "hospital", keystore)
    files.certificate.unlink()
    again = ensure_leaf(home, "hospital", keystore)
    leaf = pki.der_of(again.certificate.read_bytes())
    assert pki.member_of_leaf(leaf, [home.ca_der("hospital")]) == home.institution("hospital").anchor


def test_a_drawn_passphrase_lies_beside_the_home_for_its_owner_alone(home: Home) -> None:
    drawn = home.passphrase(Settings(), make=True)
    file = home.path.with_name("home.passphrase")
    assert (len(drawn), file.stat().st_mode & 0o777, home.passphrase(Settings())) == (64, 0o600, drawn)


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        pytest.param("missing", None, "YILIAN_PASSPHRASE_FILE", id="missing"),
        pytest.param("empty", b"\n", "empty", id="empty"),
        pytest.param("home/inside", b"secret", "inside the home", id="inside"),
    ],
)
def test_a_passphrase_that_is_no_protection_is_refused(
    home: Home, tmp_path: Path, name: str, content: bytes | None, said: str
) -> None:
    file = tmp_path / name
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(SettingsError, match=said):
        home.passphrase(Settings(passphrase_file=str(file)))


def test_a_home_that_is_not_there_cannot_be_locked(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="no home"), Home(tmp_path / "none").locked():
        pass
