"""Join a network: the request of a newcomer, the invitation of the members, and the one operation that takes it up."""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Mapping
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from yilian import canonical
from yilian.client.devicekey import load_device_key
from yilian.crypto.intl import Ed25519Signer
from yilian.crypto.suite import Signer, SuiteId, framed, is_weak, verify
from yilian.errors import ConflictError, NotFoundError, SettingsError, VerificationError
from yilian.ledger import envelope
from yilian.ledger.members import DisplayName, HeldBy, InstitutionKind, Role
from yilian.ledger.registry import Registry
from yilian.node import pki
from yilian.node.addresses import Addresses, Peer
from yilian.node.genesis import Founding, load_founding
from yilian.node.genesis import verify as verify_genesis
from yilian.node.home import (
    CA,
    GATEWAY,
    Home,
    Institution,
    InstitutionSpec,
    Person,
    fill_institution,
    new_keystore,
    person_key_name,
)
from yilian.node.network import issue_all_access
from yilian.node.settings import Settings
from yilian.storage.disk import Disk, disk_errors
from yilian.storage.keystore import FileKeystore
from yilian.values import (
    DAY,
    MINUTE,
    Digest,
    InstitutionId,
    Natural,
    OpId,
    PublicKey,
    Signature,
    UnixMillis,
    Word,
    case_id,
    digest,
    institution_id,
    op_id,
    public_key,
    unix_millis,
)
from yilian.workflows.governance.interface import institution_id_of, keys_digest, possession_message
from yilian.workflows.governance.model import KeyRegister, MemberJoin, NewKey
from yilian.workflows.governance.records import Admit

KEY_DAYS = 3 * 365
JOIN_VALIDITY = 30 * MINUTE
_KEYS_TAG = "yilian/join-keys/v1"
_REQUEST_TAG = b"yilian/join-request/v1\0"


class _Wire(msgspec.Struct, frozen=True, kw_only=True, array_like=True, forbid_unknown_fields=True):
    pass


class Request(_Wire, frozen=True, kw_only=True):
    """What a newcomer asks the members to vote on."""

    version: Annotated[int, Meta(ge=1, le=1)] = 1
    ca: Annotated[bytes, Meta(max_length=8192)]
    """CA certificate, DER."""
    name: DisplayName
    kind: InstitutionKind
    grade: Word
    district: Word
    legal_name: Digest
    gateway_key: PublicKey
    exchange_key: PublicKey
    officer_key: PublicKey
    gateway_proof: Signature
    officer_proof: Signature
    """Both over `message`."""

    @property
    def owner(self) -> InstitutionId:
        """Id that the newcomer will have."""
        return institution_id_of(pki.fingerprint(self.ca))

    def message(self) -> bytes:
        """Give the bytes that gateway and officer sign."""
        return framed(_KEYS_TAG, self.owner, self.gateway_key, self.exchange_key, self.officer_key)


class SignedRequest(_Wire, frozen=True, kw_only=True):
    """The request file: the CA signs the request's bytes, so that nobody asks with another's CA."""

    request: bytes
    signature: Annotated[bytes, Meta(max_length=256)]


class Invitation(_Wire, frozen=True, kw_only=True):
    """The invitation file. Its one-time key is good for one `member.join` of what was voted on, nothing else."""

    version: Annotated[int, Meta(ge=1, le=1)] = 1
    chain: Digest
    genesis: bytes
    """The content of `genesis.cbor`; its signatures are checked before use."""
    peers: Annotated[tuple[Peer, ...], Meta(max_length=1024)]
    constitution: Natural
    """Version of the constitution that joining accepts."""
    institution: InstitutionId
    """Whom it is for."""
    one_time_key: Annotated[bytes, Meta(min_length=32, max_length=32)]
    """Seed of the key; keep the file secret until it is used."""


def initialise(home: Home, settings: Settings, spec: InstitutionSpec) -> tuple[Institution, bytes]:
    """Make an institution that is to join, and give its request file's bytes.

    The officer's key is made here, on a device where the description says so. Errors as `fill_institution`.
    """
    officers = [person for person in spec.people if person.role == Role.OFFICER]
    if len(officers) != 1 or officers[0].public_key:
        raise SettingsError(
            f"{spec.slug} lists {len(officers)} officers, expected one whose key is made here: correct the people"
        )
    home.make()
    passphrase = home.passphrase(settings, make=True)
    keystore = new_keystore(home, spec.slug, passphrase)
    made = fill_institution(home, spec, keystore, passphrase=passphrase)
    issue_all_access(home, made, keystore, home.clients if home.clients.is_dir() else home.people)
    officer = officer_of(made)
    if officer.held_by == HeldBy.NODE:
        signer = keystore.load_signer(person_key_name(officer.label))
    else:
        signer = load_device_key(home.people / f"{made.slug}-{officer.label}.key", passphrase)
    return made, make_request(home, made, keystore, signer)


