"""The tables of consent, grant, use and emergency access: who may move what, when."""

from __future__ import annotations

from yilian.ledger.members import Role
from yilian.ledger.workflow import ANY, SELF, Ref, anyone, moves, node, opens, patient, person, workflow
from yilian.workflows.consent.emergency_model import (
    EmergencyAskCosignature,
    EmergencyClose,
    EmergencyCosign,
    EmergencyDecline,
    EmergencyExpire,
    EmergencyJudge,
    EmergencyMatch,
    EmergencyNotify,
    EmergencyOpen,
    EmergencyState,
)
from yilian.workflows.consent.model import (
    LIVING,
    Amend,
    Attest,
    ConsentState,
    EndGrant,
    Expire,
    GrantAcknowledge,
    GrantDelegate,
    GrantExhaust,
    GrantExpire,
    GrantIssue,
    GrantNarrow,
    GrantReopen,
    GrantResume,
    GrantRevoke,
    GrantState,
    GrantSuspend,
    IssueGrant,
    OpenChild,
    Propose,
    Reject,
    Revoke,
    Sign,
    Supersede,
    UseConfirm,
    UseDecline,
    UseDeliver,
    UseDispute,
    UseExpire,
    UseForgive,
    UseReserve,
    UseState,
)

_C, _G, _U, _E = ConsentState, GrantState, UseState, EmergencyState

READERS = (
    Role.PHYSICIAN,
    Role.NURSE,
    Role.PHARMACIST,
    Role.TECHNICIAN,
    Role.DATA_OFFICER,
    Role.INVESTIGATOR,
    Role.RESEARCHER,
    Role.MONITOR,
    Role.STATISTICIAN,
    Role.ADJUSTER,
    Role.CASE_OFFICER,
    Role.EPIDEMIOLOGIST,
    Role.QC_OFFICER,
    Role.INSPECTOR,
    Role.SECOND_OFFICER,
    Role.AUDITOR,
)
"""People who may ask for deliveries; the policy narrows them by its own roles."""
_WITNESSES = (Role.PHYSICIAN, Role.NURSE)
_BASES = workflow("referral") | workflow("audit") | workflow(SELF)
_INSPECTION = Ref(case_type="inspection", states=("scope_approved",), at_least=0, at_most=1)

CONSENT_ROWS = (
    opens(
        "consent.propose",
        Propose,
        _C.PROPOSED,
        who=node(ANY) | person(ANY, Role.PHYSICIAN, Role.DATA_OFFICER),
    ),
    moves("consent.sign", Sign, _C.PROPOSED, _C.ACTIVE, who=patient(*_WITNESSES), before="lapse"),
    moves("consent.reject", Reject, _C.PROPOSED, _C.REJECTED, who=patient(), before="lapse", any_version=True),
    moves("consent.attest", Attest, _C.ACTIVE, who=anyone(), any_version=True),
    moves("consent.expire", Expire, _C.PROPOSED, _C.EXPIRED, who=anyone(), after="lapse", any_version=True),
    moves("consent.expire", Expire, _C.ACTIVE, _C.EXPIRED, who=anyone(), after="ends", any_version=True),
    moves("consent.amend", Amend, _C.ACTIVE, who=patient(), before="ends", while_suspended=True),
    moves("consent.supersede", Supersede, _C.ACTIVE, _C.INACTIVE, who=workflow(SELF)),
    moves("consent.revoke", Revoke, _C.ACTIVE, _C.REVOKED, who=patient(), while_suspended=True, any_version=True),
)

GRANT_ROWS = (
    opens("grant.issue", GrantIssue, _G.ISSUED, who=node(ANY), while_suspended=True, refs=(_INSPECTION,)),
    opens("consent.issue_grant", IssueGrant, _G.ISSUED, who=_BASES),
    opens("grant.open_child", OpenChild, _G.ISSUED, who=workflow(SELF)),
    moves(
        "grant.delegate",
        GrantDelegate,
        _G.ISSUED,
        (_G.ISSUED, _G.EXHAUSTED),
        who=person("recipient", *READERS),
    ),
    moves(
        "grant.suspend",
        GrantSuspend,
        _G.ISSUED,
        _G.SUSPENDED,
        who=patient() | person("custodian", Role.DATA_OFFICER) | person(ANY, Role.INSPECTOR),
        while_suspended=True,
        any_version=True,
    ),
    moves(
        "grant.resume",
        GrantResume,
        _G.SUSPENDED,
        _G.ISSUED,
        who=patient() | person("custodian", Role.DATA_OFFICER) | person(ANY, Role.INSPECTOR),
    ),
    moves("grant.exhaust", GrantExhaust, _G.ISSUED, _G.EXHAUSTED, who=workflow(SELF)),
    moves("grant.reopen", GrantReopen, _G.EXHAUSTED, _G.ISSUED, who=workflow(SELF)),
    moves("grant.narrow", GrantNarrow, LIVING, (*LIVING, _G.REVOKED), who=workflow(SELF)),
    moves(
        "grant.revoke",
        GrantRevoke,
        LIVING,
        _G.REVOKED,
        who=patient()
        | node("custodian")
        | person("custodian", Role.DATA_OFFICER)
        | node("issuer")
        | person("issuer", *READERS)
        | workflow(SELF),
        while_suspended=True,
        any_version=True,
    ),
    moves("consent.end_grant", EndGrant, LIVING, _G.ENDED, who=_BASES),
    moves("grant.expire", GrantExpire, LIVING, _G.EXPIRED, who=anyone(), after="ends", any_version=True),
    moves(
        "grant.acknowledge_revocation",
        GrantAcknowledge,
        _G.REVOKED,
        (_G.REVOKED, _G.REVOKED_EVERYWHERE),
        who=node("custodian") | node("recipient"),
        due="acknowledge_by",
        while_suspended=True,
        any_version=True,
    ),
)

