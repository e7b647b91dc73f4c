"""What the API is asked and answers with, to and from the words of the services."""

from __future__ import annotations

from yilian.errors import NotFoundError
from yilian.node import care
from yilian.node.host import Host
from yilian.values import EntryId, case_id, institution_id
from yilian.web.app.views import FetchedView, RequestAsked, VerifiedView
from yilian.workflows.catalog import opening
from yilian.workflows.catalog.interface import Entry
from yilian.workflows.consent import receiving
from yilian.workflows.referral.model import Urgency


def wish_of(asked: RequestAsked) -> care.Wish:
    """Read what a referral is asked with."""
    return care.Wish(
        subject_ref=bytes.fromhex(asked.subject),
        receiver=institution_id(bytes.fromhex(asked.receiver)),
        urgency=Urgency(asked.urgency),
        purpose=asked.purpose,
        specialty=asked.specialty,
        records=tuple(case_id(bytes.fromhex(one)) for one in asked.records) or None,
        deliveries=asked.deliveries,
        view_days=asked.days,
        language=asked.language,
    )


def verified_copy(host: Host, entry: EntryId) -> VerifiedView:
    """Open a received copy and say what it was compared with; errors as `opening.open_copy`."""
    content = opening.open_copy(host, entry)
    found = host.gateway.find(Entry, entry)
    if found is None:
        raise NotFoundError(f"there is no entry {entry.hex()} on the ledger: check the id")
    return VerifiedView(
        entry_id=entry.hex(),
        state=found.state,
        root=found.fields.root.hex(),
        commitment=found.fields.commitment.hex(),
        true_size=len(content),
    )


def fetched_view(found: receiving.Fetched) -> FetchedView:
    """Say what became of a use."""
    return FetchedView(
        use_id=found.use_id.hex(),
        state=found.state,
        entries=tuple(one.hex() for one in found.entries),
        verified=found.verified,
        disputed=tuple(one.hex() for one in found.disputed),
        reason=found.reason,
        seconds=round(found.seconds, 3),
    )
