"""The API on real sockets: who may, what is answered, what is refused, what happens once however often it is sent."""

from __future__ import annotations

import base64
import secrets
from collections.abc import Iterator
from typing import Any

import httpx
import msgspec
import pytest

from yilian import canonical
from yilian.client.http import Client, signed
from yilian.client.wallet import opened_case_id
from yilian.crypto.intl import Ed25519Signer
from yilian.demo.residents import DemoOrganisation, generate
from yilian.errors import ConflictError, NoGrantError, NotFoundError, Refused, SettingsError
from yilian.ledger import envelope
from yilian.ledger.envelope import Core
from yilian.ledger.members import Role
from yilian.standards.fhir.organisations import ProviderKind
from yilian.testing.served import Served, serve
from yilian.values import HOUR, digest, institution_id, op_id, unix_millis

CENTRE = DemoOrganisation(identifier="91320400000000001X", name="Lake Community Centre", kind=ProviderKind.COMMUNITY)
HOSPITAL = DemoOrganisation(identifier="91320400000000002X", name="City Hospital", kind=ProviderKind.HOSPITAL)
MAPPING = {CENTRE.identifier: "centre", HOSPITAL.identifier: "hospital"}
PAPER = base64.b64encode(b"a signed consent, scanned").decode()


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with serve(tmp_path_factory.mktemp("api")) as node:
        yield node


@pytest.fixture(scope="module")
def imported(served: Served, tmp_path_factory: pytest.TempPathFactory) -> Served:
    folder = tmp_path_factory.mktemp("fhir")
    for name, content in generate(6, 7, (CENTRE, HOSPITAL)):
        (folder / name).write_bytes(content)
    with served.client("centre-data-officer") as officer:
        job = officer.post("/v1/imports", {"path": str(folder), "mapping": MAPPING, "only_mapped": True})
        assert officer.wait_for_job(job["job_id"])["progress"]["published"] > 6
    served.wait_projected()
    return served


@pytest.fixture
def officer(imported: Served) -> Iterator[Client]:
    with imported.client("centre-data-officer") as client:
        yield client


@pytest.fixture
def physician(imported: Served) -> Iterator[Client]:
    with imported.client("hospital-physician") as client:
        yield client


def _entry(client: Client) -> str:
    return str(client.get("/v1/entries", custodian=client.me()["institution"])["items"][0]["entry_id"])


def _proposal(client: Client, patient: dict[str, str | None]) -> dict[str, object]:
    now = client.get("/v1/ledger")["time"]
    base = {
        "effect": "permit", "recipients": [], "recipient_kinds": ["hospital"], "roles": [], "custodians": [],
        "purposes": ["TREAT"], "kinds": [], "level_from": 1, "level_to": 4, "month_from": 22_800,
        "month_to": 119_999, "begins": 0, "ends": now + 9 * HOUR,
    }  # fmt: skip
    policy = {
        "begins": now, "ends": now + 9 * HOUR, "maximum": 5, "depth": 0, "access": "view", "erase_by": None,
        "base": base, "exceptions": [],
    }  # fmt: skip
    text = secrets.token_hex(32)
    return {"patient": patient, "text": text, "language": "zh", "policy_uri": text, "policy": policy, "replaces": None}


# --------------------------------------------------------------------------------------------------------------- who


@pytest.mark.parametrize("path", ["/v1/me", "/v1/entries", "/v1/cases", "/v1/ledger", "/v1/events", "/v1/operations"])
def test_nothing_is_answered_without_a_key(served: Served, path: str) -> None:
    answer = httpx.get(served.url + path)

    assert answer.status_code == 401
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["code"] == "Unauthenticated"


def test_an_unknown_key_is_told_so_in_the_language_of_the_caller(served: Served) -> None:
    headers = {"authorization": "Bearer " + "0" * 64, "accept-language": "zh-CN,zh;q=0.9"}

    answer = httpx.get(served.url + "/v1/me", headers=headers).json()

    assert answer["status"] == 401
    assert answer["title"] == "需要有效的接口密钥"


def test_the_transaction_route_wants_a_key_too(served: Served) -> None:
    assert httpx.post(served.url + "/v1/transactions", content=b"\x80").status_code == 401


def test_health_readiness_and_description_are_open(served: Served) -> None:
    assert httpx.get(served.url + "/healthz").json() == {"status": "ok"}
    assert httpx.get(served.url + "/readyz").json()["ready"] is True
    assert httpx.get(served.url + "/openapi.json").json()["openapi"].startswith("3.1")


@pytest.mark.parametrize("path", ["/schema", "/schema/", "/schema/swagger", "/schema/redoc", "/schema/openapi.json"])
def test_no_page_of_the_web_framework_is_served(served: Served, path: str) -> None:
    token = msgspec.toml.decode(served.access_file("centre-data-officer").read_bytes())["token"]

    answer = httpx.get(served.url + path, headers={"authorization": f"Bearer {token}"})

    assert answer.status_code == 404
    assert answer.headers["content-type"].startswith("application/problem+json")