def make_request(home: Home, institution: Institution, keystore: FileKeystore, officer: Signer) -> bytes:
    """Write the request of an institution, signed by its gateway key, its officer's key and its CA."""
    request = Request(
        ca=home.ca_der(institution.slug),
        name=institution.name,
        kind=institution.kind,
        grade=institution.grade,
        district=institution.district,
        legal_name=digest(bytes.fromhex(institution.legal_name)),
        gateway_key=public_key(bytes.fromhex(institution.gateway_key)),
        exchange_key=public_key(bytes.fromhex(institution.exchange_key)),
        officer_key=officer.public_key,
        gateway_proof=bytes(64),
        officer_proof=bytes(64),
    )
    message = request.message()
    request = msgspec.structs.replace(
        request, gateway_proof=keystore.load_signer(GATEWAY).sign(message), officer_proof=officer.sign(message)
    )
    content = canonical.encode(request)
    signature = pki.sign_with_ca(keystore.load(CA), _REQUEST_TAG + content)
    return canonical.encode(SignedRequest(request=content, signature=signature))


def read_request(content: bytes) -> Request:
    """Check a request file: the CA, its signature, and that gateway and officer hold their keys.

    Raises:
        VerificationError: something does not hold.
    """
    signed = canonical.decode(content, SignedRequest)
    request = canonical.decode(signed.request, Request)
    pki.check_ca(request.ca)
    message = request.message()
    keys = ((request.gateway_key, request.gateway_proof), (request.officer_key, request.officer_proof))
    holds = all(not is_weak(SuiteId.INTL, key) and verify(SuiteId.INTL, key, message, proof) for key, proof in keys)
    if not holds or not pki.verify_with_ca(request.ca, _REQUEST_TAG + signed.request, signed.signature):
        raise VerificationError(
            f"the request of {request.owner.hex()} is not signed by its CA and both its keys: ask for a new one"
        )
    return request


def admission(request: Request, one_time: Signer) -> Admit:
    """Give the action to propose for a request. The newcomer runs its own machine."""
    return Admit(
        ca_fingerprint=pki.fingerprint(request.ca),
        keys_digest=keys_digest(request.gateway_key, request.exchange_key, request.officer_key),
        kind=request.kind,
        operator=request.owner,
        name=request.name,
        legal_name=request.legal_name,
        district=request.district,
        grade=request.grade,
        suite=SuiteId.INTL,
        one_time_key=one_time.public_key,
    )


def make_invitation(
    founding: Founding, request: Request, one_time: Ed25519Signer, *, constitution: int, peers: tuple[Peer, ...]
) -> bytes:
    """Write the invitation that goes with an admission; it is good once the members have approved."""
    return canonical.encode(
        Invitation(
            chain=founding.genesis.chain,
            genesis=founding.content,
            peers=peers,
            constitution=constitution,
            institution=request.owner,
            one_time_key=one_time.seed,
        )
    )


def read_invitation(content: bytes) -> tuple[Invitation, Founding]:
    """Check an invitation file: its genesis is signed by all founders and is the chain that it names.

    Raises:
        VerificationError: something does not hold.
    """
    invitation = canonical.decode(content, Invitation)
    founding = verify_genesis(invitation.genesis)
    if founding.genesis.chain != invitation.chain:
        raise VerificationError(
            f"the invitation names chain {invitation.chain.hex()}, its genesis is {founding.genesis.chain.hex()}: "
            "ask for another"
        )
    return invitation, founding


def take_in(home: Home, founding: Founding, peers: Iterable[Peer]) -> None:
    """Make a home one of a chain: its genesis, where members' doors are, and their CA certificates.

    Raises:
        ConflictError: the home holds another chain.
        VerificationError: a door comes with another CA than its institution's.
    """
    if home.genesis_file.exists():
        found = load_founding(home).genesis.chain
        if found != founding.genesis.chain:
            raise ConflictError(
                f"home {home.path} holds chain {found.hex()}, the invitation is to {founding.genesis.chain.hex()}: "
                "choose another home"
            )
    listed = [peer for peer in peers if peer.address]
    Addresses(home.peers_file).learn(listed)
    for peer in listed:
        home.store_ca(peer.ca)
    with disk_errors(f"genesis of {home.path}"):
        Disk().make_folder(home.ledger)
        # last: from here on the home holds a network
        Disk().store(home.genesis_file, founding.content)


