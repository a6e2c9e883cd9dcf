"""Plans and prices: publish terms, which are frozen from then on."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from django.db import transaction

from billing import audit
from billing.errors import IllegalTransition
from billing.models import Plan, PlanVersion, Price
from billing.rules import states


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
    """Put a draft on sale and freeze it. Raises IllegalTransition unless it is a draft."""
    version = PlanVersion.objects.select_for_update(no_key=True).get(pk=version_id)
    if not states.may(states.PLAN_VERSION, version.state, PlanVersion.State.PUBLISHED):
        raise IllegalTransition(
            subject=str(version), state=version.get_state_display(), target="published"
        )
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
