"""Legal documents: series, invoices, their lines and tax groups, and the rendered files."""

import uuid

from django.conf import settings
from django.contrib.postgres.indexes import GinIndex, OpClass
from django.db import models
from django.db.models import F, Q
from django.db.models.functions import Now, Upper

from billing.models.base import AppendOnly
from billing.models.catalog import Price
from billing.models.parties import Customer, LegalEntity
from billing.models.subscriptions import Subscription
from billing.rules.tax import REASONS


class NumberSeries(models.Model):
    """Gapless counter per legal entity, kind of document and year. Nobody types a number."""

    legal_entity = models.ForeignKey(LegalEntity, models.PROTECT, related_name="number_series")
    kind = models.CharField(max_length=12)
    year = models.PositiveSmallIntegerField()
    pattern = models.CharField(max_length=60, default="{prefix}-{year}-{n:06}")
    next_number = models.PositiveIntegerField(default=1)
    last_issued_on = models.DateField(null=True, blank=True)

    class Meta:
        verbose_name_plural = "number series"
        ordering = ("legal_entity", "kind", "-year")
        constraints = (
            models.UniqueConstraint(
                fields=("legal_entity", "kind", "year"), name="series_once_per_year"
            ),
            models.CheckConstraint(condition=Q(next_number__gte=1), name="series_starts_at_one"),
        )

    def __str__(self) -> str:
        return f"{self.legal_entity.code} {self.kind} {self.year}"


class Invoice(models.Model):
    """The legal demand. Facts only: whether it is paid or overdue is computed from allocations."""

    class Kind(models.TextChoices):
        INVOICE = "invoice", "invoice"
        CREDIT_NOTE = "credit_note", "credit note"

    class State(models.TextChoices):
        DRAFT = "draft", "draft"
        IN_REVIEW = "in_review", "in review"
        APPROVED = "approved", "approved"
        ISSUED = "issued", "issued"
        VOID = "void", "void"

    public_id = models.UUIDField(default=uuid.uuid4, unique=True, editable=False)
    legal_entity = models.ForeignKey(
        LegalEntity, models.PROTECT, related_name="invoices", db_constraint=False, db_index=False
    )
    customer = models.ForeignKey(
        Customer, models.PROTECT, related_name="invoices", db_constraint=False, db_index=False
    )
    kind = models.CharField(max_length=12, choices=Kind, default=Kind.INVOICE)
    state = models.CharField(max_length=9, choices=State, default=State.DRAFT)
    currency = models.CharField(max_length=3)
    series = models.ForeignKey(
        NumberSeries,
        models.PROTECT,
        null=True,
        blank=True,
        related_name="invoices",
        db_constraint=False,
        db_index=False,
    )
    sequence = models.PositiveIntegerField(null=True, blank=True, editable=False)
    number = models.CharField(  # noqa: DJ001 - no number before issue; empty text would collide
        max_length=40, null=True, blank=True, editable=False
    )
    issued_on = models.DateField(null=True, blank=True)
    due_on = models.DateField(null=True, blank=True)
    supply_from = models.DateField()
    supply_to = models.DateField(help_text="First day after the supply.")
    tax_point_on = models.DateField(null=True, blank=True)
    net = models.DecimalField(max_digits=18, decimal_places=3, default=0)
    tax = models.DecimalField(max_digits=18, decimal_places=3, default=0)
    gross = models.DecimalField(max_digits=18, decimal_places=3, default=0)
    rounding = models.DecimalField(max_digits=18, decimal_places=3, default=0)
    payable = models.DecimalField(max_digits=18, decimal_places=3, default=0)
    snapshot = models.JSONField(null=True, blank=True, editable=False)
    corrects = models.ForeignKey(
        "self", models.PROTECT, null=True, blank=True, related_name="corrections"
    )
    run = models.ForeignKey(
        "billing.InvoiceRun",
        models.PROTECT,
        null=True,
        blank=True,
        related_name="invoices",
        db_index=False,
    )
    key = models.CharField(max_length=120, unique=True, editable=False)
    notes = models.CharField(max_length=2000, blank=True)
    created_by = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        models.PROTECT,
        null=True,
        blank=True,
        related_name="+",
        db_index=False,
    )
    created_at = models.DateTimeField(db_default=Now(), editable=False)
    approved_by = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        models.PROTECT,
        null=True,
        blank=True,
        related_name="+",
        db_index=False,
    )
    issued_at = models.DateTimeField(null=True, blank=True, editable=False)

    class Meta:
        ordering = ("-id",)
        constraints = (
            models.UniqueConstraint(fields=("series", "sequence"), name="invoice_number_once"),
            models.UniqueConstraint(
                fields=("legal_entity", "number"), name="invoice_number_text_once"
            ),
            models.CheckConstraint(
                condition=(
                    Q(
                        state__in=("issued", "void"),
                        number__isnull=False,
                        sequence__isnull=False,
                        series__isnull=False,
                        issued_on__isnull=False,
                        due_on__isnull=False,
                        issued_at__isnull=False,
                        tax_point_on__isnull=False,
                        snapshot__isnull=False,
                    )
                    | Q(
                        state__in=("draft", "in_review", "approved"),
                        number__isnull=True,
                        sequence__isnull=True,
                        series__isnull=True,
                        issued_on__isnull=True,
                        issued_at__isnull=True,
                    )
                ),
                name="invoice_number_only_when_issued",
            ),
            models.CheckConstraint(
                condition=Q(gross=F("net") + F("tax"), payable=F("gross") + F("rounding")),
                name="invoice_totals_are_exact",
            ),
            models.CheckConstraint(
                condition=Q(net__gte=0, gross__gte=0), name="invoice_not_negative"
            ),
            models.CheckConstraint(
                condition=Q(supply_to__gt=F("supply_from")), name="invoice_supply_is_a_span"
            ),
            models.CheckConstraint(
                condition=Q(approved_by__isnull=True)
                | Q(created_by__isnull=True)
                | ~Q(approved_by=F("created_by")),
                name="invoice_maker_is_not_checker",
            ),
        )
        indexes = (
            models.Index(fields=("customer", "-id"), name="invoice_by_customer"),
            models.Index(fields=("state", "issued_on"), name="invoice_by_state"),
            models.Index(fields=("run", "state"), name="invoice_by_run"),
            GinIndex(OpClass(Upper("number"), "gin_trgm_ops"), name="invoice_number_search"),
        )

    def __str__(self) -> str:
        return self.number or f"Draft {self.pk}"


