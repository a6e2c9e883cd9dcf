"""Plans and prices: publish terms, which are frozen from then on."""

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from django.db import transaction

from billing import audit
from billing.errors import IllegalTransition, MissingData
from billing.models import CREDITS, Plan, PlanVersion, Price
from billing.rules import pricing, states
from billing.rules.money import exponent


@transaction.atomic
def draft_version(
    plan_code: str,
    *,
    name: str,
    summary: str,
    terms: Mapping[str, Any],
    prices: Sequence[Mapping[str, Any]],
) -> PlanVersion:
    """A new draft version of a plan with its prices; makes the plan on first use.

    terms: fields of PlanVersion. prices: fields of Price, one mapping each.
    """
    plan, _ = Plan.objects.select_for_update(no_key=True).get_or_create(
        code=plan_code, defaults={"name": name, "summary": summary, "family": plan_code}
    )
    latest = plan.versions.order_by("-number").values_list("number", flat=True).first() or 0
    version = PlanVersion.objects.create(plan=plan, number=latest + 1, **terms)
    for price in prices:
        Price.objects.create(plan_version=version, **price)
    return version


@transaction.atomic
def publish(version_id: int, *, at: datetime, actor_id: int | None) -> None:
    """Put a draft on sale and freeze it.

    Raises IllegalTransition unless it is a draft, and MissingData when its prices could not be
    billed: they can never be mended afterwards.
    """
    version = PlanVersion.objects.select_for_update(no_key=True).get(pk=version_id)
    if not states.may(states.PLAN_VERSION, version.state, PlanVersion.State.PUBLISHED):
        raise IllegalTransition(
            subject=str(version), state=version.get_state_display(), target="published"
        )
    faults = _faults(version, list(version.prices.all()))
    if faults:
        raise MissingData(" ".join(faults))
    PlanVersion.objects.filter(pk=version_id).update(
        state=PlanVersion.State.PUBLISHED, published_at=at
    )
    audit.record("plan version published", subject=f"plan_version:{version_id}", actor_id=actor_id)


@transaction.atomic
def archive(version_id: int, *, actor_id: int | None) -> None:
    """Take a published version off sale; who is on it stays. Again is a no-op.

    Raises IllegalTransition for a draft.
    """
    version = PlanVersion.objects.select_for_update(no_key=True).get(pk=version_id)
    if version.state == PlanVersion.State.ARCHIVED:
        return
    if not states.may(states.PLAN_VERSION, version.state, PlanVersion.State.ARCHIVED):
        raise IllegalTransition(
            subject=str(version), state=version.get_state_display(), target="archived"
        )
    PlanVersion.objects.filter(pk=version_id).update(state=PlanVersion.State.ARCHIVED)
    audit.record("plan version archived", subject=f"plan_version:{version_id}", actor_id=actor_id)


def _faults(version: PlanVersion, prices: Sequence[Price]) -> list[str]:
    """What keeps a version from being sold, as sentences; empty for a sound one."""
    faults = [fault for price in prices if (fault := _fault(price))]
    counts: Counter[tuple[str, object]] = Counter()
    for price in prices:
        if price.role == Price.Role.OVERAGE:
            counts["overage", price.currency] += 1
        elif price.role == Price.Role.USAGE:
            counts["use", price.meter] += 1
    faults += [
        f"There are {number} prices of {what} for {which}; keep one."
        for (what, which), number in counts.items()
        if number > 1
    ]
    if version.overage_policy == PlanVersion.Overage.INVOICE:
        sold_in = {price.currency for price in prices if price.role == Price.Role.FEE}
        priced_in = {price.currency for price in prices if price.role == Price.Role.OVERAGE}
        lacking = ", ".join(sorted(sold_in - priced_in))
        if lacking or not priced_in:
            faults.append(
                "Use beyond the credits is invoiced, but has no price"
                f"{f' in {lacking}' if lacking else ''}."
            )
    return faults


def _fault(price: Price) -> str:
    """What is wrong with one price, as a sentence; empty when nothing is."""
    in_credits = price.role == Price.Role.USAGE
    if (price.currency == CREDITS) != in_credits:
        return f"“{price}”: use is priced in credits, everything else in money."
    if in_credits and price.meter_id is None:
        return f"“{price}”: a price of use names its meter."
    if price.model in {Price.Model.UNIT, Price.Model.PACKAGE} and price.unit_price is None:
        return f"“{price}” has no price."
    try:
        if not in_credits:
            exponent(price.currency)
        pricing.rate(
            pricing.price_from(
                price.model,  # type: ignore[arg-type]
                unit_price=price.unit_price,
                base_quantity=price.base_quantity,
                tiers=price.tiers,
            ),
            1,
        )
    except (ValueError, ArithmeticError, TypeError, AttributeError) as wrong:
        return f"“{price}” cannot be billed: {wrong}."
    return ""
