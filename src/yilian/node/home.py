"""Where a node lives on disk: its folders, its lock, its institutions and their keys.

    node.toml  node.json  node.log  lock  index.db
    ledger/{genesis.cbor, peers.cbor, state/, segments/, cas/<fingerprint>.der}
    institutions/<slug>/{institution.toml, ca.pem, tls/{cert.pem, key.pem}, keys/, vault.db, blobs/}
    clients/<slug>-<label>.toml                      demo only

Beside it, never inside: `<home>.passphrase` (of the keystores) and `<home>.people/` (keys held on devices, and access
files to hand over).
"""

from __future__ import annotations

import os
import re
import secrets
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta

from yilian.client.devicekey import seal_device_key
from yilian.crypto.intl import Ed25519Signer, KeyPair, generate_x25519, x25519_from_private
from yilian.crypto.suite import SuiteId, is_weak, key_id_of, tagged_hash
from yilian.errors import ConflictError, NotFoundError, SettingsError, VerificationError
from yilian.ledger.members import DisplayName, HeldBy, InstitutionKind, Role
from yilian.node import pki
from yilian.node.host import TlsFiles
from yilian.node.settings import Settings
from yilian.storage.disk import Disk, disk_errors, lock_folder
from yilian.storage.keystore import FileKeystore
from yilian.values import Digest, InstitutionId, KeyId, PublicKey, Word, digest, public_key
from yilian.workflows.governance.interface import institution_id_of

CA, GATEWAY, EXCHANGE, VAULT, TLS, LEGAL_NAME = "ca", "gateway", "exchange", "vault", "tls", "legal-name"
"""Names of the institution's own keys in its keystore."""
INSTITUTION = "institution.toml"
"""The file that describes an institution, in its folder."""
_LABEL = r"^[a-z][a-z0-9-]{0,31}$"
Label = Annotated[str, Meta(pattern=_LABEL)]
"""A short name in lower case, of an institution or of a person inside one; never a person's own name."""


