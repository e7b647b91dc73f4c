"""Found a network in a home: institutions, genesis, access files."""

from __future__ import annotations

import shutil
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path

import msgspec

from yilian import canonical
from yilian.crypto.suite import SuiteId
from yilian.errors import ConflictError, SettingsError
from yilian.ledger.block import DEFAULT_DEPTH, Founder, Genesis
from yilian.ledger.members import (
    HeldBy,
    InstitutionKind,
    Key,
    Member,
    Parameter,
    Parameters,
    Role,
    may_hold,
)
from yilian.node import pki
from yilian.node.genesis import Consent, GenesisFile
from yilian.node.genesis import verify as verify_genesis
from yilian.node.home import (
    CA,
    VAULT,
    Home,
    Institution,
    InstitutionSpec,
    Person,
    PersonSpec,
    fill_institution,
    new_keystore,
    store_private,
)
from yilian.node.settings import Settings
from yilian.storage.disk import Disk, disk_errors
from yilian.storage.keystore import FileKeystore
from yilian.storage.vault import Vault
from yilian.storage.vault.access import ApiKey
from yilian.values import (
    DAY,
    Digest,
    UnixMillis,
    Word,
    digest,
    key_id,
    public_key,
    unix_millis,
)
from yilian.web.kit.keys import new_token, token_hash
from yilian.workflows.governance.founding import default_constitution, default_parameters
from yilian.workflows.governance.model import KEY_VALIDITY, OFFICER_KEY_ON_NODE
from yilian.workflows.registry import WORKFLOWS

_CARE = (
    PersonSpec(label="data-officer", role=Role.DATA_OFFICER),
    PersonSpec(label="physician", role=Role.PHYSICIAN),
)
_STATE = (
    PersonSpec(label="inspector", role=Role.INSPECTOR),
    PersonSpec(label="second-officer", role=Role.SECOND_OFFICER),
    PersonSpec(label="auditor", role=Role.AUDITOR),
)


class NetworkSpec(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A network to found; the file that `yilian network found` reads has these names."""

    name: Word
    institutions: tuple[InstitutionSpec, ...]
    """In their order; the first runs the sequencer."""
    parameters: dict[str, int] = {}
    """Numbers of the chain that differ from the defaults, such as `"consent.lease" = 600000`; times in ms."""
    admit_delay_ms: int = 3 * DAY
    voting_period_ms: int = 14 * DAY
    tree_depth: int = DEFAULT_DEPTH


class AccessFile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a caller of the API needs: hand it over, and keep no copy. `url` is filled in when the node starts."""

    url: str = ""
    token: str
    institution: str
    label: str
    role: Role
    key_id: str
    held_by: HeldBy


class Founded(msgspec.Struct, frozen=True, kw_only=True):
    """What founding a network made."""

    chain: Digest
    institutions: tuple[Institution, ...]
    access_files: tuple[Path, ...]


def read_spec(file: Path) -> NetworkSpec:
    """Read the description of a network; SettingsError where it does not read."""
    try:
        return msgspec.convert(tomllib.loads(file.read_text(encoding="utf-8")), NetworkSpec)
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError, msgspec.ValidationError) as error:
        raise SettingsError(f"{file} describes no network ({error}): correct it") from error


def default_people(kind: InstitutionKind) -> tuple[PersonSpec, ...]:
    """Give the people of an institution that names none: an officer on a device, and who its kind works through."""
    officer = PersonSpec(label="officer", role=Role.OFFICER, held_by=HeldBy.DEVICE)
    others = _STATE if kind == InstitutionKind.REGULATOR else _CARE
    return (officer, *(person for person in others if may_hold(kind, person.role)))


def found(home: Home, settings: Settings, spec: NetworkSpec, now: UnixMillis) -> Founded:
    """Found a network: make its institutions, the genesis, and every founding CA's signature over it.

    Raises:
        ConflictError: the home holds something already.
        SettingsError: the description does not make sense.
    """
    return _found(home, settings, spec, _Terms(now=now, is_demo=False))


