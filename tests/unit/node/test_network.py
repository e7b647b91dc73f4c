"""Founding, opening, closing and joining, with real files and a real ledger."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from yilian import canonical
from yilian.crypto.intl import Ed25519Signer
from yilian.errors import ConflictError, NotFoundError, SettingsError, VerificationError
from yilian.ledger.members import HeldBy, InstitutionKind, MemberState, Role
from yilian.ledger.results import Answer
from yilian.node import genesis, joining
from yilian.node.compose import Node, now, open_node
from yilian.node.home import Home, InstitutionSpec, PersonSpec
from yilian.node.joining import officer_message
from yilian.node.network import NetworkSpec, found, found_demo, read_access
from yilian.node.settings import Settings
from yilian.values import case_id
from yilian.web.kit.keys import token_hash
from yilian.workflows.governance.model import ProposalApply, ProposalOpen, ProposalVote
from yilian.workflows.governance.records import Choice

THREE = NetworkSpec(
    name="test",
    institutions=(
        InstitutionSpec(slug="centre", name="Lake Community Centre", kind=InstitutionKind.COMMUNITY_CENTRE),
        InstitutionSpec(slug="hospital", name="City Hospital", kind=InstitutionKind.HOSPITAL, grade="tertiary"),
        InstitutionSpec(slug="bureau", name="Health Bureau", kind=InstitutionKind.REGULATOR),
    ),
    admit_delay_ms=0,
    tree_depth=8,
    parameters={"consent.lease": 600_000},
)
TOWNSHIP = InstitutionSpec(
    slug="township",
    name="Township Centre",
    kind=InstitutionKind.COMMUNITY_CENTRE,
    people=(PersonSpec(label="officer", role=Role.OFFICER), PersonSpec(label="physician", role=Role.PHYSICIAN)),
)
SETTINGS = Settings(engine=msgspec.structs.replace(Settings().engine, second_core=False))


@pytest.fixture
def demo_home(tmp_path: Path) -> Home:
    home = Home(tmp_path / "home")
    found_demo(home, SETTINGS, THREE, now())
    return home


def _admit(node: Node, request: bytes, one_time: Ed25519Signer) -> bytes:
    asked = joining.read_request(request)
    centre = node.host("centre")
    opened = _as_officer(node, "centre", ProposalOpen(action=joining.admission(asked, one_time)))
    for slug in ("centre", "hospital"):
        host = node.host(slug)
        officer = host.person(Role.OFFICER)
        host.gateway.act(ProposalVote(choice=Choice.YES), opened.case_id, persons=[(officer.signer, Role.OFFICER)])
    centre.gateway.act(ProposalApply(), opened.case_id)
    return joining.make_invitation(node.founding, asked, one_time, constitution=1, peers=())


def _as_officer(node: Node, slug: str, command: ProposalOpen) -> Answer:
    host = node.host(slug)
    return host.gateway.act(command, persons=[(host.person(Role.OFFICER).signer, Role.OFFICER)])


def test_a_founded_network_opens_closes_and_opens_again_where_it_was(demo_home: Home) -> None:
    node = open_node(demo_home, SETTINGS)
    action = joining.admission(
        joining.read_request(joining.initialise(demo_home, SETTINGS, TOWNSHIP)[1]), Ed25519Signer.generate()
    )
    opened = _as_officer(node, "hospital", ProposalOpen(action=action))
    head = node.engine.head()
    node.close()

    again = open_node(demo_home, SETTINGS)
    found_again = again.engine.find_case(opened.case_id)
    head_again = again.engine.head()
    hosts = sorted(again.hosts)
    again.close()

    assert head_again == head
    assert found_again is not None
    assert hosts == ["bureau", "centre", "hospital", "township"]


def test_founders_are_active_members_with_the_keys_of_their_people(demo_home: Home) -> None:
    node = open_node(demo_home, SETTINGS)
    hospital = node.host("hospital")
    member = node.engine.find_case(case_id(hospital.id))
    keys = [node.engine.find_case(case_id(person.key_id)) for person in hospital.people]
    lease = node.engine.reads().number("consent.lease")
    node.close()

    assert member is not None
    assert member[1].header.state == MemberState.ACTIVE
    assert [person.role for person in hospital.people] == [Role.OFFICER, Role.DATA_OFFICER, Role.PHYSICIAN]
    assert None not in keys
    assert lease == 600_000


def test_a_home_is_open_in_one_place_at_a_time(demo_home: Home) -> None:
    node = open_node(demo_home, SETTINGS)
    with pytest.raises(ConflictError, match="open already"):
        open_node(demo_home, SETTINGS)
    node.close()


def test_another_passphrase_is_a_matter_of_settings(demo_home: Home, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.write_text("wrong")
    with pytest.raises(SettingsError, match="passphrase"):
        open_node(demo_home, msgspec.structs.replace(SETTINGS, passphrase_file=str(other)))


def test_outside_a_demo_no_node_holds_an_officer_key(tmp_path: Path) -> None:
    people = (PersonSpec(label="officer", role=Role.OFFICER, held_by=HeldBy.NODE),)
    spec = msgspec.structs.replace(THREE, institutions=(msgspec.structs.replace(THREE.institutions[0], people=people),))
    with pytest.raises(SettingsError, match="held by a device"):
        found(Home(tmp_path / "home"), SETTINGS, spec, now())


def test_outside_a_demo_officers_get_a_key_file_beside_the_home(tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    made = found(home, SETTINGS, msgspec.structs.replace(THREE, institutions=THREE.institutions[:1]), now())
    node = open_node(home, SETTINGS)
    with pytest.raises(NotFoundError, match="no key of a officer"):
        node.host("centre").person(Role.OFFICER)
    node.close()

    access = read_access(made.access_files[0])
    assert (tmp_path / "home.people" / "centre-officer.key").is_file()
    assert (access.institution, access.role, access.held_by) == ("centre", Role.OFFICER, HeldBy.DEVICE)
    assert sorted(path.name for path in home.path.iterdir()) == ["index.db", "institutions", "ledger", "lock"]


def test_a_second_founding_in_one_home_is_a_conflict(demo_home: Home) -> None:
    with pytest.raises(ConflictError, match="already"):
        found_demo(demo_home, SETTINGS, THREE, now())


def test_a_founding_that_fails_leaves_no_institution(tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    with pytest.raises(SettingsError, match=r"no\.such"):
        found(home, SETTINGS, msgspec.structs.replace(THREE, parameters={"no.such": 1}), now())
    assert not home.path.exists()


def test_a_genesis_that_a_founder_did_not_sign_is_not_opened(demo_home: Home) -> None:
    file = canonical.decode(demo_home.genesis_file.read_bytes(), genesis.GenesisFile)
    swapped = (file.consents[1], file.consents[0], file.consents[2])
    demo_home.genesis_file.write_bytes(canonical.encode(msgspec.structs.replace(file, consents=swapped)))
    with pytest.raises(VerificationError, match="did not sign"):
        open_node(demo_home, SETTINGS)


def test_a_newcomer_joins_with_its_invitation_and_only_once(demo_home: Home) -> None:
    node = open_node(demo_home, SETTINGS)
    township, request = joining.initialise(demo_home, SETTINGS, TOWNSHIP)
    host = node.add_host(township)
    invitation, _ = joining.read_invitation(_admit(node, request, Ed25519Signer.generate()))
    possession = host.person(Role.OFFICER).signer.sign(officer_message(node.chain, township))
    results = []
    for _ in range(2):
        transaction, _op = joining.join_transaction(
            node.registry, invitation, township, keystore=host.keystore, officer_possession=possession, now=node.clock()
        )
        results.append(node.engine.submit(transaction).result(30))
    member = node.engine.find_case(case_id(host.id))
    node.close()

    assert results[0].answers[0].ok
    assert results[1].code != 0
    assert member is not None
    assert member[1].header.state == MemberState.ACTIVE


def test_an_invitation_does_not_bind_another_institution(demo_home: Home) -> None:
    node = open_node(demo_home, SETTINGS)
    _, request = joining.initialise(demo_home, SETTINGS, TOWNSHIP)
    thief, _ = joining.initialise(demo_home, SETTINGS, msgspec.structs.replace(TOWNSHIP, slug="thief"))
    invitation, _ = joining.read_invitation(_admit(node, request, Ed25519Signer.generate()))
    keystore = demo_home.keystore("thief", demo_home.passphrase(SETTINGS))
    with pytest.raises(VerificationError, match="is for"):
        joining.join_transaction(
            node.registry, invitation, thief, keystore=keystore, officer_possession=bytes(64), now=node.clock()
        )
    node.close()


def test_a_request_signed_by_another_ca_is_refused(demo_home: Home) -> None:
    _, first = joining.initialise(demo_home, SETTINGS, TOWNSHIP)
    _, second = joining.initialise(demo_home, SETTINGS, msgspec.structs.replace(TOWNSHIP, slug="other"))
    mixed = msgspec.structs.replace(
        canonical.decode(first, joining.SignedRequest),
        signature=canonical.decode(second, joining.SignedRequest).signature,
    )
    with pytest.raises(VerificationError, match="not signed"):
        joining.read_request(canonical.encode(mixed))


def test_access_files_open_only_to_their_owner_and_hold_a_token_that_the_vault_knows_by_hash(demo_home: Home) -> None:
    file = demo_home.clients / "hospital-physician.toml"
    access = read_access(file)
    node = open_node(demo_home, SETTINGS)
    kept = node.host("hospital").vault.access.find_api_key(token_hash(access.token))
    node.close()

    assert file.stat().st_mode & 0o777 == 0o600
    assert kept is not None
    assert (kept.label, kept.key_id.hex(), access.token.encode() in kept.token_hash) == (
        "physician", access.key_id, False,
    )  # fmt: skip
