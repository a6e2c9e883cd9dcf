"""The comparison with the rule has teeth: doors with one mistake each are all found out.

Each mistake is put into a database of its own, by its owner, and the property test must fail there.
"""

import re
from collections.abc import Callable
from typing import Any

import psycopg
import pytest

from tests.ledger import test_against_rule as honest

SEEDS = 30  # stories a mistake has to hide through
pytestmark = [pytest.mark.owner, pytest.mark.slow]

# What is wrong: the function, a piece of its text, and what takes its place.
MISTAKES = {
    "burns the latest expiry first": (
        "ledger_pick",
        "ORDER BY priority, expires_at NULLS LAST",
        "ORDER BY priority, expires_at DESC NULLS LAST",
    ),
    "burns the lowest priority first": ("ledger_pick", "BY priority,", "BY priority DESC,"),
    "burns paid before given": (
        "ledger_pick",
        "kind = 'purchased', created_at, id",
        "kind <> 'purchased', created_at, id",
    ),
    "burns the newest first": ("ledger_pick", "created_at, id", "created_at DESC, id DESC"),
    "spends what is held": (
        "ledger_pick",
        "remaining - held AS free FROM",
        "remaining AS free FROM",
    ),
    "spends at the instant of expiry": (
        "ledger_pick",
        "expires_at > p_at)",
        "expires_at >= p_at)",
    ),
    "spends before the grant begins": ("ledger_pick", "AND effective_at <= p_at", ""),
    "ignores the scope": ("ledger_pick", "OR p_meter = ANY (meter_ids)", "OR true"),
    "forgets the debt it has": (
        "ledger_pay",
        "b.debt + pick.short <= p_debt_limit",
        "pick.short <= p_debt_limit",
    ),
    "carries debt for invoiced plans": (
        "ledger_pay",
        "overage := pick.short;",
        "owed := pick.short; p_debt_limit := 1000000;",
    ),
    "does not find late use's credits": ("ledger_pay", "p_at < b.swept_at", "false"),
    "expires what is held": (
        "ledger_catch_up",
        "SET remaining = held, is_open = held > 0",
        "SET remaining = 0, held = 0, is_open = false",
    ),
    "lets holds live on": ("ledger_catch_up", "o.expires_at <= p_at", "false"),
    "expires a day late": (
        "ledger_catch_up",
        "g.expires_at <= p_at",
        "g.expires_at + interval '1 day' <= p_at",
    ),
    "keeps what returns after its expiry": (
        "ledger_end_returned",
        "g.expires_at <= greatest(p_at, swept)",
        "false",
    ),
    "spends a hold's pins backwards": ("ledger_resolve", "ORDER BY p.id", "ORDER BY p.id DESC"),
    "spends the whole hold": (
        "ledger_settle",
        "from_pins := least(p_amount, h.covered)",
        "from_pins := h.covered",
    ),
    "gives back in the order of spending": ("ledger_reverse", "p.id DESC", "p.id"),
    "never repays debt": ("ledger_grant", "p_kind = 'purchased' AND b.debt", "false AND b.debt"),
    "voids what is held": (
        "ledger_void",
        "coalesce(p_amount, g.remaining - g.held)",
        "coalesce(p_amount, g.remaining)",
    ),
}
MISTAKES_IN_BATCHES = {
    "lays the rulers out of step": (
        "ledger_spend_many",
        "greatest(p.upto - p.amount, l.upto - l.free)",
        "greatest(p.upto - p.amount, l.upto - l.free, 1)",
    ),
    "pays the refused in a batch": (
        "ledger_spend_many",
        "(asked.amount <= lots.free OR asked.policy = 'invoice')",
        "true",
    ),
    "burns a batch by identity": (
        "ledger_spend_many",
        "ORDER BY g.priority, g.expires_at NULLS LAST",
        "ORDER BY g.id DESC",
    ),
    "takes grants for eternal in a batch": (
        "ledger_spend_many",
        "(o.due_at IS NULL OR o.due_at > asked.last_at)",
        "true",
    ),
    "takes grants for begun in a batch": ("ledger_spend_many", "NOT lots.begins", "true"),
    "ignores the scope in a batch": (
        "ledger_spend_many",
        "(asked.one_scope OR NOT lots.scoped)",
        "true",
    ),
}


@pytest.fixture
def mistaken(
    fresh_database: str, owner_connection: psycopg.Connection
) -> Callable[[str, str, str], None]:
    """Puts one mistake into the doors of this test's own database."""

    def put(function: str, right: str, wrong: str) -> None:
        row = owner_connection.execute(
            "SELECT pg_get_functiondef(oid) FROM pg_proc WHERE proname = %s", [function]
        ).fetchone()
        assert row is not None
        # The same text with any white space, because the files are laid out for people.
        pattern = r"\s+".join(re.escape(word) for word in right.split())
        mutant, found = re.subn(pattern, lambda _: wrong, row[0])
        assert found, f"{function} has no {right!r} any more: bring the mistake up to date"
        owner_connection.execute(mutant.encode())

    return put


def disagrees(check: Any) -> None:
    """The property test fails: with a difference, or because a constraint held the mistake up."""
    inner = check.hypothesis.inner_test
    for seed in range(SEEDS):
        try:
            inner(transactional_db=None, seed=seed)
        except (Exception, pytest.fail.Exception):  # noqa: BLE001 - any way of being found out
            return
    pytest.fail(f"not found out in {SEEDS} stories")


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistaken_door_is_found_out(mistaken: Callable[[str, str, str], None], mistake: str):
    mistaken(*MISTAKES[mistake])
    disagrees(honest.test_the_doors_agree_with_the_rule_grant_by_grant)


@pytest.mark.parametrize("mistake", MISTAKES_IN_BATCHES)
def test_a_mistaken_batch_is_found_out(mistaken: Callable[[str, str, str], None], mistake: str):
    mistaken(*MISTAKES_IN_BATCHES[mistake])
    disagrees(honest.test_a_batch_pays_as_the_single_door_would_row_by_row)
