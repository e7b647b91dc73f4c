"""Who may move disclosure pairs, inspections and papers, from where to where, and when."""

from __future__ import annotations

from yilian.crypto.suite import tagged_hash
from yilian.ledger.cases import Command
from yilian.ledger.members import Role
from yilian.ledger.workflow import ANY, Call, Ref, anyone, both, moves, node, opens, person
from yilian.values import CaseId, Digest, case_id
from yilian.workflows.audit.model import (
    DisclosureAccept,
    DisclosureDeclareBreach,
    DisclosureExpire,
    DisclosureExplain,
    DisclosureObject,
    DisclosureReceived,
    DisclosureSent,
    DisclosureState,
    ExpirePaper,
    InspectionApproveScope,
    InspectionCancel,
    InspectionClose,
    InspectionDemand,
    InspectionExport,
    InspectionFind,
    InspectionOpen,
    InspectionRemedy,
    InspectionRequestContent,
    InspectionState,
    JudgePaper,
    OpenPaper,
    PaperState,
    RequestPaper,
)

DISCLOSURE_TAG = "yilian/disclosure/v1"


def id_of_disclosure(call: Call, _: Command) -> CaseId:
    """Derive the id of a pair from the use that the operation names: H(tag ‖ chain ‖ use id)."""
    return disclosure_id(call.chain, call.refs[0])


def disclosure_id(chain: Digest, use: CaseId) -> CaseId:
    """Derive the id of the disclosure pair of a use."""
    return case_id(tagged_hash(DISCLOSURE_TAG, chain, use))


_D, _I, _P = DisclosureState, InspectionState, PaperState
USE = Ref(
    case_type="use",
    states=("delivered", "confirmed", "disputed", "forgiven", "released"),
    at_least=1,
    at_most=1,
)
_INSPECTOR = person(ANY, Role.INSPECTOR)

DISCLOSURE_ROWS = (
    opens(
        "disclosure.sent",
        DisclosureSent,
        _D.SENT,
        who=node(ANY),
        id_of=id_of_disclosure,
        while_suspended=True,
        any_version=True,
        refs=(USE,),
    ),
    opens(
        "disclosure.received",
        DisclosureReceived,
        _D.RECEIVED,
        who=node(ANY),
        id_of=id_of_disclosure,
        while_suspended=True,
        any_version=True,
        refs=(USE,),
    ),
    moves(
        "disclosure.received",
        DisclosureReceived,
        (_D.SENT, _D.ONE_SIDED),
        _D.MATCHED,
        who=node("recipient"),
        while_suspended=True,
        any_version=True,
        refs=(USE,),
    ),
    moves(
        "disclosure.sent",
        DisclosureSent,
        (_D.RECEIVED, _D.ONE_SIDED),
        _D.MATCHED,
        who=node("source"),
        while_suspended=True,
        any_version=True,
        refs=(USE,),
    ),
    moves(
        "disclosure.expire",
        DisclosureExpire,
        (_D.SENT, _D.RECEIVED),
        _D.ONE_SIDED,
        who=anyone(),
        after="complete_by",
        any_version=True,
    ),
    moves(
        "disclosure.explain",
        DisclosureExplain,
        _D.ONE_SIDED,
        _D.EXPLAINED,
        who=person("second", Role.DATA_OFFICER),
        due="explain_by",
        while_suspended=True,
        any_version=True,
    ),
    moves(
        "disclosure.accept",
        DisclosureAccept,
        _D.EXPLAINED,
        _D.SETTLED,
        who=person("first", Role.DATA_OFFICER) | person(ANY, Role.AUDITOR),
        any_version=True,
    ),
    moves(
        "disclosure.object",
        DisclosureObject,
        _D.EXPLAINED,
        _D.BREACH,
        who=person("first", Role.DATA_OFFICER) | person(ANY, Role.AUDITOR),
        any_version=True,
    ),
    moves(
        "disclosure.declare_breach",
        DisclosureDeclareBreach,
        _D.ONE_SIDED,
        _D.BREACH,
        who=person(ANY, Role.AUDITOR, Role.INSPECTOR),
        after="explain_by",
        any_version=True,
    ),
)

INSPECTION_ROWS = (
    opens("inspection.open", InspectionOpen, _I.OPENED, who=_INSPECTOR),
    moves(
        "inspection.approve_scope",
        InspectionApproveScope,
        _I.OPENED,
        _I.SCOPE_APPROVED,
        who=person(ANY, Role.SECOND_OFFICER),
    ),
    moves("inspection.request_content", InspectionRequestContent, _I.SCOPE_APPROVED, who=_INSPECTOR),
    moves(
        "inspection.cancel",
        InspectionCancel,
        (_I.OPENED, _I.SCOPE_APPROVED),
        _I.CANCELLED,
        who=_INSPECTOR,
        any_version=True,
    ),
    moves("inspection.export", InspectionExport, _I.SCOPE_APPROVED, _I.EVIDENCE_EXPORTED, who=_INSPECTOR),
    moves("inspection.find", InspectionFind, _I.EVIDENCE_EXPORTED, _I.FINDING, who=_INSPECTOR),
    moves(
        "inspection.close",
        InspectionClose,
        _I.FINDING,
        _I.CLOSED,
        who=both(_INSPECTOR, person(ANY, Role.SECOND_OFFICER)),
    ),
    moves("inspection.demand", InspectionDemand, (_I.FINDING, _I.REMEDIED), _I.REMEDIATION_DUE, who=_INSPECTOR),
    moves(
        "inspection.remedy",
        InspectionRemedy,
        _I.REMEDIATION_DUE,
        _I.REMEDIED,
        who=person("institutions", Role.DATA_OFFICER),
        due="remedy_by",
        while_suspended=True,
    ),
    moves("inspection.close", InspectionClose, _I.REMEDIED, _I.CLOSED, who=_INSPECTOR),
)

PAPER_ROWS = (
    opens("inspection.request_paper", RequestPaper, _P.REQUESTED, who=person(ANY, Role.AUDITOR)),
    moves(
        "inspection.open_paper",
        OpenPaper,
        _P.REQUESTED,
        _P.OPENED,
        who=person("home", Role.DATA_OFFICER),
        before="deadline",
        while_suspended=True,
    ),
    moves(
        "inspection.judge_paper",
        JudgePaper,
        _P.OPENED,
        (_P.MATCHED, _P.BREACH),
        who=person("asker", Role.AUDITOR),
    ),
    moves(
        "inspection.expire_paper",
        ExpirePaper,
        _P.REQUESTED,
        _P.BREACH,
        who=anyone(),
        after="deadline",
        any_version=True,
    ),
    moves(
        "inspection.expire_paper",
        ExpirePaper,
        _P.OPENED,
        _P.UNCHECKED,
        who=anyone(),
        after="deadline",
        any_version=True,
    ),
)
