"""What was used, and what it cost: immutable facts."""

from django.db import models
from django.db.models import Q
from django.db.models.functions import Now

from billing.models.base import AppendOnly
from billing.models.catalog import Meter, Price
from billing.models.parties import Customer, LegalEntity, Project
from billing.models.subscriptions import Subscription


class UsageImport(models.Model):
    """One file of usage read by one person; its counts tie to its rows."""

    class State(models.TextChoices):
        READING = "reading", "reading"
        DONE = "done", "done"
        STOPPED = "stopped", "stopped"

    legal_entity = models.ForeignKey(LegalEntity, models.PROTECT, related_name="usage_imports")
    file_name = models.CharField(max_length=200)
    sha256 = models.CharField(max_length=64)
    mapping = models.CharField(max_length=40)
    state = models.CharField(max_length=8, choices=State, default=State.READING)
    rows_read = models.PositiveIntegerField(default=0)
    rows_new = models.PositiveIntegerField(default=0)
    rows_known = models.PositiveIntegerField("rows read before", default=0)
    rows_rejected = models.PositiveIntegerField(default=0)
    rejected_file = models.CharField(max_length=300, blank=True)
    started_at = models.DateTimeField(db_default=Now())
    finished_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ("-id",)

    def __str__(self) -> str:
        return self.file_name


class UsageEvent(AppendOnly):
    """An immutable fact of use. What came of it is decided once, when it is recorded."""

    class Outcome(models.TextChoices):
        CHARGED = "charged", "charged"
        HELD = "held", "held"
        FREE = "free", "free of charge"
        REFUSED = "refused", "refused"
        UNPRICED = "unpriced", "not priced"

    customer = models.ForeignKey(
        Customer, models.PROTECT, related_name="usage_events", db_index=False
    )
    subscription = models.ForeignKey(
        Subscription,
        models.PROTECT,
        null=True,
        blank=True,
        related_name="usage_events",
        db_constraint=False,
    )
    project = models.ForeignKey(
        Project,
        models.PROTECT,
        null=True,
        blank=True,
        related_name="usage_events",
        db_constraint=False,
    )
    meter = models.ForeignKey(Meter, models.PROTECT, related_name="usage_events")
    usage_import = models.ForeignKey(
        UsageImport, models.PROTECT, null=True, blank=True, related_name="events"
    )
    key = models.CharField(max_length=120)
    occurred_at = models.DateTimeField("happened at")
    recorded_at = models.DateTimeField("learned at", db_default=Now(), editable=False)
    quantity = models.DecimalField(max_digits=20, decimal_places=6, null=True, blank=True)
    dimensions = models.JSONField(default=dict, blank=True)
    outcome = models.CharField(max_length=8, choices=Outcome)
    reason = models.CharField(max_length=200, blank=True)

    class Meta:
        ordering = ("-id",)
        constraints = (
            models.UniqueConstraint(fields=("customer", "key"), name="usage_key_once"),
            models.CheckConstraint(
                condition=Q(quantity__isnull=True) | Q(quantity__gte=0),
                name="usage_quantity_not_negative",
            ),
            models.CheckConstraint(
                condition=~Q(outcome="charged") | Q(quantity__isnull=False),
                name="usage_charged_has_quantity",
            ),
        )
        indexes = (models.Index(fields=("customer", "occurred_at"), name="usage_by_customer"),)

    def __str__(self) -> str:
        return f"{self.quantity} {self.meter.unit} at {self.occurred_at:%Y-%m-%d %H:%M}"


class Charge(AppendOnly):
    """Credits spent for one use, and the part of it no credit covered."""

    customer = models.ForeignKey(
        Customer, models.PROTECT, related_name="charges", db_constraint=False, db_index=False
    )
    usage_event = models.ForeignKey(
        UsageEvent, models.PROTECT, related_name="charges", db_constraint=False, db_index=False
    )
    subscription = models.ForeignKey(
        Subscription, models.PROTECT, related_name="charges", db_constraint=False, db_index=False
    )
    price = models.ForeignKey(Price, models.PROTECT, related_name="charges", db_index=False)
    entry = models.ForeignKey(
        "billing.LedgerEntry",
        models.PROTECT,
        null=True,
        blank=True,
        related_name="charges",
        db_constraint=False,
    )
    quantity = models.DecimalField(max_digits=20, decimal_places=6)
    credits = models.DecimalField(
        "paid by credits", max_digits=20, decimal_places=6, help_text="Credits the grants paid."
    )
    overage = models.DecimalField(
        "beyond the credits", max_digits=20, decimal_places=6, help_text="Credits nobody covered."
    )
    occurred_at = models.DateTimeField("happened at")
    recorded_at = models.DateTimeField("learned at", db_default=Now(), editable=False)
    booked_on = models.DateField()
    explanation = models.JSONField(default=dict, blank=True)

    class Meta:
        ordering = ("-id",)
        constraints = (
            models.CheckConstraint(
                condition=Q(credits__gte=0, overage__gte=0, quantity__gte=0),
                name="charge_amounts_not_negative",
            ),
            models.UniqueConstraint(fields=("usage_event", "price"), name="charge_once_per_price"),
        )
        indexes = (
            models.Index(fields=("customer", "id"), name="charge_by_customer"),
            models.Index(fields=("subscription", "booked_on"), name="charge_by_subscription"),
        )

    def __str__(self) -> str:
        return f"{self.credits + self.overage} credits"