class Person(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A person's key as the institution's file lists it."""

    label: Label
    role: Role
    held_by: HeldBy
    key_id: str
    """Hex."""
    public_key: str
    """Hex."""
    licence: str = ""
    """Commitment of the licence, hex; empty where the role needs none."""


class Institution(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What `institution.toml` says; nothing in it is secret."""

    number: int
    """Counts the institutions of this home from 0; gives its port."""
    slug: Label
    name: DisplayName
    kind: InstitutionKind
    grade: Word = "none"
    district: Word = "000000"
    legal_name: str
    """Commitment of the legal name, hex."""
    ca_fingerprint: str
    gateway_key: str
    """Public key, hex."""
    exchange_key: str
    """Public key, hex."""
    people: tuple[Person, ...] = ()

    @property
    def anchor(self) -> Digest:
        """Fingerprint of the CA."""
        return _digest(self.ca_fingerprint)

    @property
    def id(self) -> InstitutionId:
        """Id on the ledger."""
        return institution_id_of(self.anchor)


class PersonSpec(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A person to register: where no `public_key` (hex) is given, a key is made."""

    label: Label
    role: Role
    held_by: HeldBy = HeldBy.NODE
    public_key: str = ""
    licence: str = ""
    """Number of the licence; only a salted commitment of it leaves the keystore."""


class InstitutionSpec(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An institution to make."""

    slug: Label
    name: DisplayName
    kind: InstitutionKind
    grade: Word = "none"
    district: Word = "000000"
    legal_name: str = ""
    """Empty = the name; only a salted commitment of it leaves the keystore."""
    people: tuple[PersonSpec, ...] = ()


class Home:
    """Paths of a home, and what concerns its folders as a whole."""

    def __init__(self, path: Path) -> None:
        self.path = path.absolute()
        self.settings_file = self.path / "node.toml"
        self.node_file = self.path / "node.json"
        self.log_file = self.path / "node.log"
        self.index_file = self.path / "index.db"
        self.ledger = self.path / "ledger"
        self.genesis_file = self.ledger / "genesis.cbor"
        self.peers_file = self.ledger / "peers.cbor"
        self.state = self.ledger / "state"
        self.segments = self.ledger / "segments"
        self.cas = self.ledger / "cas"
        self.institutions_folder = self.path / "institutions"
        self.clients = self.path / "clients"
        self.people = self.path.with_name(f"{self.path.name}.people")

    def make(self) -> None:
        """Make the home's folder, for the owner only."""
        with disk_errors(f"home {self.path}"):
            Disk().make_folder(self.path)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep every other process out; ConflictError where one has the home open."""
        if not self.path.is_dir():
            raise NotFoundError(f"there is no home {self.path}: found a network with `yilian network found`")
        descriptor = lock_folder(self.path)
        try:
            yield
        finally:
            os.close(descriptor)

    def passphrase_file(self, settings: Settings) -> Path:
        """Say where the passphrase of the keystores lies: where the settings say, else beside the home."""
        beside = self.path.with_name(f"{self.path.name}.passphrase")
        return Path(settings.passphrase_file).absolute() if settings.passphrase_file else beside

    def passphrase(self, settings: Settings, *, make: bool = False) -> bytes:
        """Read the passphrase of the keystores; with `make`, draw one where the file is absent.

        Raises:
            SettingsError: there is none, it is empty, or it lies inside the home.
        """
        file = self.passphrase_file(settings)
        if file.is_relative_to(self.path):
            raise SettingsError(f"passphrase file {file} lies inside the home: keep it elsewhere")
        if make and not file.exists():
            with disk_errors(f"passphrase file {file}"):
                Disk().store(file, secrets.token_hex(32).encode() + b"\n")
        try:
            content = file.read_bytes().strip()
        except OSError as error:
            raise SettingsError(
                f"passphrase file {file}: {error.strerror}: name it in YILIAN_PASSPHRASE_FILE"
            ) from error
        if not content:
            raise SettingsError(f"passphrase file {file} is empty: write a passphrase into it")
        return content

    def institutions(self) -> list[Institution]:
        """Read the institutions of this home, in the order they were made."""
        files = self.institutions_folder.glob(f"*/{INSTITUTION}")
        return sorted((read_institution(file) for file in files), key=lambda item: item.number)

    def institution(self, slug: str) -> Institution:
        """Read one institution; NotFoundError where there is none of this name."""
        file = self.folder(slug) / INSTITUTION
        if not file.is_file():
            known = ", ".join(item.slug for item in self.institutions()) or "none"
            raise NotFoundError(f"home {self.path} has no institution {slug}, it has {known}: name one of them")
        return read_institution(file)

    def folder(self, slug: str) -> Path:
        """Give the folder of an institution; NotFoundError for what cannot be a name."""
        if not re.match(_LABEL, slug):
            raise NotFoundError(f"{slug!r} is no name of an institution: use lower-case letters, digits and '-'")
        return self.institutions_folder / slug

    def keystore(self, slug: str, passphrase: bytes) -> FileKeystore:
        """Open the keystore of an institution; errors as `FileKeystore`."""
        return FileKeystore(self.folder(slug) / "keys", passphrase)

    def ca_der(self, slug: str) -> bytes:
        """Read the CA certificate of an institution, and make sure that it is the one its file names."""
        der = pki.der_of(_read(self.folder(slug) / "ca.pem"))
        if pki.fingerprint(der) != self.institution(slug).anchor:
            raise VerificationError(f"ca.pem of {slug} is another certificate than the one its file names: restore it")
        return der

    def store_ca(self, ca_der: bytes) -> None:
        """Keep the CA certificate of a member that joined."""
        with disk_errors(f"folder {self.cas}"):
            Disk().make_folder(self.cas)
            Disk().store(self.cas / f"{pki.fingerprint(ca_der).hex()}.der", ca_der)

    def stored_cas(self) -> list[bytes]:
        """Read the CA certificates of members that joined; VerificationError where a file is another certificate."""
        found = []
        for file in sorted(self.cas.glob("*.der")):
            ca_der = _read(file)
            if pki.fingerprint(ca_der).hex() != file.stem:
                raise VerificationError(f"{file} holds another certificate than it is named for: restore it")
            found.append(ca_der)
        return found


# ---------------------------------------------------------------------------------------------------------- making


def new_keystore(home: Home, slug: str, passphrase: bytes) -> FileKeystore:
    """Begin an institution with its folder and empty keystore; ConflictError where the home has one of this name."""
    folder = home.folder(slug)
    if folder.exists():
        raise ConflictError(f"home {home.path} has an institution {slug} already: choose another name")
    with disk_errors(f"institution {slug}"):
        Disk().make_folder(folder)
    return home.keystore(slug, passphrase)


def fill_institution(home: Home, spec: InstitutionSpec, keystore: FileKeystore, *, passphrase: bytes) -> Institution:
    """Make the CA, certificates and keys of an institution that `new_keystore` began.

    Keys of people that are held on a device and not given are written beside the home, for handing over.

    Raises:
        SettingsError: two people have one label, or a node is to hold a key that was given.
    """
    folder = home.folder(spec.slug)
    labels = [person.label for person in spec.people]
    if len(set(labels)) != len(labels):
        raise SettingsError(f"{spec.slug} lists a label twice ({', '.join(labels)}): give each person its own")
    ca_key, ca_der = pki.make_ca(spec.name)
    exchange = generate_x25519()
    keystore.create(CA, ca_key)
    gateway = keystore.create_signer(GATEWAY)
    keystore.create(EXCHANGE, exchange.private_key)
    keystore.create(VAULT, secrets.token_bytes(32))
    keystore.create(TLS, secrets.token_hex(16).encode())
    made = Institution(
        number=len(home.institutions()),
        slug=spec.slug,
        name=spec.name,
        kind=spec.kind,
        grade=spec.grade,
        district=spec.district,
        legal_name=_commit(keystore, LEGAL_NAME, spec.legal_name or spec.name).hex(),
        ca_fingerprint=pki.fingerprint(ca_der).hex(),
        gateway_key=gateway.public_key.hex(),
        exchange_key=exchange.public_key.hex(),
        people=tuple(
            make_person(home, spec.slug, person, keystore=keystore, passphrase=passphrase) for person in spec.people
        ),
    )
    with disk_errors(f"institution {spec.slug}"):
        Disk().store(folder / "ca.pem", pki.pem_of(ca_der))
        ensure_leaf(home, made.slug, keystore)
        store_institution(home, made)
    return made


def ensure_leaf(home: Home, slug: str, keystore: FileKeystore) -> TlsFiles:
    """Give an institution's certificates; its leaf is issued where it is absent or about to end."""
    folder = home.folder(slug) / "tls"
    password = keystore.load(TLS).decode()
    files = TlsFiles(
        ca=home.folder(slug) / "ca.pem", certificate=folder / "cert.pem", key=folder / "key.pem", password=password
    )
    present = files.certificate.is_file() and files.key.is_file()
    if not present or pki.needs_renewal(files.certificate.read_bytes()):
        certificate, key = pki.issue_leaf(keystore.load(CA), pki.der_of(_read(files.ca)), password)
        with disk_errors(f"certificates of {slug}"):
            Disk().make_folder(folder)
            Disk().store(files.key, key)
            Disk().store(files.certificate, certificate)
    return files


def store_institution(home: Home, institution: Institution) -> None:
    """Write `institution.toml`."""
    fields = msgspec.to_builtins(institution)
    people = fields.pop("people")
    lines = [f"{name} = {_toml(value)}" for name, value in fields.items()]
    for person in people:
        lines += ["", "[[people]]", *(f"{name} = {_toml(value)}" for name, value in person.items())]
    with disk_errors(f"institution {institution.slug}"):
        Disk().store(home.folder(institution.slug) / INSTITUTION, "\n".join([*lines, ""]).encode())


def exchange_pair(keystore: FileKeystore) -> KeyPair:
    """Load the X25519 half of the gateway pair."""
    return x25519_from_private(keystore.load(EXCHANGE))


def person_key_name(label: str) -> str:
    """Give the name of a person's key in the keystore."""
    return f"person-{label}"


def store_private(path: Path, content: bytes) -> None:
    """Write a file that only its owner reads, in a folder made where it is absent."""
    with disk_errors(f"file {path}"):
        Disk().make_folder(path.parent)
        Disk().store(path, content)


def remove(path: Path) -> None:
    """Remove a file that may be gone already."""
    with disk_errors(f"file {path}"):
        path.unlink(missing_ok=True)


def make_person(home: Home, slug: str, spec: PersonSpec, *, keystore: FileKeystore, passphrase: bytes) -> Person:
    """Make a person's key, or take the one that is given; errors as `fill_institution`."""
    if spec.public_key and spec.held_by == HeldBy.NODE:
        raise SettingsError(f"{slug} {spec.label}: a key held by the node is made here: leave public_key out")
    if spec.public_key:
        public, identifier = _given_key(spec.public_key, f"{slug} {spec.label}")
    else:
        signer = Ed25519Signer.generate()
        public, identifier = signer.public_key, signer.key_id
        if spec.held_by == HeldBy.NODE:
            keystore.create(person_key_name(spec.label), signer.seed)
        else:
            store_private(home.people / f"{slug}-{spec.label}.key", seal_device_key(signer, passphrase))
    licence = b""
    if spec.role in {Role.PHYSICIAN, Role.PHARMACIST}:
        licence = _commit(keystore, f"licence-{spec.label}", spec.licence or f"{slug}-{spec.label}")
    return Person(
        label=spec.label,
        role=spec.role,
        held_by=spec.held_by,
        key_id=identifier.hex(),
        public_key=public.hex(),
        licence=licence.hex(),
    )


def _given_key(public_hex: str, whose: str) -> tuple[PublicKey, KeyId]:
    try:
        public = public_key(bytes.fromhex(public_hex))
    except ValueError as error:
        raise SettingsError(f"public_key of {whose}: {error}: give 64 hex digits of an Ed25519 key") from error
    if is_weak(SuiteId.INTL, public):
        raise SettingsError(f"public_key of {whose} is weak: make another key")
    return public, key_id_of(SuiteId.INTL, public)


def _commit(keystore: FileKeystore, name: str, text: str) -> Digest:
    salt = secrets.token_bytes(32)
    keystore.create(name, salt + text.encode())
    return tagged_hash(f"yilian/{name.partition('-')[0]}/v1", salt, text.encode())


def _read(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise NotFoundError(f"{file}: {error.strerror}: restore it from a backup") from error


def read_institution(file: Path) -> Institution:
    """Read what describes an institution; VerificationError where it does not read."""
    try:
        return msgspec.convert(tomllib.loads(_read(file).decode()), Institution)
    except (UnicodeDecodeError, tomllib.TOMLDecodeError, msgspec.ValidationError) as error:
        raise VerificationError(f"{file} does not read ({error}): restore it from a backup") from error


def _digest(text: str) -> Digest:
    try:
        return digest(bytes.fromhex(text))
    except ValueError as error:
        raise VerificationError(f"{text!r} is no digest ({error}): restore institution.toml from a backup") from error


def _toml(value: object) -> str:
    # the strings of JSON are basic strings of TOML
    return msgspec.json.encode(value).decode()