def officer_of(institution: Institution) -> Person:
    """Give the first officer of an institution; NotFoundError where it has none."""
    found = next((person for person in institution.people if person.role == Role.OFFICER), None)
    if found is None:
        raise NotFoundError(f"{institution.slug} has no officer: make the institution anew with one")
    return found


def officer_message(chain: Digest, institution: Institution) -> bytes:
    """Give what the first officer signs so that its key may be registered."""
    officer = public_key(bytes.fromhex(officer_of(institution).public_key))
    return possession_message(chain, institution.id, officer, None)


def new_key(person: Person, *, possession: bytes, now: UnixMillis) -> NewKey:
    """Give the key of a person as `key.register` and `member.join` take it."""
    return NewKey(
        suite=SuiteId.INTL,
        public_key=public_key(bytes.fromhex(person.public_key)),
        exchange_key=None,
        held_by=person.held_by,
        licence=digest(bytes.fromhex(person.licence)) if person.licence else None,
        valid_from=now,
        valid_until=unix_millis(now + KEY_DAYS * DAY),
        possession=possession,
    )


def join_transaction(
    registry: Registry,
    invitation: Invitation,
    institution: Institution,
    *,
    keystore: FileKeystore,
    officer_possession: bytes,
    now: UnixMillis,
) -> tuple[bytes, OpId]:
    """Build the one envelope that the one-time key may sign: `member.join` with the keys of the request.

    Raises:
        VerificationError: the invitation is for another institution.
    """
    if invitation.institution != institution.id:
        raise VerificationError(
            f"the invitation is for {invitation.institution.hex()}, {institution.slug} is {institution.id.hex()}: "
            "use the invitation made for its request"
        )
    officer = new_key(officer_of(institution), possession=officer_possession, now=now)
    command = MemberJoin(
        ca_fingerprint=institution.anchor,
        gateway=_gateway_key(invitation.chain, institution, keystore.load_signer(GATEWAY), like=officer),
        officer=officer,
        constitution=invitation.constitution,
    )
    bound = registry.by_type[MemberJoin]
    drawn = op_id(secrets.token_bytes(16))
    core = envelope.Core(
        op_id=drawn,
        workflow=bound.workflow.name,
        command=bound.word,
        case_id=case_id(institution.id),
        case_version=1,
        refs=(),
        body=canonical.encode(command),
        claims_root=None,
    )
    transaction = envelope.sign_transaction(
        [envelope.encode_operation(envelope.encode_core(core), ())],
        Ed25519Signer.from_seed(invitation.one_time_key),
        chain=invitation.chain,
        actor=institution.id,
        valid_until=unix_millis(now + JOIN_VALIDITY),
    )
    return transaction, drawn


def _gateway_key(chain: Digest, institution: Institution, gateway: Signer, *, like: NewKey) -> NewKey:
    exchange = public_key(bytes.fromhex(institution.exchange_key))
    return msgspec.structs.replace(
        like,
        public_key=gateway.public_key,
        exchange_key=exchange,
        held_by=HeldBy.NODE,
        possession=gateway.sign(possession_message(chain, institution.id, gateway.public_key, exchange)),
    )


def registration(made: Mapping[str, Any]) -> KeyRegister:
    """Turn what `control.NodeControl.make_key` gave for a person's key into the command that registers it."""
    start = unix_millis(int(made["valid_from"]))
    key = NewKey(
        suite=SuiteId.INTL,
        public_key=public_key(bytes.fromhex(made["public_key"])),
        exchange_key=None,
        held_by=HeldBy(made["held_by"]),
        licence=digest(bytes.fromhex(made["licence"])) if made["licence"] else None,
        valid_from=start,
        valid_until=unix_millis(start + KEY_DAYS * DAY),
        possession=bytes.fromhex(made["possession"]),
    )
    return KeyRegister(role=Role(made["role"]), key=key)


def peers_of(home: Home, institutions: Iterable[Mapping[str, Any]]) -> tuple[Peer, ...]:
    """List the open doors of a node's institutions, as its status names them."""
    return tuple(
        Peer(
            institution=institution_id(bytes.fromhex(item["id"])),
            ca=home.ca_der(item["slug"]),
            address=item["address"],
        )
        for item in institutions
        if item["address"]
    )
