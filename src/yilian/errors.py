"""The one tree of errors, branched by what the caller can do.

    YilianError
    ├── Refused            1  the rule said no
    ├── SettingsError      2  fix the settings or the command
    ├── NotFoundError      3  name something that exists
    ├── NoGrantError       4  ask for a grant
    ├── VerificationError  5  do not trust these bytes
    ├── ConflictError      6  read again, then repeat
    └── UnavailableError   7  try again

The number is the exit code of the command line.
A message says what was found, what was expected and what to do; it names ids and digests, never a person.
"""

from __future__ import annotations

from typing import ClassVar


class YilianError(Exception):
    """Any error that yilian raises on purpose; catch a branch of it, not this."""

    exit_code: ClassVar[int] = 1


class Refused(YilianError):
    """A rule of a workflow said no; the refusal is on record and changes nothing.

    `number` is ledger format and frozen; the words may change at any time.
    `workflow` is filled in by the kernel; `inner` holds the refusals of consequences, outermost first.
    """

    exit_code: ClassVar[int] = 1

    def __init__(
        self, number: int, message: str, *, workflow: str = "", inner: tuple[tuple[str, int], ...] = ()
    ) -> None:
        super().__init__(message)
        self.number = int(number)
        self.workflow = workflow
        self.inner = inner


class SettingsError(YilianError):
    """The settings or the arguments do not make sense: correct them and start again."""

    exit_code: ClassVar[int] = 2


class NotFoundError(YilianError):
    """What was named does not exist here: check the id, or ask the institution that should have it."""

    exit_code: ClassVar[int] = 3


class NoGrantError(YilianError):
    """Nobody granted this: ask the custodian, or the patient, for a grant."""

    exit_code: ClassVar[int] = 4


class VerificationError(YilianError):
    """Bytes, a signature or a proof do not hold: do not use them, fetch them from another holder."""

    exit_code: ClassVar[int] = 5


class ConflictError(YilianError):
    """Somebody changed it first, or it exists already with other content: read again, then repeat."""

    exit_code: ClassVar[int] = 6


class UnavailableError(YilianError):
    """A node, a store or the network did not answer: try again later."""

    exit_code: ClassVar[int] = 7