def test_every_answer_carries_the_security_headers(served: Served) -> None:
    headers = httpx.get(served.url + "/healthz").headers

    assert headers["x-content-type-options"] == "nosniff"
    assert headers["content-security-policy"].startswith("default-src 'none'")


def test_a_key_stands_for_one_person_of_one_institution(officer: Client) -> None:
    me = officer.me()

    assert (me["slug"], me["label"], me["role"]) == ("centre", "data-officer", "data_officer")
    assert me["signs_here"] is True
    assert me["acts_as_node"] is True


def test_an_open_record_of_another_institution_is_not_found_here(officer: Client, physician: Client) -> None:
    with pytest.raises(NotFoundError):
        physician.record(_entry(officer))


def test_a_role_that_has_no_business_with_it_is_turned_away(physician: Client) -> None:
    with pytest.raises(NoGrantError, match="data_officer"):
        physician.post("/v1/imports", {"path": "/"})


def test_a_step_of_the_gateway_alone_wants_the_scope_of_the_node(physician: Client, officer: Client) -> None:
    with pytest.raises(NoGrantError, match="not open to a physician"):
        physician.act("catalog", "catalog.withdraw", {}, case_id=_entry(officer))


def test_a_step_at_the_wrong_institution_is_refused_by_the_ledger_itself(imported: Served, officer: Client) -> None:
    with imported.client("hospital-data-officer") as stranger, pytest.raises(Refused) as refused:
        stranger.act("catalog", "catalog.restrict", {}, case_id=_entry(officer))

    assert (refused.value.workflow, refused.value.number) == ("kernel", 2)


# -------------------------------------------------------------------------------------------------------- what is asked


def test_a_wrong_field_is_named(officer: Client) -> None:
    with pytest.raises(SettingsError, match="paper"):
        officer.act("consent", "grant.revoke", {"paper": "xyz"}, case_id="00" * 32)


def test_an_unknown_field_is_refused(officer: Client) -> None:
    with pytest.raises(SettingsError, match="more"):
        officer.act("consent", "grant.revoke", {"more": 1}, case_id="00" * 32)


def test_a_body_beyond_the_limit_is_refused(served: Served, officer: Client) -> None:
    with pytest.raises(SettingsError):
        officer.post("/v1/submit", {"core": "00" * 1_000_000})


def test_a_path_that_is_none_points_to_the_description(officer: Client) -> None:
    with pytest.raises(NotFoundError, match="openapi"):
        officer.get("/v1/nothing")


def test_pages_follow_each_other_to_the_last_row(officer: Client) -> None:
    first = officer.get("/v1/entries", limit=2)
    rows = list(officer.pages("/v1/entries", limit=2))

    assert first["next"] is not None
    assert len(rows) == len({row["entry_id"] for row in rows}) > 2


@pytest.mark.parametrize("query", [{"limit": 0}, {"limit": 201}, {"cursor": "nonsense"}, {"custodian": "xyz"}])
def test_a_wrong_page_is_a_problem(officer: Client, query: dict[str, object]) -> None:
    with pytest.raises(SettingsError):
        officer.get("/v1/entries", **query)


def test_ids_are_found_by_their_beginning(officer: Client) -> None:
    entry = _entry(officer)

    assert officer.resolve(entry[:12]) == entry
    with pytest.raises(NotFoundError):
        officer.resolve("0" * 40)
    with pytest.raises(SettingsError):
        officer.resolve("abc")


def test_a_case_says_what_can_be_done_now_and_by_whom(officer: Client, physician: Client) -> None:
    entry = _entry(officer)

    own = {one["command"]: one["mine"] for one in officer.case(entry)["actions"]}
    other = {one["command"]: one["mine"] for one in physician.case(entry)["actions"]}

    assert own["catalog.restrict"] is True
    assert other["catalog.restrict"] is False


def test_the_members_and_their_keys_are_listed(officer: Client) -> None:
    members = officer.get("/v1/network/members")
    keys = officer.get("/v1/network/keys", owner=members[0]["id"])

    assert [one["slug"] for one in members] == ["centre", "hospital", "bureau"]
    assert officer.get("/v1/network/proposals")["items"] == []
    assert {one["role"] for one in keys} == {"node", "officer", "data_officer", "physician"}


# ----------------------------------------------------------------------------------------------------------- once only