def found_demo(home: Home, settings: Settings, spec: NetworkSpec, now: UnixMillis) -> Founded:
    """Found a network whose officers' keys lie on the node, as a chain's own parameter says; errors as `found`."""
    return _found(home, settings, spec, _Terms(now=now, is_demo=True))


class _Terms(msgspec.Struct, frozen=True, kw_only=True):
    now: UnixMillis
    is_demo: bool


def _found(home: Home, settings: Settings, spec: NetworkSpec, terms: _Terms) -> Founded:
    institutions = _checked(spec, terms)
    if home.genesis_file.exists() or home.institutions_folder.exists():
        raise ConflictError(f"home {home.path} holds a network or institutions already: choose another home")
    home.make()
    with home.locked():
        passphrase = home.passphrase(settings, make=True)
        try:
            keystores = [new_keystore(home, item.slug, passphrase) for item in institutions]
            made = tuple(
                fill_institution(home, item, keystore, passphrase=passphrase)
                for item, keystore in zip(institutions, keystores, strict=True)
            )
            genesis = _genesis(spec, made, terms)
            content = _signed(home, genesis, zip(made, keystores, strict=True))
            folder = home.clients if terms.is_demo else home.people
            files = tuple(
                file
                for item, keystore in zip(made, keystores, strict=True)
                for file in issue_all_access(home, item, keystore, folder)
            )
            with disk_errors(f"genesis of {home.path}"):
                Disk().make_folder(home.ledger)
                # last: from here on the home holds a network
                Disk().store(home.genesis_file, content)
        except BaseException:
            shutil.rmtree(home.institutions_folder, ignore_errors=True)
            raise
    return Founded(chain=genesis.chain, institutions=made, access_files=files)


def _checked(spec: NetworkSpec, terms: _Terms) -> tuple[InstitutionSpec, ...]:
    slugs = [item.slug for item in spec.institutions]
    if not slugs or len(set(slugs)) != len(slugs):
        raise SettingsError(f"the network lists institutions {slugs}: name at least one, each once")
    known = {item.name for item in default_parameters(WORKFLOWS).items}
    unknown = sorted(set(spec.parameters) - known)
    if unknown:
        raise SettingsError(f"the network sets {', '.join(unknown)}, no parameter of a chain: correct the names")
    return tuple(_with_people(item, terms) for item in spec.institutions)


def _with_people(item: InstitutionSpec, terms: _Terms) -> InstitutionSpec:
    people = item.people or default_people(item.kind)
    if terms.is_demo:
        people = tuple(msgspec.structs.replace(person, held_by=HeldBy.NODE) for person in people)
    if not any(person.role == Role.OFFICER for person in people):
        raise SettingsError(f'{item.slug} has no officer: add a person with role = "officer"')
    for person in people:
        if not may_hold(item.kind, person.role):
            raise SettingsError(f"{item.slug} {person.label}: a {item.kind} has no {person.role}: give another role")
        if person.role == Role.OFFICER and person.held_by == HeldBy.NODE and not terms.is_demo:
            raise SettingsError(
                f"{item.slug} {person.label}: an officer's key is held by a device, never by a node: "
                'set held_by = "device"'
            )
    return msgspec.structs.replace(item, people=people)


def _genesis(spec: NetworkSpec, made: Iterable[Institution], terms: _Terms) -> Genesis:
    numbers = dict(spec.parameters)
    numbers[OFFICER_KEY_ON_NODE] = int(terms.is_demo)
    parameters = Parameters(
        items=tuple(
            Parameter(name=item.name, number=numbers.get(item.name, item.number), words=item.words)
            for item in default_parameters(WORKFLOWS).items
        )
    )
    validity = next(item.number for item in parameters.items if item.name == KEY_VALIDITY)
    ends = unix_millis(terms.now + validity)
    return Genesis(
        version=1,
        name=spec.name,
        time=terms.now,
        suites=(SuiteId.INTL,),
        tree_depth=spec.tree_depth,
        workflows=tuple(item.name for item in WORKFLOWS),
        founders=tuple(Founder(member=_member(item), keys=_keys(item, terms.now, ends)) for item in made),
        constitution=default_constitution(admit_delay=spec.admit_delay_ms, voting_period=spec.voting_period_ms),
        parameters=parameters,
    )


