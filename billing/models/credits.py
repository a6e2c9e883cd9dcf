"""The credit ledger's tables. Written only by the doors in `billing.ledger`, never by the ORM.

Amounts are credits with six decimals. `occurred_at` is the instant an entry was judged at,
`recorded_at` the database's clock when it was written, `booked_at` its accounting instant.

`db_constraint=False` means that the SQL of the doors makes the foreign key instead: over
(customer, id), so that no row points into another customer, and to the balance row rather than
to the customer, because the door holds that lock already. Meters are the exception: one meter
serves every customer, and a foreign key would make all spends share its row lock. The CHECKs of
the tables on the hot path stand there too: PostgreSQL parses a table's CHECK expressions anew for
every statement, which cost more than the insert, so each of these tables has one small function.
"""

from decimal import Decimal

from django.contrib.postgres.fields import ArrayField
from django.contrib.postgres.indexes import BrinIndex
from django.db import models
from django.db.models import F, Q
from django.db.models.functions import Now

from billing.models.base import AppendOnly, DoorsOnly

# numeric sorts NaN above every number, so this bound keeps NaN out as well.
CREDITS_BOUND = Decimal(10) ** 14


class OveragePolicy(models.TextChoices):
    """What happens to use beyond the credits."""

    BLOCK = "block", "refused"
    INVOICE = "invoice", "invoiced"
    DEBT = "debt", "carried as debt"


class CreditBalance(DoorsOnly):
    """The running sums of one customer; its row is the lock every door takes first.

    `available` counts every posted, unheld credit, also of grants not yet in effect.
    """

    customer = models.OneToOneField(
        "billing.Customer",
        models.PROTECT,
        primary_key=True,
        related_name="credit_balance",
    )
    available = models.DecimalField(max_digits=20, decimal_places=6, default=0, db_default=0)
    held = models.DecimalField(max_digits=20, decimal_places=6, default=0, db_default=0)
    debt = models.DecimalField(max_digits=20, decimal_places=6, default=0, db_default=0)
    debt_limit = models.DecimalField(
        max_digits=20,
        decimal_places=6,
        default=0,
        db_default=0,
        help_text="The limit the present debt was allowed under.",
    )
    next_seq = models.BigIntegerField(default=1, db_default=1)
    due_at = models.DateTimeField(
        null=True,
        blank=True,
        help_text="No grant expires and no hold lapses before this instant.",
    )
    swept_at = models.DateTimeField(
        null=True,
        blank=True,
        help_text="The latest expiry already booked; use before it is late use.",
    )

    last_at = models.DateTimeField(
        null=True, blank=True, help_text="The latest instant any entry happened at."
    )

    class Meta(DoorsOnly.Meta):
        indexes = (
            models.Index(
                fields=("due_at",), condition=Q(due_at__isnull=False), name="balance_by_due"
            ),
        )

    def __str__(self) -> str:
        return f"{self.available} available, {self.held} held"


