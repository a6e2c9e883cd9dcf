"""The money book: balanced entries and their postings."""

from django.db import models
from django.db.models import Q
from django.db.models.functions import Now

from billing.models.base import AppendOnly
from billing.models.parties import Customer, LegalEntity


class JournalEntry(AppendOnly):
    """One balanced money entry, made by a named recipe."""

    legal_entity = models.ForeignKey(
        LegalEntity, models.PROTECT, related_name="journal_entries", db_index=False
    )
    customer = models.ForeignKey(
        Customer,
        models.PROTECT,
        null=True,
        blank=True,
        related_name="journal_entries",
        db_constraint=False,
        db_index=False,
    )
    invoice = models.ForeignKey(
        "billing.Invoice", models.PROTECT, null=True, blank=True, related_name="journal_entries"
    )
    payment = models.ForeignKey(
        "billing.Payment", models.PROTECT, null=True, blank=True, related_name="journal_entries"
    )
    key = models.CharField(max_length=120, unique=True)
    recipe = models.CharField(max_length=40)
    currency = models.CharField(max_length=3)
    booked_on = models.DateField()
    recorded_at = models.DateTimeField(db_default=Now(), editable=False)
    fingerprint = models.CharField(max_length=64)

    class Meta:
        verbose_name_plural = "journal entries"
        ordering = ("-id",)
        indexes = (
            models.Index(fields=("legal_entity", "booked_on"), name="journal_by_day"),
            models.Index(fields=("customer", "id"), name="journal_by_customer"),
        )

    def __str__(self) -> str:
        return self.key


class Posting(AppendOnly):
    """One signed amount of an entry: a debit is positive, a credit negative."""

    entry = models.ForeignKey(JournalEntry, models.PROTECT, related_name="postings")
    account = models.CharField(max_length=40)
    amount = models.DecimalField(max_digits=18, decimal_places=3)
    source = models.CharField(
        max_length=80, blank=True, help_text="What a contract posting is about, such as grant:7."
    )

    class Meta:
        ordering = ("id",)
        constraints = (models.CheckConstraint(condition=~Q(amount=0), name="posting_not_zero"),)
        indexes = (models.Index(fields=("account", "entry"), name="posting_by_account"),)

    def __str__(self) -> str:
        return f"{self.account} {self.amount}"
