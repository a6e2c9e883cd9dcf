"""Money received, and which invoices it pays."""

from django.conf import settings
from django.db import models
from django.db.models import Q
from django.db.models.functions import Now

from billing.models.base import AppendOnly
from billing.models.invoices import Invoice
from billing.models.parties import Customer, LegalEntity


class PaymentMethod(models.Model):
    """How a customer pays: the mandate or card reference is kept masked only."""

    class Kind(models.TextChoices):
        TRANSFER = "transfer", "bank transfer"
        DEBIT = "debit", "direct debit"
        CARD = "card", "card"

    customer = models.ForeignKey(Customer, models.PROTECT, related_name="payment_methods")
    kind = models.CharField(max_length=8, choices=Kind, default=Kind.TRANSFER)
    payer_name = models.CharField(max_length=120)
    reference_masked = models.CharField(
        "reference", max_length=40, blank=True, help_text="Last digits only, such as ···· 4242."
    )
    valid_until = models.DateField(null=True, blank=True)
    is_default = models.BooleanField("in use", default=True)

    class Meta:
        ordering = ("customer", "-is_default", "id")
        constraints = (
            models.UniqueConstraint(
                fields=("customer",), condition=Q(is_default=True), name="payment_method_one_in_use"
            ),
        )

    def __str__(self) -> str:
        return f"{self.get_kind_display()} {self.reference_masked}".strip()


class Payment(AppendOnly):
    """Money received on a value date. A mistake is undone by a reversing row."""

    class Method(models.TextChoices):
        TRANSFER = "transfer", "bank transfer"
        DEBIT = "debit", "direct debit"
        CARD = "card", "card"
        CASH = "cash", "cash"

    legal_entity = models.ForeignKey(LegalEntity, models.PROTECT, related_name="payments")
    customer = models.ForeignKey(Customer, models.PROTECT, related_name="payments")
    currency = models.CharField(max_length=3)
    amount = models.DecimalField(max_digits=18, decimal_places=3)
    received_on = models.DateField("value date")
    method = models.CharField(max_length=8, choices=Method, default=Method.TRANSFER)
    reference = models.CharField(max_length=140, blank=True)
    payer = models.CharField(max_length=120, blank=True)
    key = models.CharField(max_length=120, unique=True)
    recorded_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, models.PROTECT, null=True, blank=True, related_name="+"
    )
    recorded_at = models.DateTimeField(db_default=Now(), editable=False)
    reverses = models.OneToOneField(
        "self", models.PROTECT, null=True, blank=True, related_name="reversal"
    )

    class Meta:
        ordering = ("-id",)
        constraints = (
            models.CheckConstraint(
                condition=Q(amount__gt=0, reverses__isnull=True)
                | Q(amount__lt=0, reverses__isnull=False),
                name="payment_sign",
            ),
        )
        indexes = (models.Index(fields=("customer", "-id"), name="payment_by_customer"),)

    def __str__(self) -> str:
        return f"{self.amount} {self.currency} on {self.received_on}"


class Allocation(AppendOnly):
    """Part of a payment applied to an invoice; negative when it undoes an earlier row."""

    customer = models.ForeignKey(Customer, models.PROTECT, related_name="+")
    payment = models.ForeignKey(Payment, models.PROTECT, related_name="allocations")
    invoice = models.ForeignKey(Invoice, models.PROTECT, related_name="allocations")
    amount = models.DecimalField(max_digits=18, decimal_places=3)
    booked_on = models.DateField()
    recorded_at = models.DateTimeField(db_default=Now(), editable=False)
    reverses = models.OneToOneField(
        "self", models.PROTECT, null=True, blank=True, related_name="reversal"
    )

    class Meta:
        ordering = ("-id",)
        constraints = (
            models.CheckConstraint(
                condition=Q(amount__gt=0, reverses__isnull=True)
                | Q(amount__lt=0, reverses__isnull=False),
                name="allocation_sign",
            ),
        )

    def __str__(self) -> str:
        return f"{self.amount} to {self.invoice}"
