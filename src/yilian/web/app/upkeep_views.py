"""What the API says of timestamps and of the check of sealed bytes."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from yilian.web.app.views import Asked, Hex32, View


class AnchorView(View, frozen=True, kw_only=True):
    """A checkpoint that an outside authority stamped."""

    height: int
    time: int
    """The authority's time, milliseconds."""
    authority: str


class AnchorsView(View, frozen=True, kw_only=True):
    """Timestamps, the newest first."""

    age_s: int | None
    """Age of the newest; null where there is none."""
    max_age_s: int
    """Above this no new exchange begins; 0: no such rule."""
    authorities: tuple[str, ...]
    items: tuple[AnchorView, ...]


class AnchorFileView(AnchorView, frozen=True, kw_only=True):
    """A timestamp whole."""

    note: str
    """The checkpoint as a signed note; its text up to the empty line, with the line feed, is what was stamped."""
    response: str
    """TimeStampResp of RFC 3161, DER, Base64."""


class SourceView(View, frozen=True, kw_only=True):
    """Where else the bytes lie."""

    institution: Hex32
    grant: Hex32 | None
    """Under which they can be fetched again without another delivery."""
    intact: bool
    """It has shown hashes that give the root; else it is only known to have received them."""


class IntegrityFindingView(View, frozen=True, kw_only=True):
    """A sealed blob that is not as it must be."""

    entry: Hex32 | None
    """Null for files and summaries, which the ledger does not know."""
    root: Hex32
    kind: Annotated[str, Meta(description="record, copy, file or summary")]
    wrong: Annotated[str, Meta(description="missing, changed or unreadable")]
    found: int
    """When it was found first, milliseconds."""
    sources: tuple[SourceView, ...]


class IntegrityView(View, frozen=True, kw_only=True):
    """How far the newest check is, and what is wrong as far as is known."""

    started: int | None
    """Milliseconds; null before the first check."""
    finished: int | None
    done: int
    total: int
    bytes: int
    findings: tuple[IntegrityFindingView, ...]


class CoveredView(View, frozen=True, kw_only=True):
    """That the daily statement of this institution covers an event: a line of it with its path to the root."""

    statement: Hex32
    """The case that has count and root."""
    number: int
    pair: Hex32
    """Disclosure pair of the event."""
    event: Hex32
    """Commitment of the event."""
    index: int
    """Place of the line in the day, from 0."""
    size: int
    path: tuple[Hex32, ...]
    """Hashes beside the path from the line to the root, the lowest first; RFC 6962."""


class IntegrityAsked(Asked, frozen=True, kw_only=True):
    """A check to begin, or to go on with."""

    repair: bool = False
    """Fetch a damaged copy again from its custodian, where its grant still allows it."""
