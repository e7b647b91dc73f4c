"""Put a consent for treatment to a patient, and sign it as the home that holds the paper.

What is asked is narrow: one receiver over the referrer's records, and the referrer over the receiver's results; purpose
TREAT, no onward transfer, at most a year.
"""

from __future__ import annotations

from collections.abc import Sequence

from yilian.crypto.suite import Signer, sha256
from yilian.engine.gateway import Gateway
from yilian.ledger.cases import Patient
from yilian.ledger.members import Role
from yilian.ledger.results import Answer
from yilian.values import DAY, CaseId, Digest, EntryId, InstitutionId, OpId, UnixMillis, unix_millis
from yilian.workflows.consent.model import Propose, Sign
from yilian.workflows.consent.policy import Access, Effect, Policy, Purpose, provision

LONGEST = 365 * DAY
POLICY_URI = "urn:yilian:policy:treatment-on-referral:1"
TEXTS = {
    "zh": (
        "我同意本机构将与本次转诊有关的病历提供给接诊医院用于诊疗,并同意接诊医院将诊疗结果告知本机构。"
        "同意最长一年,不得再转给他人,我可以随时撤回;撤回后不再提供,已阅读的内容无法收回。"
    ),
    "en": (
        "I agree that this institution gives the receiving hospital the records that belong to this referral, for "
        "treatment only, and that the hospital tells this institution the result. For a year at most, not to be passed "
        "on; I may take it back at any time: nothing more is given then, what was read cannot be unread."
    ),
}
"""What is shown to the patient, by language; its digest stands on the ledger."""


def treatment_policy(
    *,
    referrer: InstitutionId,
    receiver: InstitutionId,
    result_kinds: Sequence[str],
    begins: UnixMillis,
    ends: UnixMillis,
    maximum: int,
) -> Policy:
    """Write the policy of a referral: there the records, back the result; `maximum` deliveries in all."""
    there = provision(Effect.PERMIT, Purpose.TREAT, recipients=(receiver,), custodians=(referrer,))
    back = provision(
        Effect.PERMIT, Purpose.TREAT, recipients=(referrer,), custodians=(receiver,), kinds=tuple(result_kinds)
    )
    return Policy(
        begins=begins,
        ends=ends,
        maximum=maximum,
        depth=0,
        access=Access.STORE,
        erase_by=None,
        base=there,
        exceptions=(back,),
    )


def text_digest(language: str) -> Digest:
    """Give the digest of the text shown in a language, zh or en."""
    return sha256(TEXTS[language].encode())


def latest_end(now: UnixMillis) -> UnixMillis:
    """Give the latest end that a home may sign for."""
    return unix_millis(now + LONGEST)


def propose(
    gateway: Gateway,
    patient: Patient,
    policy: Policy,
    *,
    language: str = "zh",
    persons: Sequence[tuple[Signer, Role]] = (),
    op: OpId | None = None,
    replaces: CaseId | None = None,
) -> CaseId:
    """Put a policy to a patient, and give the consent's id; the proposer attests it over its own records.

    `op` is given where the patient's key was derived from the case id before.

    Raises:
        Refused: by the ledger.
    """
    command = Propose(
        patient=patient,
        text=text_digest(language),
        language=language,
        policy_uri=sha256(POLICY_URI.encode()),
        policy=policy,
        replaces=replaces,
    )
    return gateway.act(command, persons=persons, op=op).case_id


def sign_as_home(
    gateway: Gateway,
    consent: CaseId,
    *,
    text: Digest,
    paper: Digest,
    paper_entry: EntryId,
    witness: Signer,
    role: Role,
) -> Answer:
    """Sign a consent for a custodial patient: the scan is an entry of this home, the witness a PHYSICIAN or NURSE.

    Raises:
        Refused: by the ledger, such as WITNESS_MISSING or CUSTODIAL_CAP.
    """
    command = Sign(text=text, paper=paper, paper_entry=paper_entry)
    return gateway.act(command, consent, persons=[(witness, role)])
