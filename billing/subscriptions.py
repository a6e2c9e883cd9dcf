"""Customers on plans: start a subscription, and read the terms it runs under."""

from datetime import date

from django.db import transaction

from billing import audit
from billing.errors import BillingError
from billing.models import Customer, PlanVersion, Subscription
from billing.rules.periods import aligned_anchor


class NotOnSale(BillingError):
    """The plan version is a draft, or archived."""

    code = "not_on_sale"


@transaction.atomic
def start(
    *,
    customer_id: int,
    plan_version_id: int,
    started_on: date,
    actor_id: int | None,
    quantity: int = 1,
    project_id: int | None = None,
) -> Subscription:
    """Put a customer on a published plan version from `started_on`, a day in its own zone.

    Raises NotOnSale when the version is not published.
    """
    customer = Customer.objects.select_for_update(no_key=True).get(pk=customer_id)
    version = PlanVersion.objects.select_related("plan").get(pk=plan_version_id)
    if version.state != PlanVersion.State.PUBLISHED:
        raise NotOnSale(f"{version} is {version.get_state_display()}; publish it first.")
    subscription = Subscription.objects.create(
        customer=customer,
        plan_version=version,
        project_id=project_id,
        anchor_on=aligned_anchor(
            started_on,
            version.interval,  # type: ignore[arg-type]
            version.interval_count,
            alignment=version.alignment,  # type: ignore[arg-type]
        ),
        started_on=started_on,
        quantity=quantity,
    )
    audit.record(
        "subscription started",
        subject=f"subscription:{subscription.pk}",
        actor_id=actor_id,
        customer_id=customer_id,
        after={"plan": str(version), "started_on": started_on.isoformat(), "quantity": quantity},
    )
    return subscription
