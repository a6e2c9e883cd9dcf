"""What is sold: meters, plans with frozen versions, prices, credit packs and tax rates."""

from django.contrib.postgres.constraints import ExclusionConstraint
from django.contrib.postgres.fields import DateRangeField, RangeOperators
from django.db import models
from django.db.models import F, Q

CREDITS = "credits"  # the currency of a price in credits


class Meter(models.Model):
    """A countable thing."""

    class Aggregation(models.TextChoices):
        SUM = "sum", "sum"
        COUNT = "count", "count"
        MAX = "max", "highest"
        UNIQUE = "unique", "distinct"
        LATEST = "latest", "latest"

    code = models.SlugField(max_length=40, unique=True)
    name = models.CharField(max_length=80)
    unit = models.CharField(max_length=20)
    aggregation = models.CharField(max_length=8, choices=Aggregation, default=Aggregation.SUM)

    class Meta:
        ordering = ("code",)

    def __str__(self) -> str:
        return self.name


class Plan(models.Model):
    """What a customer subscribes to; its terms stand on the versions."""

    code = models.SlugField(max_length=40, unique=True)
    name = models.CharField(max_length=80)
    family = models.CharField(max_length=40, blank=True, help_text="One trial per family.")
    summary = models.CharField(max_length=300, blank=True)

    class Meta:
        ordering = ("name",)

    def __str__(self) -> str:
        return self.name


class PlanVersion(models.Model):
    """The frozen terms of a plan. Once published only its state may still change."""

    class State(models.TextChoices):
        DRAFT = "draft", "draft"
        PUBLISHED = "published", "published"
        ARCHIVED = "archived", "archived"

    class Interval(models.TextChoices):
        DAY = "day", "day"
        WEEK = "week", "week"
        MONTH = "month", "month"
        QUARTER = "quarter", "quarter"
        YEAR = "year", "year"

    class Alignment(models.TextChoices):
        ANNIVERSARY = "anniversary", "from the start day"
        CALENDAR = "calendar", "calendar"

    class Overage(models.TextChoices):
        BLOCK = "block", "is refused"
        INVOICE = "invoice", "is invoiced"
        DEBT = "debt", "is carried as debt"

    plan = models.ForeignKey(Plan, models.PROTECT, related_name="versions")
    number = models.PositiveIntegerField("version")
    state = models.CharField(max_length=9, choices=State, default=State.DRAFT)
    interval = models.CharField(max_length=7, choices=Interval, default=Interval.MONTH)
    interval_count = models.PositiveSmallIntegerField(default=1)
    alignment = models.CharField(
        "periods run", max_length=11, choices=Alignment, default=Alignment.CALENDAR
    )
    allowance_credits = models.DecimalField(
        "credits each period", max_digits=20, decimal_places=6, default=0
    )
    overage_policy = models.CharField(
        "use beyond the credits", max_length=7, choices=Overage, default=Overage.BLOCK
    )
    debt_limit = models.DecimalField(max_digits=20, decimal_places=6, default=0)
    usage_rules = models.TextField(blank=True, help_text="In plain words, for the help pages.")
    published_at = models.DateTimeField(null=True, blank=True, editable=False)

    class Meta:
        ordering = ("plan", "-number")
        constraints = (
            models.UniqueConstraint(fields=("plan", "number"), name="plan_version_number_once"),
            models.CheckConstraint(
                condition=Q(allowance_credits__gte=0, debt_limit__gte=0, interval_count__gte=1),
                name="plan_version_amounts_not_negative",
            ),
            models.CheckConstraint(
                condition=Q(state="draft") | Q(published_at__isnull=False),
                name="plan_version_published_has_an_instant",
            ),
        )

    def __str__(self) -> str:
        return f"{self.plan.name}, version {self.number}"


class Price(models.Model):
    """How one item of a plan version is priced, in a currency or in credits."""

    class Role(models.TextChoices):
        FEE = "fee", "fee of the period"
        USAGE = "usage", "use, in credits"
        OVERAGE = "overage", "use beyond the credits"

    class Model(models.TextChoices):
        UNIT = "unit", "per unit"
        PACKAGE = "package", "per package"
        GRADUATED = "graduated", "graduated tiers"
        VOLUME = "volume", "volume tiers"

    class Billed(models.TextChoices):
        ADVANCE = "advance", "in advance"
        ARREARS = "arrears", "in arrears"

    plan_version = models.ForeignKey(PlanVersion, models.PROTECT, related_name="prices")
    code = models.SlugField(max_length=40)
    label = models.CharField(max_length=80, help_text="What the invoice line says.")
    role = models.CharField(max_length=8, choices=Role)
    meter = models.ForeignKey(Meter, models.PROTECT, null=True, blank=True, related_name="prices")
    model = models.CharField("price model", max_length=10, choices=Model, default=Model.UNIT)
    currency = models.CharField(
        max_length=7, help_text="ISO 4217 code, or 'credits' for a price in credits."
    )
    unit_price = models.DecimalField(max_digits=24, decimal_places=10, null=True, blank=True)
    base_quantity = models.PositiveIntegerField("price is for", default=1)
    tiers = models.JSONField(default=list, blank=True)
    billed = models.CharField(max_length=7, choices=Billed, default=Billed.ARREARS)
    unit_label = models.CharField(max_length=20, default="unit")
    product = models.CharField(max_length=40, help_text="Product the revenue belongs to.")

    class Meta:
        ordering = ("plan_version", "role", "code", "currency")
        constraints = (
            models.UniqueConstraint(
                fields=("plan_version", "code", "currency"), name="price_code_once"
            ),
            models.CheckConstraint(
                condition=Q(unit_price__isnull=True) | Q(unit_price__gte=0),
                name="price_not_negative",
            ),
            models.CheckConstraint(condition=Q(base_quantity__gte=1), name="price_base_positive"),
        )

    def __str__(self) -> str:
        return self.label


class CreditPack(models.Model):
    """Credits for sale. Editing a pack never touches credits already sold."""

    code = models.SlugField(max_length=40)
    name = models.CharField(max_length=80)
    credits = models.DecimalField(max_digits=20, decimal_places=6)
    price = models.DecimalField(max_digits=18, decimal_places=2)
    currency = models.CharField(max_length=3)
    valid_months = models.PositiveSmallIntegerField(default=36)
    is_active = models.BooleanField("on sale", default=True)

    class Meta:
        ordering = ("code", "currency")
        constraints = (
            models.UniqueConstraint(fields=("code", "currency"), name="pack_code_once"),
            models.CheckConstraint(
                condition=Q(credits__gt=0, price__gte=0), name="pack_amounts_positive"
            ),
        )

    def __str__(self) -> str:
        return f"{self.name} ({self.currency})"


class TaxRate(models.Model):
    """A country's rate over a span of days; past and future rows live beside each other."""

    country = models.CharField(max_length=2)
    label = models.CharField(max_length=40, default="standard rate")
    rate = models.DecimalField("rate in percent", max_digits=5, decimal_places=2)
    valid = DateRangeField(help_text="From the first day up to, not including, the last.")

    class Meta:
        ordering = ("country", "valid")
        constraints = (
            models.CheckConstraint(
                condition=Q(rate__gte=0, rate__lte=100), name="tax_rate_is_a_percentage"
            ),
            ExclusionConstraint(
                name="tax_rate_one_per_day",
                expressions=(
                    (F("country"), RangeOperators.EQUAL),
                    (F("label"), RangeOperators.EQUAL),
                    (F("valid"), RangeOperators.OVERLAPS),
                ),
            ),
        )

    def __str__(self) -> str:
        return f"{self.country} {self.label} {self.rate} %"
