"""Speak to a node over HTTP: any step of any workflow, drafts for keys held here, and what the API gives to read.

Every failure is an error of `yilian.errors`, made again from the node's problem details.
"""

from __future__ import annotations

import secrets
import time
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx

from yilian.crypto.suite import Signer
from yilian.errors import NotFoundError, SettingsError, UnavailableError
from yilian.web.kit.problems import error_of

Json = dict[str, Any]

TIMEOUT_S = 60.0
FETCH_TIMEOUT_S = 700.0
"""A fetch waits for the custodian's delivery, at most a little longer than the lease."""
POLL_S = 0.2
_ATTEMPTS = 3
_RETRY_AFTER_S = 0.3


class Client:
    """One person's access to one node; thread-safe, and closed when it is no longer needed.

    Args:
        url: address of the API, such as `http://127.0.0.1:8470`.
        token: the API key that was handed over.
        language: of refusals' titles, zh or en.
    """

    def __init__(self, url: str, token: str, *, language: str = "en") -> None:
        headers = {"authorization": f"Bearer {token}", "accept-language": language}
        self._http = httpx.Client(base_url=url, headers=headers, timeout=TIMEOUT_S, trust_env=False)
        self.url = url

    @classmethod
    def from_file(cls, path: Path, *, language: str = "en") -> Client:
        """Take address and API key from an access file.

        Raises:
            SettingsError: the file is absent, does not read, or names no address yet.
        """
        try:
            fields = tomllib.loads(path.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
            raise SettingsError(f"access file {path} does not read ({error}): name the one that was given") from error
        url, token = fields.get("url"), fields.get("token")
        if not isinstance(url, str) or not url or not isinstance(token, str):
            raise SettingsError(f"access file {path} has no address and token: start the node once, or ask for another")
        return cls(url, token, language=language)

    def __enter__(self) -> Self:
        """Give the client."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close it."""
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    # --------------------------------------------------------------------------------------------------------- plain

    def get(self, path: str, **query: object) -> Any:  # noqa: ANN401 - what JSON holds
        """Read; a name with the value None is left out. Tried again where the line fails."""
        params = {name: _query(value) for name, value in query.items() if value is not None}
        return self._call("GET", path, params=params or None)

    def content(self, path: str, **query: object) -> bytes:
        """Read bytes that are no JSON of the API's own, such as a record or a receipt."""
        params = {name: _query(value) for name, value in query.items() if value is not None}
        return self._answer("GET", path, params=params or None).content

    def post(
        self,
        path: str,
        body: Mapping[str, Any] | None = None,
        *,
        idempotency_key: str | None = None,
        timeout_s: float = TIMEOUT_S,
    ) -> Any:  # noqa: ANN401 - what JSON holds
        """Ask for something. What signs acts once, however often it is sent: a key goes along, drawn where none is.

        Raises:
            Refused: a rule said no, with workflow and number.
            UnavailableError: no answer; the same call with the same `idempotency_key` is safe.
        """
        headers = {"idempotency-key": idempotency_key or secrets.token_hex(16)}
        return self._call("POST", path, json=dict(body or {}), headers=headers, timeout=timeout_s)

    def delete(self, path: str) -> Any:  # noqa: ANN401 - what JSON holds
        """Cancel something."""
        return self._call("DELETE", path)

    def pages(self, path: str, *, most: int | None = None, **query: object) -> Iterator[Json]:
        """Give the rows of all pages, or the first `most`."""
        cursor: str | None = None
        given = 0
        while True:
            page = self.get(path, cursor=cursor, **query)
            for row in page["items"]:
                if given == most:
                    return
                yield row
                given += 1
            cursor = page["next"]
            if cursor is None:
                return

    # ----------------------------------------------------------------------------------------------------- workflows

    def act(
        self,
        workflow: str,
        command: str,
        body: Mapping[str, Any] | None = None,
        *,
        case_id: str | None = None,
        refs: Sequence[str] = (),
        op_id: str | None = None,
        claims: Mapping[str, str] | None = None,
    ) -> Json:
        """Take a step, signed by the node with this person's key, or by its gateway alone, and wait until durable."""
        asked = _step(body, case_id, refs, op_id) | {"claims": dict(claims or {})}
        answer: Json = self.post(_path(workflow, command), asked)
        return answer

    def draft(
        self,
        workflow: str,
        command: str,
        body: Mapping[str, Any] | None = None,
        *,
        case_id: str | None = None,
        refs: Sequence[str] = (),
        op_id: str | None = None,
        signers: Sequence[tuple[str, str]] = (),
        claims: Mapping[str, str] | None = None,
    ) -> Json:
        """Have a core drafted for keys held elsewhere: `signers` are (key id, role), by default this person."""
        named = [{"key_id": key, "role": role} for key, role in signers]
        asked = _step(body, case_id, refs, op_id) | {"signers": named, "claims": dict(claims or {})}
        drafted: Json = self.post(f"{_path(workflow, command)}/draft", asked)
        return drafted

    def submit(self, draft: Mapping[str, Any], persons: Sequence[Mapping[str, Any]]) -> Json:
        """Hand in a draft with its signatures, and wait until it is durable."""
        answer: Json = self.post("/v1/submit", {"core": draft["core"], "persons": [dict(one) for one in persons]})
        return answer

    def sign(self, draft: Mapping[str, Any]) -> Json:
        """Have a draft signed with this person's key on the node: one of two signatures."""
        signature: Json = self.post("/v1/sign", {"core": draft["core"]})
        return signature

    def sign_and_submit(self, draft: Mapping[str, Any], *signers: Signer) -> Json:
        """Sign a draft with keys held here, and hand it in."""
        return self.submit(draft, [signature for signer in signers for signature in signed(draft, signer)])

    # -------------------------------------------------------------------------------------------------------- comfort

    def me(self) -> Json:
        """Say for whom this client acts."""
        found: Json = self.get("/v1/me")
        return found

    def case(self, case: str) -> Json:
        """Read a case, with what can be done now."""
        found: Json = self.get(f"/v1/cases/{case}")
        return found

    def record(self, entry: str) -> bytes:
        """Open a record of the institution, or a copy delivered to it."""
        return self.content(f"/v1/records/{entry}")

    def fetch(self, grant: str, entries: Sequence[str] = ()) -> Json:
        """Fetch entries of a grant and verify them; waits for the custodian."""
        asked = {"grant": grant, "entries": list(entries)}
        found: Json = self.post("/v1/records/fetch", asked, timeout_s=FETCH_TIMEOUT_S)
        return found

    def wait_for_job(
        self, job: str, report: Callable[[Json], None] = lambda _: None, *, timeout_s: float = 86_400
    ) -> Json:
        """Wait for long work, telling `report` how far it is, and give the job.

        Raises:
            UnavailableError: it failed, or the time is over.
        """
        deadline = time.monotonic() + timeout_s
        while True:
            found: Json = self.get(f"/v1/jobs/{job}")
            if found["state"] == "DONE":
                return found
            if found["state"] == "FAILED":
                why = found["progress"].get("message") or found["progress"].get("error") or "no reason given"
                raise UnavailableError(f"job {job} failed: {why}")
            report(found["progress"])
            if time.monotonic() > deadline:
                raise UnavailableError(f"job {job} still runs after {timeout_s:.0f} s: ask for it later")
            time.sleep(POLL_S)

    def resolve(self, prefix: str) -> str:
        """Give the one id that begins with these hex digits, 6 or more.

        Raises:
            NotFoundError: none does.
            SettingsError: several do, or it is no hex.
        """
        text = prefix.lower()
        if len(text) == 64:
            return text
        if not text:
            raise SettingsError("the id is empty, expected 6 to 64 lower-case hex digits: give one")
        found = self.get(f"/v1/ids/{text}")["ids"]
        if not found:
            raise NotFoundError(f"no id begins with {text}: check it")
        if len(found) > 1:
            raise SettingsError(f"{len(found)} ids begin with {text}, expected one: give more of it")
        return str(found[0])

    def institution(self, name: str) -> str:
        """Give the id of a member by its short name on this node, its public name or a part of it, or its id."""
        members = self.get("/v1/network/members")
        wanted = name.lower()
        exact = [one for one in members if wanted in {one["id"], one["name"].lower(), one["slug"]}]
        near = [one for one in members if wanted in one["name"].lower() or one["id"].startswith(wanted)]
        for found in (exact, near):
            if len(found) == 1:
                return str(found[0]["id"])
        known = ", ".join(one["slug"] or one["name"] for one in members)
        how_many = f"{len(near)} members are" if near else "no member is"
        raise NotFoundError(f"{how_many} called {name}, expected one of {known}: name one")

    # -------------------------------------------------------------------------------------------------------- helpers

    def _call(self, method: str, path: str, **request: Any) -> Any:  # noqa: ANN401 - as httpx takes it
        response = self._answer(method, path, **request)
        return response.json() if response.content else None

    def _answer(self, method: str, path: str, **request: Any) -> httpx.Response:  # noqa: ANN401 - as httpx takes it
        for attempt in range(_ATTEMPTS):
            try:
                response = self._http.request(method, path, **request)
            except httpx.TransportError as error:
                # every POST carries its idempotency key, so that sending it again acts once
                if attempt + 1 == _ATTEMPTS or isinstance(error, httpx.ReadTimeout):
                    raise UnavailableError(
                        f"{self.url} does not answer ({type(error).__name__}): check that the node runs"
                    ) from error
                time.sleep(_RETRY_AFTER_S)
                continue
            if response.is_success:
                return response
            raise error_of(_json(response), response.status_code)
        raise AssertionError("the last attempt returns or raises")


def signed(draft: Mapping[str, Any], signer: Signer) -> list[Json]:
    """Sign what a draft asks of a key, ready for `submit`.

    Raises:
        NotFoundError: the draft asks nothing of this key.
    """
    asked = [one for one in draft["to_sign"] if one["key_id"] == signer.key_id.hex()]
    if not asked:
        raise NotFoundError(f"the draft asks nothing of key {signer.key_id.hex()}: draft it for this key")
    return [
        {
            "key_id": one["key_id"],
            "role": one["role"],
            "valid_until": one["valid_until"],
            "signature": signer.sign(bytes.fromhex(one["message"])).hex(),
        }
        for one in asked
    ]


def _path(workflow: str, command: str) -> str:
    return f"/v1/workflows/{workflow}/{command}"


def _step(body: Mapping[str, Any] | None, case_id: str | None, refs: Sequence[str], op_id: str | None) -> Json:
    step: Json = {"command": dict(body or {}), "refs": list(refs)}
    if case_id is not None:
        step["case_id"] = case_id
    if op_id is not None:
        step["op_id"] = op_id
    return step


def _query(value: object) -> Any:  # noqa: ANN401 - as httpx takes it
    if isinstance(value, bool):
        return "true" if value else "false"
    return list(value) if isinstance(value, tuple) else value


def _json(response: httpx.Response) -> Any:  # noqa: ANN401 - what JSON holds
    if "json" not in response.headers.get("content-type", ""):
        return None
    try:
        return response.json()
    except ValueError:
        return None