def test_the_same_key_gives_the_same_answer_and_acts_once(officer: Client) -> None:
    entry = _entry(officer)
    path, key = "/v1/workflows/catalog/catalog.restrict", secrets.token_hex(16)

    first = officer.post(path, {"case_id": entry, "command": {}}, idempotency_key=key)
    again = officer.post(path, {"case_id": entry, "command": {}}, idempotency_key=key)

    assert first == again
    assert officer.case(entry)["version"] == 2
    officer.act("catalog", "catalog.unrestrict", {}, case_id=entry)


def test_the_same_key_for_another_request_is_a_conflict(officer: Client) -> None:
    key = secrets.token_hex(16)
    path = "/v1/workflows/consent/consent.propose/draft"
    home = {"key": None, "home": officer.me()["institution"]}
    officer.post("/v1/workflows/consent/consent.propose", {"command": _proposal(officer, home)}, idempotency_key=key)

    with pytest.raises(ConflictError, match="another request"):
        officer.post(
            "/v1/workflows/consent/consent.propose", {"command": _proposal(officer, home)}, idempotency_key=key
        )
    assert officer.post(path, {"command": _proposal(officer, home)})["command"] == "consent.propose"


# ---------------------------------------------------------------------------------------------------- signed elsewhere


def test_a_patient_signs_outside_the_node_with_a_key_made_for_the_case(officer: Client) -> None:
    me, op = officer.me(), secrets.token_hex(16)
    key = Ed25519Signer.generate()
    proposal = _proposal(officer, {"key": key.public_key.hex(), "home": None})
    consent = officer.act("consent", "consent.propose", proposal, op_id=op)["case_id"]
    body = {"text": proposal["text"], "paper": None, "paper_entry": None}

    draft = officer.draft("consent", "consent.sign", body, case_id=consent, signers=[(key.key_id.hex(), "patient")])
    answer = officer.submit(draft, signed(draft, key))

    chain, actor = digest(bytes.fromhex(me["chain"])), institution_id(bytes.fromhex(me["institution"]))
    assert consent == opened_case_id(chain, actor, op_id(bytes.fromhex(op))).hex()
    assert answer["state"] == "active"
    assert officer.case(consent)["registers"]["attestations"]["custodians"] == [me["institution"]]


def test_a_signature_by_another_key_enters_no_block(officer: Client) -> None:
    key, thief = Ed25519Signer.generate(), Ed25519Signer.generate()
    proposal = _proposal(officer, {"key": key.public_key.hex(), "home": None})
    consent = officer.act("consent", "consent.propose", proposal)["case_id"]
    body = {"text": proposal["text"], "paper": None, "paper_entry": None}
    draft = officer.draft("consent", "consent.sign", body, case_id=consent, signers=[(thief.key_id.hex(), "patient")])

    with pytest.raises((Refused, NoGrantError)):
        officer.submit(draft, signed(draft, thief))
    assert officer.case(consent)["state"] == "proposed"


def test_a_core_without_signatures_wants_the_scope_of_the_node(officer: Client, physician: Client) -> None:
    home = {"key": None, "home": officer.me()["institution"]}
    draft = officer.draft("consent", "consent.propose", _proposal(officer, home))

    with pytest.raises(NoGrantError, match="sign the draft"):
        physician.submit(draft, [])
    assert officer.submit(draft, [])["state"] == "proposed"


def test_two_officers_sign_one_step_together(imported: Served) -> None:
    inspector, second = imported.client("bureau-inspector"), imported.client("bureau-second-officer")
    with inspector, second:
        centre = inspector.institution("centre")
        asked = {"legal_basis": "law", "institutions": [centre], "period_from": 20_000, "period_to": 21_000}
        case = inspector.act("audit", "inspection.open", asked | {"question": "00" * 32})["case_id"]
        second.act("audit", "inspection.approve_scope", {}, case_id=case)
        inspector.act("audit", "inspection.export", {"manifest": "00" * 32}, case_id=case)
        inspector.act("audit", "inspection.find", {"finding": "00" * 32, "severity": "minor"}, case_id=case)
        with pytest.raises(NoGrantError, match="with second_officer"):
            inspector.act("audit", "inspection.close", {"grants": []}, case_id=case)
        draft = inspector.draft("audit", "inspection.close", {"grants": []}, case_id=case)

        closed = inspector.submit(draft, [inspector.sign(draft), second.sign(draft)])

    assert closed["state"] == "closed"


# ------------------------------------------------------------------------------------------------------------ raw route