class CreditGrant(DoorsOnly):
    """A lot of credits with kind, priority, life, scope, cost and tax treatment.

    It pays for use in `[effective_at, expires_at)`. `remaining` includes `held`.
    """

    class Kind(models.TextChoices):
        ALLOWANCE = "allowance", "plan allowance"
        PURCHASED = "purchased", "purchased"
        PROMOTIONAL = "promotional", "promotional"
        GOODWILL = "goodwill", "goodwill"
        ADJUSTMENT = "adjustment", "adjustment"

    class TaxTreatment(models.TextChoices):
        NONE = "none", "not sold"
        SINGLE_PURPOSE = "single", "single-purpose voucher"
        MULTI_PURPOSE = "multi", "multi-purpose voucher"

    customer = models.ForeignKey(
        "billing.Customer",
        models.PROTECT,
        related_name="credit_grants",
        db_index=False,
        db_constraint=False,
    )
    legal_entity = models.ForeignKey(
        "billing.LegalEntity", models.PROTECT, related_name="+", db_index=False, db_constraint=False
    )
    kind = models.CharField(max_length=12, choices=Kind)
    label = models.CharField(max_length=120, blank=True)
    amount = models.DecimalField(max_digits=20, decimal_places=6)
    remaining = models.DecimalField(max_digits=20, decimal_places=6)
    held = models.DecimalField(max_digits=20, decimal_places=6, default=0, db_default=0)
    is_open = models.BooleanField("open", default=True, db_default=True)
    priority = models.SmallIntegerField(default=100, help_text="Lower is spent first.")
    effective_at = models.DateTimeField()
    expires_at = models.DateTimeField(null=True, blank=True)
    voided_at = models.DateTimeField(null=True, blank=True)
    created_at = models.DateTimeField(help_text="The instant it was granted at.")
    recorded_at = models.DateTimeField("learned at", db_default=Now(), editable=False)
    meter_ids = ArrayField(
        models.BigIntegerField(), null=True, blank=True, help_text="Empty pays for every meter."
    )
    project_ids = ArrayField(
        models.BigIntegerField(), null=True, blank=True, help_text="Empty pays for every project."
    )
    subscription = models.ForeignKey(
        "billing.Subscription",
        models.PROTECT,
        null=True,
        blank=True,
        related_name="credit_grants",
        db_index=False,
        db_constraint=False,
    )
    parent = models.ForeignKey(
        "self",
        models.PROTECT,
        null=True,
        blank=True,
        related_name="children",
        help_text="The grant whose rest rolled over into this one.",
        db_constraint=False,
    )
    sale_line = models.ForeignKey(
        "billing.InvoiceLine", models.PROTECT, null=True, blank=True, related_name="credit_grants"
    )
    cost_total = models.DecimalField(
        max_digits=18,
        decimal_places=3,
        default=0,
        help_text="What all its credits were sold for; zero when they were given.",
    )
    currency = models.CharField(max_length=3, blank=True)
    tax_treatment = models.CharField(max_length=6, choices=TaxTreatment, default=TaxTreatment.NONE)

    class Meta(DoorsOnly.Meta):
        ordering = ("-id",)
        constraints = (
            models.UniqueConstraint(fields=("customer", "id"), name="grant_of_customer"),
        )
        indexes = (
            models.Index(fields=("customer",), condition=Q(is_open=True), name="grant_open"),
            models.Index(
                fields=("subscription", "effective_at"),
                condition=Q(subscription__isnull=False),
                name="grant_by_subscription",
            ),
        )

    def __str__(self) -> str:
        return self.label or f"{self.get_kind_display()} {self.amount}"