class InvoiceLine(models.Model):
    """One charge on an invoice, with the span of days it pays for and why it is this amount."""

    invoice = models.ForeignKey(
        Invoice, models.PROTECT, related_name="lines", db_constraint=False, db_index=False
    )
    customer = models.ForeignKey(
        Customer, models.PROTECT, related_name="+", db_constraint=False, db_index=False
    )
    position = models.PositiveIntegerField()
    description = models.CharField(max_length=200)
    detail = models.CharField(max_length=200, blank=True)
    quantity = models.DecimalField(max_digits=20, decimal_places=6)
    unit = models.CharField(max_length=20)
    unit_price = models.DecimalField(max_digits=24, decimal_places=10)
    base_quantity = models.PositiveIntegerField("price is for", default=1)
    net = models.DecimalField(max_digits=18, decimal_places=3)
    tax_category = models.CharField(max_length=2)
    tax_rate = models.DecimalField(max_digits=5, decimal_places=2)
    tax_point_on = models.DateField()
    product = models.CharField(max_length=40)
    subscription = models.ForeignKey(
        Subscription,
        models.PROTECT,
        null=True,
        blank=True,
        related_name="invoice_lines",
        db_constraint=False,
    )
    price = models.ForeignKey(
        Price, models.PROTECT, null=True, blank=True, related_name="invoice_lines", db_index=False
    )
    supply_from = models.DateField()
    supply_to = models.DateField()
    explanation = models.JSONField(default=dict, blank=True)

    class Meta:
        ordering = ("invoice", "position")
        constraints = (
            models.UniqueConstraint(fields=("invoice", "position"), name="line_position_once"),
            models.CheckConstraint(
                condition=Q(supply_to__gt=F("supply_from")), name="line_supply_is_a_span"
            ),
        )

    def __str__(self) -> str:
        return self.description


