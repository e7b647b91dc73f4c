"""First acts: the consortium is founded, and a newcomer admitted by invitation and ballots."""

from __future__ import annotations

from typing import Any

from yilian.crypto.intl import Ed25519Signer
from yilian.demo.consortium import FOUNDERS, LAKESIDE, NEWCOMER, institution_spec, network_spec, people_of
from yilian.demo.faces import Face
from yilian.demo.stage import Stage
from yilian.demo.telling import short
from yilian.errors import Refused
from yilian.ledger.members import Role
from yilian.node import joining
from yilian.node.compose import now
from yilian.node.genesis import load_founding
from yilian.node.network import found_demo
from yilian.workflows.governance.model import ProposalApply, ProposalOpen, ProposalVote
from yilian.workflows.governance.records import Choice


def found(stage: Stage) -> None:
    """Found the consortium; its node does not run yet."""
    stage.tell.chapter("founding")
    made = found_demo(stage.home, stage.settings, network_spec(stage.tell.language), now())
    stage.tell.say("founded", count=len(made.institutions), chain=short(made.chain.hex()))
    for place in FOUNDERS:
        stage.tell.detail("founder", name=stage.name(place), slug=place.slug)


def admit(stage: Stage) -> None:
    """Admit the newcomer: request, proposal, ballots, invitation, one operation with the one-time key."""
    if stage.is_done("admission"):
        return
    stage.tell.chapter("admission")
    request = _request(stage)
    stage.tell.say("asked", name=stage.name(NEWCOMER))
    one_time = Ed25519Signer.generate()
    asked = joining.read_request(request)
    proposer = stage.face(LAKESIDE, "officer")
    proposal = proposer.take(ProposalOpen(action=joining.admission(asked, one_time)))["case_id"]
    stage.tell.say("proposed", name=stage.name(LAKESIDE), proposal=short(proposal))
    stage.tell.say("voted", count=_vote(stage, proposal))
    proposer.take(ProposalApply(), proposal)
    status: dict[str, Any] = stage.control.status()
    invitation = joining.make_invitation(
        load_founding(stage.home),
        asked,
        one_time,
        constitution=int(status["constitution"]),
        peers=joining.peers_of(stage.home, status["institutions"]),
    )
    stage.control.join(NEWCOMER.slug, invitation)
    stage.meet()
    stage.tell.say("joined", name=stage.name(NEWCOMER))
    _register_people(stage)
    stage.finish("admission")


def _request(stage: Stage) -> bytes:
    home, settings = stage.home, stage.settings
    if not home.folder(NEWCOMER.slug).exists():
        return joining.initialise(home, settings, institution_spec(NEWCOMER, stage.tell.language))[1]
    # a run before was cut between the request and the admission
    made, keystore = home.institution(NEWCOMER.slug), home.keystore(NEWCOMER.slug, home.passphrase(settings))
    officer = keystore.load_signer(f"person-{joining.officer_of(made).label}")
    return joining.make_request(home, made, keystore, officer)


def _vote(stage: Stage, proposal: str) -> int:
    """Let the officers vote until it is decided."""
    for number, place in enumerate(FOUNDERS, 1):
        officer: Face = stage.face(place, "officer")
        if officer.take(ProposalVote(choice=Choice.YES), proposal)["state"] == "approved":
            return number
    raise Refused(0, f"{len(FOUNDERS)} ballots did not approve {proposal}: read the constitution")


def _register_people(stage: Stage) -> None:
    officer, number = stage.face(NEWCOMER, "officer"), 0
    for person in people_of(NEWCOMER):
        if person.role != Role.OFFICER:
            made = stage.control.make_key(NEWCOMER.slug, {"label": person.label, "role": person.role.value})
            officer.take(joining.registration(made))
            number += 1
    stage.tell.say("registered", count=number)