class Hold(DoorsOnly):
    """Credits reserved for one piece of use until it is settled, released or lapses.

    Its parts per grant are those of its hold entry. `amount` was asked for, `covered` is
    pinned; the difference is use the overage policy lets through.
    """

    class State(models.TextChoices):
        OPEN = "open", "open"
        SETTLED = "settled", "settled"
        RELEASED = "released", "released"
        LAPSED = "lapsed", "lapsed"

    customer = models.ForeignKey(
        "billing.Customer", models.PROTECT, related_name="credit_holds", db_constraint=False
    )
    amount = models.DecimalField(max_digits=20, decimal_places=6)
    covered = models.DecimalField(max_digits=20, decimal_places=6)
    state = models.CharField(max_length=8, choices=State, default=State.OPEN)
    is_open = models.BooleanField("open", default=True, db_default=True)
    held_at = models.DateTimeField()
    expires_at = models.DateTimeField("holds until")
    resolved_at = models.DateTimeField(null=True, blank=True)
    recorded_at = models.DateTimeField("learned at", db_default=Now(), editable=False)
    overage_policy = models.CharField(max_length=8, choices=OveragePolicy)
    debt_limit = models.DecimalField(max_digits=20, decimal_places=6, default=0, db_default=0)
    meter = models.ForeignKey(
        "billing.Meter",
        models.PROTECT,
        null=True,
        blank=True,
        related_name="+",
        db_index=False,
        db_constraint=False,
    )
    project = models.ForeignKey(
        "billing.Project",
        models.PROTECT,
        null=True,
        blank=True,
        related_name="+",
        db_index=False,
        db_constraint=False,
    )
    subscription = models.ForeignKey(
        "billing.Subscription",
        models.PROTECT,
        null=True,
        blank=True,
        related_name="credit_holds",
        db_index=False,
        db_constraint=False,
    )

    class Meta(DoorsOnly.Meta):
        ordering = ("-id",)
        constraints = (
            models.CheckConstraint(
                condition=Q(amount__gt=0, amount__lt=CREDITS_BOUND), name="hold_amount_positive"
            ),
            models.CheckConstraint(
                condition=Q(covered__gte=0, covered__lte=F("amount")), name="hold_covered_in_amount"
            ),
            models.CheckConstraint(
                condition=Q(is_open=True, state="open", resolved_at__isnull=True)
                | (Q(is_open=False, resolved_at__isnull=False) & ~Q(state="open")),
                name="hold_resolved_once",
            ),
            models.CheckConstraint(
                condition=Q(expires_at__gt=F("held_at")), name="hold_has_time_limit"
            ),
            models.UniqueConstraint(fields=("customer", "id"), name="hold_of_customer"),
        )
        indexes = (
            models.Index(
                fields=("customer", "expires_at"), condition=Q(is_open=True), name="hold_open"
            ),
        )

    def __str__(self) -> str:
        return f"{self.amount} {self.get_state_display()}"


class LedgerEntry(AppendOnly):
    """One movement of credits of one customer from one bucket to another."""

    class Kind(models.TextChoices):
        GRANT = "grant", "granted"
        SPEND = "spend", "spent"
        HOLD = "hold", "held"
        SETTLE = "settle", "settled"
        RELEASE = "release", "released"
        EXPIRE = "expire", "expired"
        VOID = "void", "voided"
        REVERSE = "reverse", "given back"
        DEBT = "debt", "carried as debt"
        REPAY = "repay", "debt repaid"

    class Bucket(models.TextChoices):
        ISSUED = "issued", "issued"
        AVAILABLE = "available", "available"
        HELD = "held", "held"
        CONSUMED = "consumed", "used"
        EXPIRED = "expired", "expired"
        VOIDED = "voided", "voided"
        DEBT = "debt", "debt"

    customer = models.ForeignKey(
        "billing.Customer",
        models.PROTECT,
        related_name="ledger_entries",
        db_index=False,
        db_constraint=False,
    )
    seq = models.BigIntegerField("number", help_text="1, 2, 3 … for each customer, no gaps.")
    kind = models.CharField(max_length=8, choices=Kind)
    source = models.CharField("from", max_length=9, choices=Bucket)
    target = models.CharField("to", max_length=9, choices=Bucket)
    amount = models.DecimalField(max_digits=20, decimal_places=6)
    occurred_at = models.DateTimeField("happened at")
    recorded_at = models.DateTimeField("learned at", db_default=Now(), editable=False)
    booked_at = models.DateTimeField()
    meter = models.ForeignKey(
        "billing.Meter",
        models.PROTECT,
        null=True,
        blank=True,
        related_name="+",
        db_index=False,
        db_constraint=False,
    )
    project = models.ForeignKey(
        "billing.Project",
        models.PROTECT,
        null=True,
        blank=True,
        related_name="+",
        db_index=False,
        db_constraint=False,
    )
    subscription = models.ForeignKey(
        "billing.Subscription",
        models.PROTECT,
        null=True,
        blank=True,
        related_name="+",
        db_index=False,
        db_constraint=False,
    )
    grant = models.ForeignKey(
        CreditGrant,
        models.PROTECT,
        null=True,
        blank=True,
        related_name="entries",
        db_index=False,
        help_text="Set when the entry is about one grant as such: granted, expired, voided.",
        db_constraint=False,
    )
    hold = models.ForeignKey(
        Hold,
        models.PROTECT,
        null=True,
        blank=True,
        related_name="entries",
        db_index=False,
        db_constraint=False,
    )
    cause = models.ForeignKey(
        "self",
        models.PROTECT,
        null=True,
        blank=True,
        related_name="effects",
        db_index=False,
        help_text="The entry this one reverses, repays or follows from.",
        db_constraint=False,
    )
    actor = models.CharField(max_length=80)
    reason = models.CharField(max_length=200)
    request_id = models.CharField(max_length=64)

    class Meta(AppendOnly.Meta):
        verbose_name_plural = "ledger entries"
        ordering = ("-id",)
        constraints = (
            models.UniqueConstraint(fields=("customer", "seq"), name="entry_seq_once"),
            models.UniqueConstraint(fields=("customer", "id"), name="entry_of_customer"),
            models.UniqueConstraint(
                fields=("grant", "cause"),
                condition=Q(kind="expire"),
                nulls_distinct=False,
                name="entry_expires_once_per_cause",
            ),
        )
        indexes = (
            BrinIndex(fields=("booked_at",), name="entry_by_booking"),
            models.Index(fields=("hold",), condition=Q(hold__isnull=False), name="entry_by_hold"),
            models.Index(
                fields=("grant",), condition=Q(grant__isnull=False), name="entry_by_grant"
            ),
            models.Index(
                fields=("cause",), condition=Q(cause__isnull=False), name="entry_by_cause"
            ),
        )

    def __str__(self) -> str:
        return f"{self.get_kind_display()} {self.amount}"


