"""Daily statements as the node makes them: own days once they are over, and word of those that others owe.

A day ends at midnight (UTC+8) and is stated from ten minutes later on; after 06:00 (the chain's `audit.statement`) it
is missing. Who reports that changes from hour to hour, so that neither everybody does nor all wait for one.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import structlog

from yilian.engine.gateway import Signed
from yilian.errors import YilianError
from yilian.ledger.members import LIVING, Roster
from yilian.node.compose import Node
from yilian.node.host import Host
from yilian.values import HOUR, MINUTE, Day, InstitutionId, UnixMillis, day_of, end_of_day, unix_millis
from yilian.workflows.audit.listing import draw_up, last_stated
from yilian.workflows.audit.statements import Stated, Statement, StatementReportMissing, statement_id

MARGIN_MS = 10 * MINUTE
MOST_DAYS = 31
"""Days that are stated, or looked back at, in one round."""
_LOG = structlog.get_logger("yilian.stating")


def state_days(node: Node, hosts: Sequence[Host]) -> int:
    """State the days of these institutions that are over, in order; give how many statements landed."""
    done = 0
    for host in hosts if _time_to_state(node) is not None else ():
        try:
            done += _state(node, host)
        except YilianError as error:
            _LOG.info("not yet", institution=host.slug, error=type(error).__name__)
    return done


def report_missing(node: Node, hosts: Sequence[Host]) -> int:
    """Report what other members have not stated in time, where it is for an institution here; give how many."""
    now, reads = node.clock(), node.engine.reads()
    after = _time_to_state(node)
    if after is None:
        return 0
    roster = reads.register(Roster)
    living = [one for one in (roster.members if roster is not None else ()) if _is_living(node, one)]
    steps: dict[InstitutionId, list[Signed]] = {}
    for custodian in living:
        stated = reads.register(Stated, custodian)
        for day in _owed(node, custodian, stated, unix_millis(now - after)):
            reporter = _reporter(living, custodian, day, now)
            host = next((host for host in hosts if host.id == reporter), None)
            case = statement_id(node.chain, custodian, day)
            if host is not None and host.gateway.find(Statement, case) is None:
                command = StatementReportMissing(custodian=custodian, day=day)
                steps.setdefault(host.id, []).append(Signed(core=host.gateway.draft(command, case, version=0).core))
    return sum(_send(next(host for host in hosts if host.id == one), own) for one, own in steps.items())


def _state(node: Node, host: Host) -> int:
    done = 0
    for day in _owed(node, host.id, last_stated(host), node.clock()):
        step = draw_up(host, node.index, day, node.clock())
        if step is None or not _send(host, [step]):
            break
        done += 1
    return done


def _owed(node: Node, custodian: InstitutionId, stated: Stated | None, until: UnixMillis) -> Iterator[Day]:
    """Give the days that a member has not stated and that were over at a time, the oldest first."""
    member = node.engine.directory().member(custodian)
    if member is None:
        return
    first = stated.day + 1 if stated is not None else day_of(member.header.opened_time)
    last = day_of(unix_millis(until - MARGIN_MS)) - 1
    yield from range(first, min(last + 1, first + MOST_DAYS))  # type: ignore[misc]  # days are integers


def _time_to_state(node: Node) -> int | None:
    try:
        return node.engine.directory().number("audit.statement")
    except KeyError:  # a chain older than statements
        return None


def _reporter(
    living: Sequence[InstitutionId], custodian: InstitutionId, day: Day, now: UnixMillis
) -> InstitutionId | None:
    others = [one for one in living if one != custodian]
    return others[(now - end_of_day(day)) // HOUR % len(others)] if others else None


def _is_living(node: Node, institution: InstitutionId) -> bool:
    member = node.engine.directory().member(institution)
    return member is not None and member.state in LIVING


def _send(host: Host, steps: Sequence[Signed]) -> int:
    answers = host.gateway.send(steps)
    for answer in answers:
        if not answer.ok:
            _LOG.info("refused", institution=host.slug, command=answer.command, result=str(answer.result))
    return sum(answer.ok for answer in answers)
