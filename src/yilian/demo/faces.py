"""How the story acts: as people with API keys over HTTP, and with keys on devices that sign drafts."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from yilian.client.http import Client, Json
from yilian.crypto.suite import Signer
from yilian.errors import UnavailableError, VerificationError
from yilian.ledger.cases import Command
from yilian.ledger.registry import Registry
from yilian.node.network import AccessFile
from yilian.values import CaseId, case_id
from yilian.web.kit.jsonform import to_json
from yilian.workflows.registry import WORKFLOWS

TIMEOUT_S = 120.0
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.01, 0.2
_REGISTRY = Registry(WORKFLOWS)


class Face(Client):
    """One person of one institution, as the API knows it: steps are taken as typed commands."""

    def take(
        self,
        command: Command,
        case: str | None = None,
        *,
        refs: Sequence[str] = (),
        op_id: str | None = None,
        claims: Mapping[str, str] | None = None,
    ) -> Json:
        """Take a step, signed by this person's key on the node, or by the node's alone."""
        bound = _REGISTRY.by_type[type(command)]
        workflow, word, body = bound.workflow.name, bound.word, to_json(command)
        return self.act(workflow, word, body, case_id=case, refs=refs, op_id=op_id, claims=claims)

    def take_with(
        self,
        signer: Signer,
        role: str,
        command: Command,
        case: str | None = None,
    ) -> Json:
        """Take a step that a key outside the node signs: drafted here, signed there, handed in."""
        bound = _REGISTRY.by_type[type(command)]
        signers = [(signer.key_id.hex(), role)]
        draft = self.draft(bound.workflow.name, bound.word, to_json(command), case_id=case, signers=signers)
        return self.sign_and_submit(draft, signer)

    def get_records(self, grant: str) -> Json:
        """Fetch all entries of a grant; with a draft in it where a device must sign first.

        Raises:
            VerificationError: the custodian declined, or a record was not as committed.
        """
        found = self.fetch(grant)
        if not found["verified"] and found["draft"] is None:
            raise VerificationError(f"grant {grant} ended {found['state']} {found['reason']}, expected all verified")
        return found

    def wait_for(self, case: str, *states: str, timeout_s: float = TIMEOUT_S) -> Json:
        """Wait until a case is in one of these states, and give it; UnavailableError where the time is over."""

        def look() -> Json | None:
            found = self.case(case)
            return found if found["state"] in states else None

        found: Json = wait_until(look, f"{case} to become {' or '.join(states)}", timeout_s)
        return found


class Faces:
    """The people of all institutions, met by their names; opened when first asked for."""

    def __init__(self, url_of: Callable[[str], str], language: str, find: Callable[[str, str], AccessFile]) -> None:
        self._url_of = url_of
        self._language = language
        self._find = find
        self._known: dict[tuple[str, str], Face] = {}
        self._lock = threading.Lock()

    def __call__(self, slug: str, label: str) -> Face:
        """Give a person of an institution."""
        with self._lock:
            if (slug, label) not in self._known:
                access = self._find(slug, label)
                self._known[slug, label] = Face(self._url_of(slug), access.token, language=self._language)
            return self._known[slug, label]

    def close(self) -> None:
        """Close all connections."""
        for face in self._known.values():
            face.close()


def wait_until(look: Callable[[], Any], what: str, timeout_s: float = TIMEOUT_S) -> Any:  # noqa: ANN401 - what it finds
    """Look again and again until something is found; UnavailableError where the time is over."""
    deadline = time.monotonic() + timeout_s
    pause = FIRST_PAUSE_S
    while True:
        found = look()
        if found:
            return found
        if time.monotonic() > deadline:
            raise UnavailableError(f"waited {timeout_s:.0f} s for {what}: read the node's log")
        time.sleep(pause)
        pause = min(2 * pause, LONGEST_PAUSE_S)


def ids(values: Sequence[str]) -> tuple[CaseId, ...]:
    """Take ids in hex as a command holds them."""
    return tuple(case_id(bytes.fromhex(value)) for value in values)
