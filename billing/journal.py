"""The journal: the only module that writes money postings."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date

from django.db import transaction

from billing.bulk import copy_rows, next_ids
from billing.errors import IdempotencyConflict, InvariantBroken
from billing.models import JournalEntry, Posting
from billing.rules.books import Leg


@dataclass(frozen=True, slots=True)
class Draft:
    """One entry to post. `key` names the event; the same key is never posted twice."""

    key: str
    recipe: str  # name in rules.books.RECIPES
    legal_entity_id: int
    currency: str
    booked_on: date
    legs: Sequence[Leg]
    customer_id: int | None = None
    invoice_id: int | None = None
    payment_id: int | None = None


@transaction.atomic
def post(draft: Draft) -> int:
    """Append one balanced entry and return its id. The same `key` gives back the same entry.

    Raises IdempotencyConflict when the key was used for a different entry.
    """
    return post_many([draft])[0]


@transaction.atomic
def post_many(drafts: Sequence[Draft]) -> list[int]:
    """Append balanced entries in one round trip each for entries and postings.

    Returns the ids in the order given. A key that stands already gives back its entry if it says
    the same, else raises IdempotencyConflict and nothing is written.
    """
    known = {
        entry.key: entry
        for entry in JournalEntry.objects.filter(key__in=[draft.key for draft in drafts])
    }
    fresh: dict[str, tuple[Draft, str]] = {}
    for draft in drafts:
        fingerprint = _fingerprint(draft)
        if draft.key in known:
            if known[draft.key].fingerprint != fingerprint:
                raise IdempotencyConflict(f"{draft.key} was already used for a different entry")
            continue
        if draft.key in fresh:
            raise InvariantBroken(f"{draft.key} is posted twice in one batch")
        if sum(leg.amount for leg in draft.legs) != 0:
            raise InvariantBroken(f"legs of {draft.key} do not add up to zero")
        fresh[draft.key] = (draft, fingerprint)
    ids = dict(zip(fresh, next_ids(JournalEntry, len(fresh)), strict=True)) if fresh else {}
    copy_rows(
        JournalEntry,
        (
            "id",
            "key",
            "recipe",
            "legal_entity_id",
            "currency",
            "booked_on",
            "customer_id",
            "invoice_id",
            "payment_id",
            "fingerprint",
        ),
        (
            (
                ids[key],
                key,
                draft.recipe,
                draft.legal_entity_id,
                draft.currency,
                draft.booked_on,
                draft.customer_id,
                draft.invoice_id,
                draft.payment_id,
                fingerprint,
            )
            for key, (draft, fingerprint) in fresh.items()
        ),
    )
    copy_rows(
        Posting,
        ("entry_id", "account", "amount", "source"),
        (
            (ids[key], leg.account, leg.amount, leg.source)
            for key, (draft, _) in fresh.items()
            for leg in draft.legs
        ),
    )
    return [ids[draft.key] if draft.key in ids else known[draft.key].pk for draft in drafts]


def _fingerprint(draft: Draft) -> str:
    lines = sorted(f"{leg.account}:{leg.source}:{leg.amount.normalize():f}" for leg in draft.legs)
    head = [draft.recipe, str(draft.legal_entity_id), draft.currency, str(draft.booked_on)]
    return hashlib.sha256("\n".join([*head, *lines]).encode()).hexdigest()
