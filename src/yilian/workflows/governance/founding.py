"""The constitution, and parameters with which a chain begins."""

from __future__ import annotations

from collections.abc import Iterable

from yilian.ledger.members import Constitution, Parameter, Parameters, Rule
from yilian.ledger.workflow import Workflow
from yilian.values import DAY, unix_millis


def default_constitution(*, admit_delay: int = 3 * DAY, voting_period: int = 14 * DAY) -> Constitution:
    """Give the rule table of a new network; both periods in milliseconds.

    A demo's constitution may let an admission apply at once (`admit_delay` 0). That an OFFICER key may lie on a node
    is a parameter, `governance.officer_key_on_node`.
    """
    table = (
        # action, share, more than it, delay
        ("member.admit", (2, 3), False, admit_delay),
        ("member.reinstate", (1, 2), True, 0),
        ("member.remove", (2, 3), False, 7 * DAY),
        ("member.suspend", (2, 3), False, 0),
        ("parameter.change", (1, 2), True, DAY),
        ("rule.change", (2, 3), False, 14 * DAY),
        ("sequencer.replace", (2, 3), False, 0),
        ("witness_policy.change", (2, 3), False, 14 * DAY),
    )
    rules = tuple(
        Rule(
            action=action,
            proposers=(),
            numerator=share[0],
            denominator=share[1],
            strict=strict,
            delay=unix_millis(delay),
            voting_period=unix_millis(voting_period),
        )
        for action, share, strict, delay in table
    )
    return Constitution(version=1, rules=rules)


def default_parameters(workflows: Iterable[Workflow]) -> Parameters:
    """Collect the defaults of all parameters that the workflows declare, sorted by name.

    Raises:
        ValueError: two workflows declare one name.
    """
    found: dict[str, Parameter] = {}
    for workflow in workflows:
        for spec in workflow.parameters:
            if spec.name in found:
                raise ValueError(f"parameter {spec.name} is declared twice, expected once: rename one of the two")
            found[spec.name] = Parameter(name=spec.name, number=spec.number, words=spec.words)
    return Parameters(items=tuple(found[name] for name in sorted(found)))
