"""The page of a plan version: its terms in sentences, its prices, and going on and off sale."""

from collections.abc import Mapping
from decimal import Decimal
from typing import Any, Final

from django.http import HttpRequest
from django.utils import timezone

from billing import catalog
from billing.admin import states, steps
from billing.admin.steps import Fact, Step
from billing.models import CREDITS, PlanVersion, Price
from billing.templatetags.billing_format import (
    credit_amount,
    moment,
    quantity,
    rate,
)

State = PlanVersion.State


def context(request: HttpRequest, version: PlanVersion) -> dict[str, Any]:
    """What the page shows."""
    shown = {
        "page_title": str(version),
        "page_badge": states.state(version, states.VERSION),
        "page_lead": _lead(version),
        "page_tools": steps.tools(request, version, STEPS, "billing_planversion"),
    }
    if version.state != State.DRAFT:
        prices = version.prices.select_related("meter").order_by("role", "code", "currency")
        shown["terms"] = terms(version)
        shown["prices"] = [price_row(price) for price in prices]
    return shown


def _lead(version: PlanVersion) -> str:
    if version.state == State.DRAFT:
        return "A draft: nobody can subscribe before it is published."
    since = f"Published {moment(version.published_at)}. Its terms never change."
    return since if version.state == State.PUBLISHED else f"{since} It is off sale."


def terms(version: PlanVersion) -> list[Fact]:
    """The terms of a version, as a person would say them."""
    period = version.get_interval_display()
    if version.interval_count != 1:
        period = f"{version.interval_count} {period}s"
    rows = [
        Fact("A period is", f"one {period}" if version.interval_count == 1 else period),
        Fact("Periods run", version.get_alignment_display()),
        Fact("Credits each period", credit_amount(version.allowance_credits) or "none"),
        Fact("Use beyond the credits", version.get_overage_policy_display()),
    ]
    if version.overage_policy == PlanVersion.Overage.DEBT:
        rows.append(Fact("Debt up to", f"{credit_amount(version.debt_limit)} credits"))
    if version.usage_rules:
        rows.append(Fact("Usage rules", version.usage_rules))
    return rows


def price_row(price: Price) -> dict[str, str]:
    """One price in a table: what for, how much, when."""
    return {
        "label": price.label,
        "role": price.get_role_display(),
        "meter": price.meter.name if price.meter else "",
        "model": price.get_model_display(),
        "amount": _amount(price),
        "per": f"one {price.unit_label}"
        if price.base_quantity == 1
        else f"{quantity(Decimal(price.base_quantity))} {price.unit_label}s",
        "billed": price.get_billed_display() if price.currency != CREDITS else "",
    }


def _amount(price: Price) -> str:
    if price.unit_price is None:
        return "by tiers"
    if price.currency == CREDITS:
        return f"{credit_amount(price.unit_price)} credits"
    return f"{rate(price.unit_price, price.currency)} {price.currency}"


def _publish(version: PlanVersion, user: Any, _reason: str) -> None:
    catalog.publish(version.pk, at=timezone.now(), actor_id=user.pk)


def _archive(version: PlanVersion, user: Any, _reason: str) -> None:
    catalog.archive(version.pk, actor_id=user.pk)


STEPS: Final[Mapping[str, Step]] = {
    "publish": Step(
        label="Publish…",
        permission="change_catalog",
        question="Publish this version?",
        lead="Customers can subscribe to it from now on.",
        effects=(
            ("lock", "Its terms and prices are frozen for good. New terms are a new version."),
            ("check", "Customers on earlier versions keep their terms."),
        ),
        done="The version is published.",
        act=_publish,
        allowed=lambda version, _user: version.state == State.DRAFT,
        icon="check",
        needs_reason=False,
        is_main=True,
    ),
    "archive": Step(
        label="Take off sale…",
        permission="change_catalog",
        question="Take this version off sale?",
        lead="Nobody new can subscribe to it.",
        effects=(("check", "Customers who are on it stay on it, with the same terms."),),
        done="The version is off sale.",
        act=_archive,
        allowed=lambda version, _user: version.state == State.PUBLISHED,
        needs_reason=False,
    ),
}


def facts(version: PlanVersion) -> list[Fact]:
    """What the confirmation names."""
    return [Fact("Plan", version.plan.name), *terms(version)]
