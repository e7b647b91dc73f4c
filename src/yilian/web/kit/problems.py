"""Problem details for every error (RFC 9457): one shape, whatever went wrong.

    {type, title, status, detail, instance, code, error, trace_id}   + for a refusal {workflow, number, name, inner}

`error` is the branch of `yilian.errors`, from which a client makes the same exception again; `code` is stable.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from yilian.errors import (
    ConflictError,
    NoGrantError,
    NotFoundError,
    Refused,
    SettingsError,
    UnavailableError,
    VerificationError,
    YilianError,
)
from yilian.web.kit.text import Language

MEDIA_TYPE = "application/problem+json"
TYPE_PREFIX = "urn:yilian:problem:"


class Unauthenticated(NoGrantError):  # noqa: N818 - the word of HTTP
    """Nobody is known by what was shown: send the API key that you were given."""


STATUS: dict[type[YilianError], int] = {
    Unauthenticated: 401,
    Refused: 422,
    SettingsError: 400,
    NotFoundError: 404,
    NoGrantError: 403,
    VerificationError: 422,
    ConflictError: 409,
    UnavailableError: 503,
}
BRANCHES: dict[str, type[YilianError]] = {kind.__name__: kind for kind in STATUS if kind is not Refused}
_KERNEL_STATUS = {1: 409, 2: 403, 3: 403, 4: 404, 5: 409, 6: 409, 7: 403, 8: 409, 9: 409, 10: 422, 11: 409}
_FORBIDDEN = {("consent", 1), ("consent", 2)}
"""Refusals that mean "nobody granted this to you": NO_GRANT, NOT_THE_RECIPIENT."""
_TITLES: dict[str, tuple[str, str]] = {
    "Refused": ("规则不允许", "Refused by a rule"),
    "SettingsError": ("请求有误", "The request does not make sense"),
    "NotFoundError": ("不存在", "Not found"),
    "NoGrantError": ("没有授权", "Nobody granted this"),
    "VerificationError": ("校验不通过", "Verification failed"),
    "ConflictError": ("冲突", "Conflict"),
    "UnavailableError": ("暂时不可用", "Unavailable"),
    "Unauthenticated": ("需要有效的接口密钥", "A valid API key is needed"),
    "TooLarge": ("请求过大", "The request is too large"),
    "MethodNotAllowed": ("不支持的方法", "Method not allowed"),
    "Internal": ("内部错误", "Internal error"),
}


class Named(msgspec.Struct, frozen=True, kw_only=True):
    """A refusal with its name and title, as the application looks them up."""

    workflow: str
    number: int
    name: str
    title: str


Naming = Callable[[str, int, Language], Named]


class Problem(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What went wrong, RFC 9457. The members after `trace_id` stand only in a refusal."""

    type: str
    title: str
    status: int
    detail: str
    instance: str
    code: str
    error: str
    trace_id: str
    workflow: str | None = None
    number: int | None = None
    name: str | None = None
    inner: tuple[Named, ...] = ()


def problem_of(error: YilianError, naming: Naming, *, language: Language, instance: str, trace_id: str) -> Problem:
    """Describe an error of ours."""
    branch = next(kind for kind in type(error).__mro__ if kind in STATUS or kind is YilianError)
    if isinstance(error, Refused):
        return _refusal(error, naming, language=language, instance=instance, trace_id=trace_id)
    name = branch.__name__ if branch in STATUS else "Internal"
    code = str(getattr(getattr(error, "code", None), "name", type(error).__name__))
    return plain(
        STATUS.get(branch, 500), name, str(error), language=language, instance=instance, trace_id=trace_id, code=code
    )


def plain(
    status: int, error: str, detail: str, *, language: Language, instance: str, trace_id: str, code: str = ""
) -> Problem:
    """Describe what is no refusal; `error` is a branch of `yilian.errors` or one of the words of HTTP."""
    titles = _TITLES.get(error, _TITLES["Internal"])
    return Problem(
        type=f"{TYPE_PREFIX}{code or error}",
        title=titles[0] if language == "zh" else titles[1],
        status=status,
        detail=detail,
        instance=instance,
        code=code or error,
        error=error,
        trace_id=trace_id,
    )


def error_of(content: Any, status: int) -> YilianError:  # noqa: ANN401 - what a body held
    """Make the exception again that a problem describes; a body that is none becomes one by its status."""
    if not isinstance(content, dict) or not isinstance(content.get("detail"), str):
        kind = UnavailableError if status >= 500 else SettingsError
        return kind(f"the node answered {status} without a problem: check the address")
    detail = str(content["detail"])
    name = content.get("error")
    if name == "Refused" and isinstance(content.get("number"), int):
        inner = tuple((str(item["workflow"]), int(item["number"])) for item in content.get("inner", ()))
        title = f"{content.get('title')} [{content.get('workflow')} {content['number']} {content.get('name')}]"
        return Refused(content["number"], f"{title}: {detail}", workflow=str(content.get("workflow")), inner=inner)
    return BRANCHES.get(str(name), UnavailableError if status >= 500 else SettingsError)(detail)


def _refusal(error: Refused, naming: Naming, *, language: Language, instance: str, trace_id: str) -> Problem:
    named = naming(error.workflow, error.number, language)
    inner = tuple(naming(workflow, number, language) for workflow, number in error.inner)
    status = status_of_refusal(error)
    return Problem(
        type=f"urn:yilian:refusal:{named.workflow}:{named.number}",
        title=named.title,
        status=status,
        detail=str(error),
        instance=instance,
        code=f"{named.workflow}.{named.name}",
        error="Refused",
        trace_id=trace_id,
        workflow=named.workflow,
        number=named.number,
        name=named.name,
        inner=inner,
    )


def status_of_refusal(error: Refused) -> int:
    """Give the HTTP status of a refusal: 403 not permitted or not granted, 409 read again, 422 the rule said no."""
    judged = [(error.workflow, error.number), *error.inner]
    if any(pair in _FORBIDDEN for pair in judged):
        return 403
    if error.workflow == "kernel" and not error.inner:
        return _KERNEL_STATUS.get(error.number, 422)
    return 422
