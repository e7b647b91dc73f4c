"""The steps of a consent. What the kernel checked is not checked again."""

from __future__ import annotations

from msgspec.structs import replace

from yilian.errors import Refused
from yilian.ledger.cases import Found, Patient
from yilian.ledger.workflow import Call, Consequence, Outcome, Put, Reads, step
from yilian.values import CaseId, unix_millis
from yilian.workflows.catalog import interface as catalog
from yilian.workflows.consent.counting import fit_budget, holdings_of
from yilian.workflows.consent.covers import is_alive
from yilian.workflows.consent.model import (
    Amend,
    Attest,
    Attestations,
    Consent,
    ConsentState,
    Expire,
    GrantRevoke,
    Propose,
    Refusal,
    Reject,
    Revoke,
    Sign,
    Supersede,
)
from yilian.workflows.consent.narrowing import narrowing
from yilian.workflows.consent.policy import Policy, fault_of, is_narrower, permits_of


@step
def propose(call: Call, command: Propose, reads: Reads) -> Outcome[Consent]:
    """Put a policy to the patient; over its own records the proposer attests by this step.

    Refuses: POLICY_MALFORMED, BASIS_NOT_ALIVE (of the one to replace), NOT_THE_PATIENT.
    """
    policy = command.policy
    _check_policy(call, policy, reads)
    if (command.patient.key is None) == (command.patient.home is None):
        raise Refused(
            Refusal.POLICY_MALFORMED, "both or neither of case key and home are named: name who speaks for the patient"
        )
    if command.replaces is not None:
        _check_replaced(call, command.replaces, command.patient, reads)
    consent = Consent(
        institution=call.institution,
        text=command.text,
        language=command.language,
        policy_uri=command.policy_uri,
        policy=policy,
        replaces=command.replaces,
        lapse=unix_millis(call.time + reads.number("consent.lapse")),
        ends=policy.ends,
        paper=None,
        paper_entry=None,
        signed=unix_millis(0),
    )
    attested = Put(key=(call.case_id,), value=Attestations(custodians=(call.institution,)))
    return Outcome(consent, patient=command.patient, registers=(attested,))


@step
def sign(call: Call, command: Sign, case: Consent, reads: Reads) -> Outcome[Consent]:
    """Make the policy hold, and end the consent that it replaces.

    Refuses: TEXT_CHANGED, WITNESS_MISSING, CUSTODIAL_CAP, POLICY_MALFORMED (its period is over).
    """
    if command.text != case.text:
        raise Refused(
            Refusal.TEXT_CHANGED,
            f"text {command.text.hex()} was signed, {case.text.hex()} proposed: sign the text that was shown",
        )
    patient = call.header.patient if call.header is not None else None
    if patient is not None and patient.home is not None:
        _check_paper(command, patient, reads)
        _check_caps(call, case.policy, reads)
    _check_policy(call, case.policy, reads)
    signed = replace(case, paper=command.paper, paper_entry=command.paper_entry, signed=call.time)
    replaced = reads.case(Consent, case.replaces) if case.replaces is not None else None
    if replaced is None or replaced.state != ConsentState.ACTIVE:
        return Outcome(signed)
    ending = Consequence(case_id=replaced.header.id, command=Supersede())
    return Outcome(signed, consequences=(ending,))


@step
def reject(call: Call, command: Reject, case: Consent, reads: Reads) -> Outcome[Consent]:  # noqa: ARG001 - one signature
    """Say no to a proposal."""
    return Outcome(case)


@step
def attest(call: Call, command: Attest, case: Consent, reads: Reads) -> Outcome[Consent]:  # noqa: ARG001 - one signature
    """Give the consent force over the acting custodian's records; saying it again changes nothing.

    Refuses: TREE_FULL.
    """
    row = reads.register(Attestations, call.case_id) or Attestations(custodians=())
    if call.institution in row.custodians:
        return Outcome(case)
    if len(row.custodians) >= reads.number("consent.attestations"):
        raise Refused(
            Refusal.TREE_FULL, f"{len(row.custodians)} custodians attested already: propose another consent for more"
        )
    added = Attestations(custodians=(*row.custodians, call.institution))
    return Outcome(case, registers=(Put(key=(call.case_id,), value=added),))


