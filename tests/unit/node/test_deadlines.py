"""Which cases a node makes visible as over by itself: exactly those that the tables let any node move."""

from __future__ import annotations

from yilian.ledger.registry import Registry
from yilian.node.deadlines import GRACE_MS, GRACE_OF_DECISIONS_MS, rules_of
from yilian.workflows.registry import WORKFLOWS

REGISTRY = Registry(WORKFLOWS)


def test_every_time_that_any_node_may_make_visible_has_a_rule() -> None:
    rules = rules_of(REGISTRY)
    commands = sorted({REGISTRY.by_type[type(rule.command)].word for found in rules.values() for rule in found})
    assert commands == [
        "challenge.expire",
        "consent.expire",
        "disclosure.expire",
        "emergency.expire",
        "grant.expire",
        "inspection.expire_paper",
        "member.expire",
        "member.leave",
        "proposal.apply",
        "proposal.expire",
        "referral.expire",
        "use.expire",
    ]


def test_an_approved_proposal_is_left_to_the_officers_longer_than_the_rest() -> None:
    rules = rules_of(REGISTRY)
    graces = {REGISTRY.by_type[type(rule.command)].word: rule.grace_ms for found in rules.values() for rule in found}
    assert graces["proposal.apply"] == GRACE_OF_DECISIONS_MS > graces["use.expire"] == GRACE_MS


def test_a_rule_names_a_field_of_its_case_type() -> None:
    missing = [
        (word, rule.field)
        for word, found in rules_of(REGISTRY).items()
        for rule in found
        if rule.field not in REGISTRY.fields[word].__struct_fields__
    ]
    assert missing == []
