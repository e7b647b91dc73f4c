"""A verification under way: its steps so far, and what has been found."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn

from yilian.client.report import Delivery, Holder, OperationShown, Report, RowShown, Step
from yilian.errors import VerificationError
from yilian.ledger.checkpoint import Note
from yilian.ledger.receipt import Row


class Failed(Exception):  # noqa: N818 - it ends a check, and is no error of the program
    """A step failed; it is on record."""


class Found:
    """What a step found, filled in while it runs."""

    __slots__ = ("found",)

    def __init__(self) -> None:
        self.found = ""


class Checking:
    """Collects steps; each holds or ends the verification."""

    def __init__(self) -> None:
        self.steps: list[Step] = []
        self.place = 0
        self.kind = ""
        self.note: Note | None = None
        self.sequencer: Holder | None = None
        self.witnesses: tuple[Holder, ...] = ()
        self.split_view_excluded = False
        self.rows: dict[bytes, Row] = {}
        """Natural key → row of the current state."""
        self.unused: dict[bytes, None] = {}
        """Keys of rows that no step has needed so far."""
        self.operations: list[OperationShown] = []
        self.shown: list[RowShown] = []
        self.absent = ""
        self.claim: tuple[str, str] | None = None
        self.delivery: Delivery | None = None

    @contextmanager
    def step(self, name: str, expected: str) -> Iterator[Found]:
        """Run a step: it holds unless its block raises VerificationError or ValueError."""
        found = Found()
        try:
            yield found
        except (VerificationError, ValueError) as error:
            self.fail(name, str(error), expected)
        self._add(name, ok=True, found=found.found, expected=expected)

    def equal(self, name: str, found: str, expected: str) -> None:
        """Hold where two values are the same."""
        if found != expected:
            self.fail(name, found, expected)
        self._add(name, ok=True, found=found, expected=expected)

    def fail(self, name: str, found: str, expected: str) -> NoReturn:
        """End the verification at a step."""
        self._add(name, ok=False, found=found, expected=expected)
        raise Failed(name)

    def row(self, natural_key: bytes, what: str) -> Row:
        """Give a row of the state that the file must show; VerificationError where it does not."""
        found = self.rows.get(natural_key)
        if found is None:
            raise VerificationError(f"the file does not show the row of {what}: ask for a whole one")
        self.unused.pop(natural_key, None)
        return found

    def report(self) -> Report:
        """Give what was found."""
        failed = next((step.name for step in self.steps if not step.ok), "")
        known = self.note.checkpoint if self.note is not None else None
        return Report(
            ok=not failed and bool(self.steps),
            failed=failed,
            chain=known.chain.hex() if known else "",
            kind=self.kind,
            height=known.height if known else 0,
            time=known.time if known else 0,
            steps=tuple(self.steps),
            sequencer=self.sequencer,
            witnesses=self.witnesses,
            split_view_excluded=self.split_view_excluded,
            operations=tuple(self.operations),
            rows=tuple(self.shown),
            absent=self.absent,
            claim=self.claim,
            delivery=self.delivery,
        )

    def _add(self, name: str, *, ok: bool, found: str, expected: str) -> None:
        number = len(self.steps) + 1
        self.steps.append(Step(number=number, name=name, place=self.place, ok=ok, found=found, expected=expected))