def _member(item: Institution) -> Member:
    return Member(
        kind=item.kind,
        operator=item.id,
        name=item.name,
        legal_name=digest(bytes.fromhex(item.legal_name)),
        district=item.district,
        grade=item.grade,
        ca_fingerprint=item.anchor,
        keys_digest=digest(bytes(32)),
        votes_from=unix_millis(0),
        expires=unix_millis(0),
        leaves_on=unix_millis(0),
    )


def _keys(item: Institution, start: UnixMillis, end: UnixMillis) -> tuple[Key, ...]:
    gateway = Person(label="gateway", role=Role.NODE, held_by=HeldBy.NODE, key_id="", public_key=item.gateway_key)
    return tuple(
        Key(
            owner=item.id,
            role=person.role,
            suite=SuiteId.INTL,
            public_key=public_key(bytes.fromhex(person.public_key)),
            exchange_key=public_key(bytes.fromhex(item.exchange_key)) if person.role == Role.NODE else None,
            held_by=person.held_by,
            licence=digest(bytes.fromhex(person.licence)) if person.licence else None,
            valid_from=start,
            valid_until=end,
            compromised_since=unix_millis(0),
        )
        for person in (gateway, *item.people)
    )


def _signed(home: Home, genesis: Genesis, made: Iterable[tuple[Institution, FileKeystore]]) -> bytes:
    consents = tuple(
        Consent(ca=home.ca_der(item.slug), signature=pki.sign_genesis(keystore.load(CA), genesis.chain))
        for item, keystore in made
    )
    content = canonical.encode(GenesisFile(genesis=canonical.encode(genesis), consents=consents))
    verify_genesis(content)
    return content


# ---------------------------------------------------------------------------------------------------------- access


def issue_access(vault: Vault, institution: Institution, person: Person) -> AccessFile:
    """Draw an API token for a person, and keep its hash; the token stands in the answer alone."""
    token = new_token()
    vault.access.put_api_key(
        ApiKey(
            token_hash=token_hash(token),
            key_id=key_id(bytes.fromhex(person.key_id)),
            role=str(person.role),
            label=person.label,
        )
    )
    return AccessFile(
        token=token,
        institution=institution.slug,
        label=person.label,
        role=person.role,
        key_id=person.key_id,
        held_by=person.held_by,
    )


def store_access(file: Path, access: AccessFile) -> None:
    """Write an access file, for its owner only."""
    fields: Mapping[str, object] = msgspec.to_builtins(access)
    lines = [f"{name} = {msgspec.json.encode(value).decode()}" for name, value in fields.items()]
    store_private(file, "\n".join([*lines, ""]).encode())


def read_access(file: Path) -> AccessFile:
    """Read an access file; SettingsError where it is none."""
    try:
        return msgspec.convert(tomllib.loads(file.read_text(encoding="utf-8")), AccessFile)
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError, msgspec.ValidationError) as error:
        raise SettingsError(f"{file} is no access file ({error}): name one that was handed over") from error


def publish_url(home: Home, url: str) -> None:
    """Write the API's address into the access files of the home's institutions that are still here."""
    hosted = {item.slug for item in home.institutions()}
    for file in sorted([*home.clients.glob("*.toml"), *home.people.glob("*.toml")]):
        access = read_access(file)
        if access.institution in hosted and access.url != url:
            store_access(file, msgspec.structs.replace(access, url=url))


def issue_all_access(home: Home, item: Institution, keystore: FileKeystore, folder: Path) -> list[Path]:
    """Write an access file into a folder for each person of an institution that no node has open."""
    vault = Vault(home.folder(item.slug) / "vault.db", keystore.load(VAULT))
    files = []
    try:
        for person in item.people:
            file = folder / f"{item.slug}-{person.label}.toml"
            store_access(file, issue_access(vault, item, person))
            files.append(file)
    finally:
        vault.close()
    return files