class LedgerPart(AppendOnly):
    """What one grant gave or got back in one entry; without a grant it is debt."""

    customer = models.ForeignKey(
        "billing.Customer",
        models.PROTECT,
        related_name="+",
        db_index=False,
        db_constraint=False,
    )
    entry = models.ForeignKey(
        LedgerEntry, models.PROTECT, related_name="parts", db_constraint=False
    )
    grant = models.ForeignKey(
        CreditGrant,
        models.PROTECT,
        null=True,
        blank=True,
        related_name="parts",
        db_constraint=False,
    )
    amount = models.DecimalField(max_digits=20, decimal_places=6)

    class Meta(AppendOnly.Meta):
        ordering = ("id",)

    def __str__(self) -> str:
        return f"{self.amount}"


class LedgerKey(AppendOnly):
    """An idempotency key of a customer with the result its first use gave."""

    pk = models.CompositePrimaryKey("customer_id", "key")
    customer = models.ForeignKey(
        "billing.Customer",
        models.PROTECT,
        related_name="+",
        db_index=False,
        db_constraint=False,
    )
    key = models.CharField(max_length=160)
    door = models.CharField(max_length=10)
    request_hash = models.BinaryField(max_length=32)
    entry = models.ForeignKey(
        LedgerEntry,
        models.PROTECT,
        null=True,
        blank=True,
        related_name="+",
        db_index=False,
        db_constraint=False,
    )
    hold = models.ForeignKey(
        Hold,
        models.PROTECT,
        null=True,
        blank=True,
        related_name="+",
        db_index=False,
        db_constraint=False,
    )
    covered = models.DecimalField(max_digits=20, decimal_places=6)
    overage = models.DecimalField(max_digits=20, decimal_places=6)
    debt = models.DecimalField(max_digits=20, decimal_places=6)
    recorded_at = models.DateTimeField(db_default=Now(), editable=False)

    class Meta(AppendOnly.Meta):
        constraints = (
            models.CheckConstraint(
                condition=Q(entry__isnull=False) | Q(hold__isnull=False) | Q(overage__gt=0),
                name="key_has_effect",
            ),
        )

    def __str__(self) -> str:
        return self.key