USE_ROWS = (
    opens("use.reserve", UseReserve, _U.RESERVED, who=person(ANY, *READERS)),
    moves(
        "use.deliver",
        UseDeliver,
        _U.RESERVED,
        (_U.DELIVERED, _U.RELEASED),
        who=node("custodian"),
        while_suspended=True,
        any_version=True,
    ),
    moves(
        "use.decline",
        UseDecline,
        _U.RESERVED,
        _U.DECLINED,
        who=node("custodian"),
        while_suspended=True,
        any_version=True,
    ),
    moves("use.expire", UseExpire, _U.RESERVED, _U.LAPSED, who=anyone(), after="lease_end", any_version=True),
    moves("use.confirm", UseConfirm, _U.DELIVERED, _U.CONFIRMED, who=node("recipient"), before="dispute_until"),
    moves("use.dispute", UseDispute, _U.DELIVERED, _U.DISPUTED, who=node("recipient"), before="dispute_until"),
    moves(
        "use.forgive",
        UseForgive,
        (_U.DELIVERED, _U.DISPUTED),
        _U.FORGIVEN,
        who=node("custodian") | person("custodian", Role.DATA_OFFICER),
        while_suspended=True,
    ),
)

_UNMATCHED = (_E.OPENED, _E.AWAITING_COSIGNATURE)
_OPEN = (*_UNMATCHED, _E.EMERGENCY_ACTIVE)

EMERGENCY_ROWS = (
    opens(
        "emergency.open",
        EmergencyOpen,
        (_E.OPENED, _E.AWAITING_COSIGNATURE),
        who=person(ANY, Role.PHYSICIAN),
    ),
    moves(
        "emergency.ask_cosignature",
        EmergencyAskCosignature,
        _E.OPENED,
        _E.AWAITING_COSIGNATURE,
        who=node("custodian"),
        before="ends",
        while_suspended=True,
    ),
    moves(
        "emergency.cosign",
        EmergencyCosign,
        _E.AWAITING_COSIGNATURE,
        _E.OPENED,
        who=person(ANY, Role.PHYSICIAN),
        before="ends",
    ),
    moves(
        "emergency.match",
        EmergencyMatch,
        _E.OPENED,
        _E.EMERGENCY_ACTIVE,
        who=node("custodian"),
        before="ends",
        while_suspended=True,
    ),
    moves(
        "emergency.decline",
        EmergencyDecline,
        _UNMATCHED,
        _E.NOT_MATCHED,
        who=node("custodian"),
        while_suspended=True,
        any_version=True,
    ),
    moves(
        "emergency.close",
        EmergencyClose,
        _OPEN,
        (_E.AUTO_CLOSED, _E.CLOSED_UNUSED),
        who=person("recipient", Role.PHYSICIAN),
        any_version=True,
    ),
    moves(
        "emergency.expire",
        EmergencyExpire,
        _OPEN,
        (_E.AUTO_CLOSED, _E.CLOSED_UNUSED),
        who=anyone(),
        after="ends",
        any_version=True,
    ),
    moves(
        "emergency.notify",
        EmergencyNotify,
        _E.AUTO_CLOSED,
        _E.REVIEW_DUE,
        who=node("custodian"),
        due="notify_by",
        while_suspended=True,
    ),
    moves(
        "emergency.judge",
        EmergencyJudge,
        (_E.AUTO_CLOSED, _E.REVIEW_DUE),
        (_E.JUSTIFIED, _E.UNJUSTIFIED),
        who=person("custodian", Role.DATA_OFFICER) | person(ANY, Role.INSPECTOR),
        due="review_by",
    ),
)
