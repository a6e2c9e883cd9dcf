"""Runs and their items, decisions by a second person, the audit trail, signs of life."""

from django.conf import settings
from django.contrib.postgres.fields import DateRangeField
from django.db import models
from django.db.models import F, Q
from django.db.models.functions import Now

from billing.models.base import AppendOnly
from billing.models.catalog import Plan
from billing.models.invoices import Invoice
from billing.models.parties import Customer, LegalEntity


class InvoiceRun(models.Model):
    """One batch of invoices: who made it, for which period, and how far it is."""

    class State(models.TextChoices):
        PLANNED = "planned", "planned"
        DRAFTING = "drafting", "drafting"
        IN_REVIEW = "in_review", "in review"
        APPROVED = "approved", "approved"
        ISSUING = "issuing", "issuing"
        DELIVERING = "delivering", "making documents"
        DONE = "done", "done"
        STOPPED = "stopped", "stopped"

    legal_entity = models.ForeignKey(LegalEntity, models.PROTECT, related_name="runs")
    plan = models.ForeignKey(
        Plan, models.PROTECT, null=True, blank=True, help_text="Empty bills every plan."
    )
    period = DateRangeField(help_text="Days whose use is billed in arrears.")
    scope_key = models.CharField(max_length=80, editable=False)
    state = models.CharField(max_length=10, choices=State, default=State.PLANNED)
    resume_state = models.CharField(max_length=10, blank=True, editable=False)
    issue_on = models.DateField("invoice date", null=True, blank=True)
    author = models.ForeignKey(
        settings.AUTH_USER_MODEL, models.PROTECT, null=True, blank=True, related_name="+"
    )
    approved_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, models.PROTECT, null=True, blank=True, related_name="+"
    )
    created_at = models.DateTimeField(db_default=Now(), editable=False)
    approved_at = models.DateTimeField(null=True, blank=True, editable=False)
    started_at = models.DateTimeField(null=True, blank=True, editable=False)
    finished_at = models.DateTimeField(null=True, blank=True, editable=False)

    class Meta:
        ordering = ("-id",)
        constraints = (
            models.UniqueConstraint(fields=("scope_key",), name="run_once_per_scope"),
            models.CheckConstraint(
                condition=Q(approved_by__isnull=True)
                | Q(author__isnull=True)
                | ~Q(approved_by=F("author")),
                name="run_maker_is_not_checker",
            ),
            models.CheckConstraint(
                condition=~Q(state__in=("approved", "issuing", "delivering"))
                | Q(approved_by__isnull=False),
                name="run_issues_only_when_approved",
            ),
        )

    def __str__(self) -> str:
        return f"{self.legal_entity.name}, {self.period.lower:%B %Y}"


class RunItem(models.Model):
    """One customer's part of a run. The rows are the queue; leases live here."""

    class State(models.TextChoices):
        WAITING = "waiting", "waiting"
        DRAFTED = "drafted", "drafted"
        ISSUED = "issued", "issued"
        NOTHING = "nothing", "nothing to bill"
        PARKED = "parked", "set aside"

    run = models.ForeignKey(InvoiceRun, models.PROTECT, related_name="items", db_index=False)
    customer = models.ForeignKey(Customer, models.PROTECT, related_name="+")
    state = models.CharField(max_length=8, choices=State, default=State.WAITING)
    reason = models.CharField(max_length=300, blank=True)
    attempts = models.PositiveSmallIntegerField(default=0)
    lease_until = models.DateTimeField(null=True, blank=True)
    invoice = models.OneToOneField(
        Invoice, models.SET_NULL, null=True, blank=True, related_name="run_item"
    )
    updated_at = models.DateTimeField(db_default=Now())

    class Meta:
        ordering = ("run", "id")
        constraints = (
            models.UniqueConstraint(fields=("run", "customer"), name="run_item_once"),
            models.CheckConstraint(
                condition=~Q(state="parked") | ~Q(reason=""), name="run_item_parked_has_a_reason"
            ),
        )
        indexes = (models.Index(fields=("run", "state", "id"), name="run_item_queue"),)

    def __str__(self) -> str:
        return f"{self.customer} in {self.run}"


class Approval(models.Model):
    """A request by one person, a decision by another."""

    subject = models.CharField(max_length=80, help_text="What is asked for, such as run:12.")
    summary = models.CharField(max_length=300)
    legal_entity = models.ForeignKey(LegalEntity, models.PROTECT, related_name="+")
    customer = models.ForeignKey(Customer, models.PROTECT, null=True, blank=True, related_name="+")
    requested_by = models.ForeignKey(settings.AUTH_USER_MODEL, models.PROTECT, related_name="+")
    requested_at = models.DateTimeField(db_default=Now(), editable=False)
    reason = models.CharField(max_length=500, blank=True)

    class Meta:
        ordering = ("-id",)
        constraints = (models.UniqueConstraint(fields=("subject",), name="approval_asked_once"),)

    def __str__(self) -> str:
        return self.summary


class ApprovalDecision(AppendOnly):
    """The decision on a request: written once, never by the person who asked (a trigger)."""

    approval = models.OneToOneField(Approval, models.PROTECT, related_name="decision")
    decided_by = models.ForeignKey(settings.AUTH_USER_MODEL, models.PROTECT, related_name="+")
    decided_at = models.DateTimeField(db_default=Now(), editable=False)
    is_approved = models.BooleanField()
    reason = models.CharField(max_length=500, blank=True)

    class Meta:
        ordering = ("-id",)

    def __str__(self) -> str:
        return "approved" if self.is_approved else "refused"


class AuditEvent(AppendOnly):
    """One business event: who did what, when, why, and to which row."""

    customer = models.ForeignKey(
        Customer, models.PROTECT, null=True, blank=True, related_name="+", db_index=False
    )
    actor = models.ForeignKey(
        settings.AUTH_USER_MODEL, models.PROTECT, null=True, blank=True, related_name="+"
    )
    action = models.CharField(max_length=60)
    subject = models.CharField(max_length=80)
    reason = models.CharField(max_length=500, blank=True)
    request_id = models.CharField(max_length=40, blank=True)
    before = models.JSONField(default=dict, blank=True)
    after = models.JSONField(default=dict, blank=True)
    recorded_at = models.DateTimeField(db_default=Now(), editable=False)

    class Meta:
        ordering = ("-id",)
        indexes = (
            models.Index(fields=("subject", "id"), name="audit_by_subject"),
            models.Index(fields=("customer", "id"), name="audit_by_customer"),
        )

    def __str__(self) -> str:
        return f"{self.action} {self.subject}"


class Heartbeat(models.Model):
    """When a worker or the clock was last seen alive."""

    name = models.CharField(max_length=40, primary_key=True)
    seen_at = models.DateTimeField()

    def __str__(self) -> str:
        return self.name
