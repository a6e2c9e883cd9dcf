"""The seller, the parties it bills, their people and their pieces of work."""

from django.contrib.postgres.indexes import GinIndex, OpClass
from django.db import models
from django.db.models import Q
from django.db.models.functions import Now, Upper

from accounts.roles import CUSTOMER_PERMISSIONS


class Address(models.Model):
    """A postal address as it is printed on a document."""

    street = models.CharField(max_length=120, blank=True)
    postal_code = models.CharField(max_length=20, blank=True)
    city = models.CharField(max_length=80, blank=True)
    region = models.CharField(max_length=80, blank=True)
    country = models.CharField(max_length=2, help_text="ISO 3166 code of two letters, such as IE.")

    class Meta:
        abstract = True


class LegalEntity(Address):
    """The seller that issues invoices; owns number series, bank details and tax registration."""

    class VatDue(models.TextChoices):
        INVOICE = "invoice", "when the invoice is issued"
        PAYMENT = "payment", "when the payment arrives"

    code = models.CharField(
        max_length=12, unique=True, help_text="Short code; it starts every number."
    )
    name = models.CharField(max_length=120)
    legal_name = models.CharField(max_length=200)
    vat_id = models.CharField("VAT ID", max_length=20, blank=True)
    registration = models.CharField(max_length=200, blank=True)
    directors = models.CharField(max_length=300, blank=True)
    email = models.EmailField(blank=True)
    phone = models.CharField(max_length=40, blank=True)
    iban = models.CharField("IBAN", max_length=34, blank=True)
    bic = models.CharField("BIC", max_length=11, blank=True)
    bank_name = models.CharField(max_length=80, blank=True)
    currency = models.CharField(max_length=3)
    language = models.CharField(max_length=8, default="en")
    time_zone = models.CharField(max_length=40, default="UTC")
    accent = models.CharField(max_length=7, default="#0b5563", help_text="Colour of documents.")
    payment_terms_days = models.PositiveSmallIntegerField(default=14)
    draft_days = models.PositiveSmallIntegerField(
        default=0, help_text="Days an invoice stays a draft; 0 issues at once."
    )
    vat_due = models.CharField("VAT is due", max_length=8, choices=VatDue, default=VatDue.INVOICE)
    footer = models.CharField(max_length=300, blank=True)
    is_demo = models.BooleanField("demonstration data", default=False, editable=False)

    class Meta:
        verbose_name_plural = "legal entities"
        ordering = ("code",)

    def __str__(self) -> str:
        return self.name


class Customer(Address):  # type: ignore[django-manager-missing]
    """The party billed. Permissions on everything of a customer are granted here."""

    class Kind(models.TextChoices):
        BUSINESS = "business", "business"
        CONSUMER = "consumer", "consumer"

    legal_entity = models.ForeignKey(LegalEntity, models.PROTECT, related_name="customers")
    code = models.CharField("customer number", max_length=40)
    name = models.CharField(max_length=200)
    kind = models.CharField(max_length=8, choices=Kind, default=Kind.BUSINESS)
    attention = models.CharField(max_length=120, blank=True, help_text="Second address line.")
    vat_id = models.CharField("VAT ID", max_length=20, blank=True)
    vat_id_valid_on = models.DateField(
        "VAT ID confirmed on", null=True, blank=True, help_text="Day the tax office confirmed it."
    )
    email = models.EmailField(blank=True)
    phone = models.CharField(max_length=40, blank=True)
    currency = models.CharField(max_length=3)
    language = models.CharField(max_length=8, default="en")
    time_zone = models.CharField(max_length=40, default="UTC")
    payment_terms_days = models.PositiveSmallIntegerField(
        null=True, blank=True, help_text="Empty takes the seller's terms."
    )
    purchase_order = models.CharField(max_length=60, blank=True)
    buyer_reference = models.CharField(max_length=60, blank=True)
    credit_limit = models.DecimalField(
        max_digits=18, decimal_places=2, default=0, help_text="Credits on issue up to this debt."
    )
    is_active = models.BooleanField("active", default=True)
    created_at = models.DateTimeField(db_default=Now(), editable=False)

    class Meta:
        ordering = ("name", "id")
        permissions = CUSTOMER_PERMISSIONS
        constraints = (
            models.UniqueConstraint(fields=("legal_entity", "code"), name="customer_code_once"),
            models.CheckConstraint(
                condition=Q(credit_limit__gte=0), name="customer_credit_limit_not_negative"
            ),
        )
        indexes = (GinIndex(OpClass(Upper("name"), "gin_trgm_ops"), name="customer_name_search"),)

    def __str__(self) -> str:
        return self.name


class Contact(models.Model):
    """A person of a customer who receives its documents or answers for it."""

    customer = models.ForeignKey(Customer, models.PROTECT, related_name="contacts")
    name = models.CharField(max_length=120)
    email = models.EmailField()
    phone = models.CharField(max_length=40, blank=True)
    duty = models.CharField(max_length=80, blank=True, help_text="Such as accounts payable.")
    receives_invoices = models.BooleanField(default=True)

    class Meta:
        ordering = ("customer", "name")
        constraints = (
            models.UniqueConstraint(fields=("customer", "email"), name="contact_email_once"),
        )

    def __str__(self) -> str:
        return self.name


class Project(models.Model):
    """A customer's piece of work that charges are grouped under."""

    customer = models.ForeignKey(Customer, models.PROTECT, related_name="projects")
    code = models.CharField(max_length=40)
    name = models.CharField(max_length=120)
    is_active = models.BooleanField("active", default=True)

    class Meta:
        ordering = ("customer", "code")
        constraints = (
            models.UniqueConstraint(fields=("customer", "code"), name="project_code_once"),
        )

    def __str__(self) -> str:
        return self.name