def _envelope(served: Served) -> bytes:
    host = served.node.host("centre")
    entry = next(iter(host.vault.records.each())).entry_id
    core = envelope.encode_core(
        Core(
            op_id=op_id(secrets.token_bytes(16)),
            workflow="catalog",
            command="catalog.restrict",
            case_id=entry,
            case_version=1,
            refs=(),
            body=canonical.encode([]),
            claims_root=None,
        )
    )
    gateway = host.keystore.load_signer("gateway")
    until = unix_millis(served.node.engine.head().time + HOUR // 2)
    return envelope.sign_transaction(
        [envelope.encode_operation(core)], gateway, chain=served.node.chain, actor=host.id, valid_until=until
    )


def test_an_envelope_of_a_members_own_gateway_is_answered_once_it_is_durable(imported: Served) -> None:
    token = msgspec.toml.decode(imported.access_file("centre-data-officer").read_bytes())["token"]
    headers = {"authorization": f"Bearer {token}"}
    content = _envelope(imported)

    as_cbor = httpx.post(imported.url + "/v1/transactions", content=content, headers=headers)
    as_json = httpx.post(
        imported.url + "/v1/transactions", content=content, headers=headers | {"accept": "application/json"}
    )

    code, _, ((_, _, result, leaf, height, _),) = canonical.decode_builtins(as_cbor.content)
    assert (code, as_cbor.status_code) == (0, 200)
    assert height <= imported.node.engine.head().height
    assert as_json.json()[2][0][2:5] == [result, leaf, height]


def test_bytes_that_are_no_envelope_are_answered_with_their_code(imported: Served) -> None:
    token = msgspec.toml.decode(imported.access_file("centre-data-officer").read_bytes())["token"]

    answer = httpx.post(
        imported.url + "/v1/transactions", content=b"\x00", headers={"authorization": f"Bearer {token}"}
    )

    assert answer.status_code == 422
    assert canonical.decode_builtins(answer.content)[0] == envelope.TransactionCode.MALFORMED


# ------------------------------------------------------------------------------------------------------------- records


def test_an_own_record_is_opened_verified_and_never_cached(imported: Served, officer: Client) -> None:
    host = imported.node.host("centre")
    entry = next(iter(host.vault.records.each())).entry_id.hex()
    token = msgspec.toml.decode(imported.access_file("centre-data-officer").read_bytes())["token"]

    answer = httpx.get(f"{imported.url}/v1/records/{entry}", headers={"authorization": f"Bearer {token}"})

    assert answer.headers["cache-control"] == "no-store"
    assert answer.json()
    assert officer.post(f"/v1/records/{entry}/verify")["entry_id"] == entry


def test_events_are_followed_from_a_height_and_resumed_by_the_last_one_seen(imported: Served, officer: Client) -> None:
    token = msgspec.toml.decode(imported.access_file("centre-data-officer").read_bytes())["token"]
    headers = {"authorization": f"Bearer {token}"}

    first = _first_block(imported, headers, "?after=0&workflow=catalog")
    second = _first_block(imported, headers | {"last-event-id": str(first["height"])}, "?workflow=catalog")

    assert first["events"][0]["command"] == "catalog.publish"
    assert second["height"] > first["height"]


def _first_block(served: Served, headers: dict[str, str], query: str) -> dict[str, Any]:
    with httpx.stream("GET", f"{served.url}/v1/events{query}", headers=headers, timeout=20) as answer:
        line = next(line for line in answer.iter_lines() if line.startswith("data:"))
    block: dict[str, Any] = msgspec.json.decode(line.removeprefix("data:"))
    return block


def test_a_job_of_another_institution_is_not_found(imported: Served, physician: Client) -> None:
    job = imported.node.host("centre").vault.access.jobs()[0].job_id.hex()

    with pytest.raises(NotFoundError):
        physician.get(f"/v1/jobs/{job}")


def test_a_job_that_is_done_cannot_be_cancelled(imported: Served, officer: Client) -> None:
    job = imported.node.host("centre").vault.access.jobs()[0].job_id.hex()

    with pytest.raises(ConflictError, match="DONE"):
        officer.delete(f"/v1/jobs/{job}")


def test_an_import_of_nothing_says_so(officer: Client) -> None:
    with pytest.raises(NotFoundError):
        officer.post("/v1/imports", {"path": "/nowhere/at/all"})
    with pytest.raises(SettingsError, match="relative"):
        officer.post("/v1/imports", {"path": "bundles"})


def test_the_description_names_every_command_that_people_may_send(served: Served) -> None:
    paths = httpx.get(served.url + "/openapi.json").json()["paths"]
    registry = served.node.registry
    sendable = {
        f"/v1/workflows/{bound.workflow.name}/{word}"
        for (_, word), bound in registry.commands.items()
        if any(one.kind != "workflow" for row in bound.rows for one in row.who.alternatives)
    }

    assert sendable <= set(paths)
    assert "/v1/transactions" in paths


def test_roles_are_words_of_the_ledger(officer: Client) -> None:
    with pytest.raises(SettingsError, match="no role"):
        officer.draft("catalog", "catalog.restrict", {}, case_id=_entry(officer), signers=[("00" * 32, "wizard")])
    assert Role("data_officer") == officer.me()["role"]
