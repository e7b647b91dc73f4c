"""The steps of consent, split by meaning: consents, issuing, grants, uses, emergencies, copies."""

from __future__ import annotations

from yilian.workflows.consent.consents import amend, attest, expire, propose, reject, revoke, sign, supersede
from yilian.workflows.consent.copies import copy_answer
from yilian.workflows.consent.emergencies import (
    emergency_ask_cosignature,
    emergency_close,
    emergency_cosign,
    emergency_decline,
    emergency_expire,
    emergency_judge,
    emergency_match,
    emergency_notify,
    emergency_open,
)
from yilian.workflows.consent.grants import (
    end_grant,
    grant_acknowledge_revocation,
    grant_exhaust,
    grant_expire,
    grant_narrow,
    grant_reopen,
    grant_resume,
    grant_revoke,
    grant_suspend,
)
from yilian.workflows.consent.issuing import grant_delegate, grant_issue, grant_open_child, issue_grant
from yilian.workflows.consent.uses import (
    use_confirm,
    use_decline,
    use_deliver,
    use_dispute,
    use_expire,
    use_forgive,
    use_reserve,
)

__all__ = [
    "amend",
    "attest",
    "copy_answer",
    "emergency_ask_cosignature",
    "emergency_close",
    "emergency_cosign",
    "emergency_decline",
    "emergency_expire",
    "emergency_judge",
    "emergency_match",
    "emergency_notify",
    "emergency_open",
    "end_grant",
    "expire",
    "grant_acknowledge_revocation",
    "grant_delegate",
    "grant_exhaust",
    "grant_expire",
    "grant_issue",
    "grant_narrow",
    "grant_open_child",
    "grant_reopen",
    "grant_resume",
    "grant_revoke",
    "grant_suspend",
    "issue_grant",
    "propose",
    "reject",
    "revoke",
    "sign",
    "supersede",
    "use_confirm",
    "use_decline",
    "use_deliver",
    "use_dispute",
    "use_expire",
    "use_forgive",
    "use_reserve",
]
