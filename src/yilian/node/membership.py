"""Become a member with a home of its own: fetch what there is of the chain, then take up the invitation."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from yilian.engine.gateway import check
from yilian.errors import NoGrantError, NotFoundError, UnavailableError, VerificationError
from yilian.ledger.envelope import InvalidTransaction
from yilian.ledger.members import LIVING, HeldBy
from yilian.ledger.trust import Trust
from yilian.node import home as homes
from yilian.node import joining
from yilian.node.bootstrap import DoorSnapshots, bootstrap
from yilian.node.compose import Node, now, open_node
from yilian.node.genesis import Founding
from yilian.node.home import Home, Institution, person_key_name
from yilian.node.host import Host
from yilian.node.ledger_doors import keep_ca
from yilian.node.settings import Settings
from yilian.values import case_id

JOIN_TIMEOUT_S = 60.0
CATCH_UP_S = 24 * 3600.0
LOOK_S = 0.5

Told = Callable[[int], None]
"""Told the height of this node while it catches up."""


def join(
    home: Home,
    settings: Settings,
    invitation_file: bytes,
    *,
    possession: bytes = b"",
    trust: Trust | None = None,
    told: Told = lambda *_: None,
) -> dict[str, str | int]:
    """Take up an invitation with the one institution of a home that no node runs, and leave the home at its member.

    The chain is fetched from the sequencer and executed from the genesis on; where that was cut off it goes on.

    Args:
        home: where `joining.initialise` made the institution.
        settings: of the home.
        invitation_file: what a member handed over.
        possession: by the officer's key over `joining.officer_message`, where the node does not hold it.
        trust: what is believed of checkpoints, to begin with a member's snapshot instead of the genesis.
        told: called while blocks come.

    Raises:
        VerificationError: the invitation does not hold, is for another, or the sequencer has another genesis.
        NoGrantError, UnavailableError: the members have not approved it yet, or the sequencer is away.
        Refused: the ledger says no, such as NOT_AS_VOTED.
    """
    invitation, founding = joining.read_invitation(invitation_file)
    institution = next((item for item in home.institutions() if item.id == invitation.institution), None)
    if institution is None:
        raise VerificationError(
            f"the invitation is for {invitation.institution.hex()}, home {home.path} has no such institution: "
            "use the home whose request was voted on"
        )
    joining.take_in(home, founding, invitation.peers)
    if trust is not None and not home.state.exists():
        begin_with_snapshot(home, settings, founding, invitation, institution=institution, trust=trust, told=told)
    node = open_node(home, settings)
    try:
        host = node.host(institution.slug)
        if node.line is not None:
            _check_genesis(node)
            _catch_up(node, told)
        if not is_member(node, host):
            take_up(node, host, institution, invitation=invitation, possession=possession)
        keep_ca(node, home.ca_der(institution.slug))
        head = node.engine.head()
        return {
            "institution": institution.slug,
            "id": host.id.hex(),
            "state": state_of(node, host),
            "chain": node.chain.hex(),
            "height": head.height,
            "app_hash": head.app_hash.hex(),
        }
    finally:
        node.close()


def begin_with_snapshot(
    home: Home,
    settings: Settings,
    founding: Founding,
    invitation: joining.Invitation,
    *,
    institution: Institution,
    trust: Trust,
    told: Told,
) -> None:
    """Fill a home's stores from the snapshot of the first member whose door gives one that holds.

    Raises:
        VerificationError: one was given that does not hold; the home has no stores.
        UnavailableError: no door gave one.
    """
    tls = homes.ensure_leaf(home, institution.slug, home.keystore(institution.slug, home.passphrase(settings)))
    said = "the invitation names no door"
    for peer in invitation.peers:
        if not peer.address:
            continue
        try:
            with DoorSnapshots(peer, tls) as source:
                bootstrap(home, founding, source, trust, now=now(), progress=lambda done, _total: told(done))
        except (UnavailableError, NotFoundError, NoGrantError) as error:
            said = str(error)
            continue
        return
    raise UnavailableError(f"no member gave a snapshot ({said}): try again, or join without --trust from the genesis")


def take_up(
    node: Node, host: Host, institution: Institution, *, invitation: joining.Invitation, possession: bytes
) -> None:
    """Submit the one operation of an invitation, and wait for its answer; errors as `join`."""
    officer = joining.officer_of(institution)
    if officer.held_by == HeldBy.NODE:
        signer = host.keystore.load_signer(person_key_name(officer.label))
        possession = signer.sign(joining.officer_message(node.chain, institution))
    transaction, _ = joining.join_transaction(
        node.registry,
        invitation,
        institution,
        keystore=host.keystore,
        officer_possession=possession,
        now=node.clock(),
    )
    result = node.engine.submit(transaction).result(JOIN_TIMEOUT_S)
    if result.code:
        raise InvalidTransaction(
            result.code, f"{result.message}: the members must have approved and applied the admission first"
        )
    check(result.answers[0])


def state_of(node: Node, host: Host) -> str:
    """Say what an institution is on the ledger; "requested" where it stands not there."""
    found = node.engine.find_case(case_id(host.id))
    return found[1].header.state if found is not None else "requested"


def is_member(node: Node, host: Host) -> bool:
    """Say whether an institution counts as a member."""
    return state_of(node, host) in LIVING


def _check_genesis(node: Node) -> None:
    line = node.line
    try:
        if line is None or line.genesis() == node.founding.content:
            return
    except NoGrantError as error:
        raise NoGrantError(
            f"the members have not approved and applied the invitation yet: join after that ({error})"
        ) from error
    raise VerificationError(
        f"the sequencer has another genesis than {node.chain.hex()}, which the invitation names: ask who invited you"
    )


def _catch_up(node: Node, told: Told) -> None:
    """Follow as far as the sequencer was when it was first heard: the invitation stands before that."""
    moved = threading.Event()
    unsubscribe = node.engine.subscribe(lambda _: moved.set())
    deadline = time.monotonic() + CATCH_UP_S
    try:
        while node.line is not None and (node.line.target is None or node.engine.head().height < node.line.target):
            if node.engine.failure is not None:
                raise VerificationError(f"this node follows no longer: {node.engine.failure}")
            if time.monotonic() > deadline:
                raise UnavailableError("the chain was not here within a day: join again, it goes on from here")
            told(node.engine.head().height)
            moved.wait(LOOK_S)
            moved.clear()
    finally:
        unsubscribe()
