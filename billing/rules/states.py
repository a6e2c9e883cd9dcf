"""The life cycles of invoices, runs and their parts: which step may follow which."""

from collections.abc import Mapping
from typing import Final

Machine = Mapping[str, frozenset[str]]


def _machine(**steps: str) -> Machine:
    return {state: frozenset(targets.split()) for state, targets in steps.items()}


# Paid, overdue and the like are derived from allocations; only these are stored.
INVOICE: Final = _machine(
    draft="in_review",
    in_review="draft approved",
    approved="draft issued",  # back to draft when tax or total changed at issue
    issued="void",
    void="",
)

RUN: Final = _machine(
    planned="previewed drafting stopped",
    previewed="planned drafting stopped",
    drafting="in_review done stopped",  # done: nothing to bill
    in_review="drafting approved stopped",
    approved="in_review issuing stopped",
    issuing="delivering stopped",
    delivering="done stopped",
    # Resumed where it was stopped.
    stopped="planned previewed drafting in_review approved issuing delivering",
    done="",
)

RUN_ITEM: Final = _machine(
    waiting="working skipped",
    working="waiting done skipped parked",  # waiting again when the lease ran out
    parked="waiting skipped",
    skipped="waiting",
    done="",
)

DOCUMENT: Final = _machine(
    waiting="rendering",
    rendering="waiting ready parked",
    parked="waiting",
    ready="",
)

PLAN_VERSION: Final = _machine(draft="published", published="archived", archived="")

HOLD: Final = _machine(open="settled released", settled="", released="")


def may(machine: Machine, state: str, target: str) -> bool:
    """Whether `target` may follow `state`. An unknown state is a KeyError: a bug, not a refusal.

    >>> may(INVOICE, "approved", "issued"), may(INVOICE, "issued", "draft")
    (True, False)
    """
    return target in machine[state]
