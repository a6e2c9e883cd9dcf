"""A customer on a plan version, and the periods already billed to it."""

from django.contrib.postgres.constraints import ExclusionConstraint
from django.contrib.postgres.fields import DateRangeField, RangeOperators
from django.db import models
from django.db.models import F, Q

from billing.models.catalog import PlanVersion, Price
from billing.models.parties import Customer, Project


class Subscription(models.Model):
    """A customer on a plan version, with anchor, period and quantity."""

    customer = models.ForeignKey(Customer, models.PROTECT, related_name="subscriptions")
    plan_version = models.ForeignKey(PlanVersion, models.PROTECT, related_name="subscriptions")
    project = models.ForeignKey(
        Project, models.PROTECT, null=True, blank=True, related_name="subscriptions"
    )
    anchor_on = models.DateField(help_text="Every period boundary is counted from this day.")
    started_on = models.DateField()
    ended_on = models.DateField(
        null=True, blank=True, help_text="First day without service; empty while it runs."
    )
    quantity = models.PositiveIntegerField(default=1)

    class Meta:
        ordering = ("customer", "started_on")
        constraints = (
            models.CheckConstraint(
                condition=Q(ended_on__isnull=True) | Q(ended_on__gte=F("started_on")),
                name="subscription_ends_after_start",
            ),
            models.CheckConstraint(condition=Q(quantity__gte=1), name="subscription_has_quantity"),
        )

    def __str__(self) -> str:
        return f"{self.plan_version} since {self.started_on}"


class BilledPeriod(models.Model):
    """A span of days of one price billed to one subscription: never twice (L16)."""

    customer = models.ForeignKey(
        Customer, models.PROTECT, related_name="+", db_constraint=False, db_index=False
    )
    subscription = models.ForeignKey(
        Subscription,
        models.PROTECT,
        related_name="billed_periods",
        db_constraint=False,
    )
    price = models.ForeignKey(Price, models.PROTECT, related_name="+", db_index=False)
    invoice = models.ForeignKey(
        "billing.Invoice", models.PROTECT, related_name="billed_periods", db_constraint=False
    )
    period = DateRangeField()
    voided = models.BooleanField(default=False)

    class Meta:
        constraints = (
            ExclusionConstraint(
                name="period_billed_once",
                expressions=(
                    (F("subscription"), RangeOperators.EQUAL),
                    (F("price"), RangeOperators.EQUAL),
                    (F("period"), RangeOperators.OVERLAPS),
                ),
                condition=Q(voided=False),
            ),
        )

    def __str__(self) -> str:
        return f"{self.price} {self.period}"