class InvoiceTax(models.Model):
    """The VAT of one category and rate on one invoice."""

    invoice = models.ForeignKey(Invoice, models.PROTECT, related_name="taxes", db_index=False)
    category = models.CharField(max_length=2)
    rate = models.DecimalField(max_digits=5, decimal_places=2)
    country = models.CharField(max_length=2, help_text="Country whose tax it is.")
    taxable = models.DecimalField(max_digits=18, decimal_places=3)
    tax = models.DecimalField(max_digits=18, decimal_places=3)
    reason_code = models.CharField(max_length=30, blank=True)
    reason = models.CharField(max_length=200, blank=True)

    class Meta:
        verbose_name = "invoice VAT group"
        ordering = ("invoice", "category", "rate")
        constraints = (
            models.UniqueConstraint(fields=("invoice", "category", "rate"), name="tax_group_once"),
        )

    def __str__(self) -> str:
        return f"{self.category} {self.rate} %"

    @property
    def reason_text(self) -> str:
        """Why no or another tax is due, in words; empty when nothing needs saying."""
        return REASONS.get(self.reason, self.reason)


class InvoiceBalance(models.Model):
    """What is still due on an issued invoice: a cache for lists, recomputed by the services."""

    invoice = models.OneToOneField(
        Invoice, models.PROTECT, primary_key=True, related_name="balance", db_constraint=False
    )
    customer = models.ForeignKey(
        Customer, models.PROTECT, related_name="+", db_constraint=False, db_index=False
    )
    currency = models.CharField(max_length=3)
    due_on = models.DateField()
    due = models.DecimalField(max_digits=18, decimal_places=3)

    class Meta:
        constraints = (
            models.CheckConstraint(condition=Q(due__gte=0), name="balance_due_not_negative"),
        )
        indexes = (
            models.Index(fields=("due_on",), condition=Q(due__gt=0), name="balance_open_by_day"),
            models.Index(fields=("customer",), condition=Q(due__gt=0), name="balance_open_of"),
        )

    def __str__(self) -> str:
        return f"{self.due} {self.currency}"


class InvoiceDocument(models.Model):
    """The rendered file of a snapshot. Waiting rows are the queue; the file is set once."""

    class State(models.TextChoices):
        WAITING = "waiting", "waiting"
        READY = "ready", "ready"
        PARKED = "parked", "set aside"

    invoice = models.ForeignKey(
        Invoice, models.PROTECT, related_name="documents", db_constraint=False, db_index=False
    )
    customer = models.ForeignKey(
        Customer, models.PROTECT, related_name="+", db_constraint=False, db_index=False
    )
    kind = models.CharField(max_length=12, default="pdf")
    state = models.CharField(max_length=7, choices=State, default=State.WAITING)
    priority = models.SmallIntegerField(default=100, help_text="Lower numbers are drawn first.")
    attempts = models.PositiveSmallIntegerField(default=0)
    lease_until = models.DateTimeField(null=True, blank=True)
    reason = models.CharField(max_length=300, blank=True)
    storage_name = models.CharField(max_length=120, blank=True)
    sha256 = models.CharField(max_length=64, blank=True)
    size = models.PositiveIntegerField(null=True, blank=True)
    template_version = models.CharField(max_length=20, blank=True)
    created_at = models.DateTimeField(db_default=Now(), editable=False)
    rendered_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ("-id",)
        constraints = (
            models.UniqueConstraint(fields=("invoice", "kind"), name="document_once"),
            models.CheckConstraint(
                condition=~Q(state="ready")
                | (~Q(storage_name="") & ~Q(sha256="") & Q(size__isnull=False)),
                name="document_ready_has_a_file",
            ),
        )
        indexes = (
            models.Index(
                fields=("priority", "-id"),
                condition=Q(state="waiting"),
                name="document_queue",
            ),
            models.Index(fields=("id",), condition=Q(state="parked"), name="document_parked"),
        )

    def __str__(self) -> str:
        return f"{self.kind} of {self.invoice}"


class DocumentAccess(AppendOnly):
    """Who fetched which file, and when."""

    document = models.ForeignKey(InvoiceDocument, models.PROTECT, related_name="accesses")
    customer = models.ForeignKey(Customer, models.PROTECT, related_name="+")
    user = models.ForeignKey(settings.AUTH_USER_MODEL, models.PROTECT, related_name="+")
    action = models.CharField(max_length=10, default="download")
    request_id = models.CharField(max_length=40, blank=True)
    accessed_at = models.DateTimeField(db_default=Now())

    class Meta:
        verbose_name_plural = "document accesses"
        ordering = ("-id",)

    def __str__(self) -> str:
        return f"{self.action} {self.accessed_at:%Y-%m-%d %H:%M}"