@step
def expire(call: Call, command: Expire, case: Consent, reads: Reads) -> Outcome[Consent]:  # noqa: ARG001 - one signature
    """Make the end visible; grants never outlive the period of their consent."""
    return Outcome(case)


@step
def amend(call: Call, command: Amend, case: Consent, reads: Reads) -> Outcome[Consent]:
    """Narrow the policy, and every grant that relies on it.

    Refuses: POLICY_MALFORMED, NOT_NARROWER.
    """
    _check_policy(call, command.policy, reads)
    if not is_narrower(command.policy, case.policy):
        raise Refused(
            Refusal.NOT_NARROWER, "the new policy is wider in some field: propose a new consent that replaces this one"
        )
    registers = fit_budget(reads, call.case_id, command.policy.maximum)
    narrowed = replace(case, policy=command.policy, ends=command.policy.ends)
    consequences = narrowing(reads, call.case_id, command.policy, call.time)
    return Outcome(narrowed, registers=registers, consequences=consequences)


@step
def supersede(call: Call, command: Supersede, case: Consent, reads: Reads) -> Outcome[Consent]:  # noqa: ARG001 - one signature
    """End a consent whose successor was signed, and revoke its grants."""
    return Outcome(case, consequences=_revocations(call, reads))


@step
def revoke(call: Call, command: Revoke, case: Consent, reads: Reads) -> Outcome[Consent]:  # noqa: ARG001 - one signature
    """Take the consent back, and revoke every grant that relies on it in the same operation."""
    return Outcome(case, consequences=_revocations(call, reads))


def _revocations(call: Call, reads: Reads) -> tuple[Consequence, ...]:
    living = holdings_of(reads, call.case_id).living
    return tuple(Consequence(case_id=item.id, command=GrantRevoke(paper=None)) for item in living)


def _check_policy(call: Call, policy: Policy, reads: Reads) -> None:
    fault, deepest = fault_of(policy), reads.number("consent.depth")
    if not fault and policy.depth > deepest:
        fault = f"depth {policy.depth} is over {deepest}"
    if not fault and policy.ends <= call.time:
        fault = f"ends {policy.ends} is not after block time {call.time}"
    if fault:
        raise Refused(Refusal.POLICY_MALFORMED, f"{fault}: correct the policy")


def _check_replaced(call: Call, replaced: CaseId, patient: Patient, reads: Reads) -> None:
    found: Found[Consent] | None = reads.case(Consent, replaced)
    if found is None or not is_alive(found, call.time):
        raise Refused(
            Refusal.BASIS_NOT_ALIVE, f"consent {replaced.hex()} is not active: propose one that replaces nothing"
        )
    # The link between both is public anyway, so the same case key signs both: nobody can end another patient's consent.
    if found.header.patient != patient:
        raise Refused(
            Refusal.NOT_THE_PATIENT,
            f"consent {replaced.hex()} is spoken for by another key or home: name the same one in its successor",
        )


def _check_paper(command: Sign, patient: Patient, reads: Reads) -> None:
    found = catalog.current(reads, command.paper_entry) if command.paper_entry is not None else None
    if found is None or found.fields.custodian != patient.home or found.fields.commitment != command.paper:
        raise Refused(
            Refusal.WITNESS_MISSING,
            "the paper is no current entry of the home with this commitment: publish the witnessed scan first",
        )


def _check_caps(call: Call, policy: Policy, reads: Reads) -> None:
    allowed = reads.words("consent.custodial_purposes")
    purposes = [purpose for item in permits_of(policy) for purpose in item.purposes]
    if any(purpose not in allowed for purpose in purposes):
        raise Refused(
            Refusal.CUSTODIAL_CAP,
            f"a home may sign for {', '.join(allowed)} only: ask the patient to sign with an own key",
        )
    longest = reads.number("consent.custodial_period")
    if policy.ends - max(policy.begins, call.time) > longest:
        raise Refused(
            Refusal.CUSTODIAL_CAP, f"a home may sign for {longest} ms at most: choose an earlier end than {policy.ends}"
        )
    deepest = reads.number("consent.custodial_depth")
    if policy.depth > deepest:
        raise Refused(
            Refusal.CUSTODIAL_CAP, f"depth is {policy.depth}, a home may sign for {deepest}: allow no onward transfer"
        )
