"""People, the roles they hold, the permissions that follow, and who tried to log in.

A RoleAssignment is the truth. CustomerUserPermission is its union, written by accounts.roles only
and read by accounts.access; both carry the same dates, so an end is an end at that instant.
"""

from datetime import datetime
from typing import Final
from zoneinfo import available_timezones

from django.contrib.auth.models import AbstractUser, Group
from django.contrib.postgres.fields import ArrayField
from django.core.exceptions import ValidationError
from django.db import models
from django.db.models import F, Q
from django.db.models.functions import Lower, Now
from guardian.models import UserObjectPermissionBase

LANGUAGES: Final = (("en", "English"), ("de", "Deutsch"), ("fr", "Français"))

# What concerns no single customer; those that do are in accounts.roles.
HOUSE_PERMISSIONS: Final = (
    ("view_catalog", "May see plans, prices, meters and tax rates"),
    ("change_catalog", "May change plans, prices, meters and tax rates"),
    ("view_sellers", "May see sellers and number series"),
    ("change_sellers", "May change sellers, bank details and number series"),
    ("import_usage", "May read in files of usage"),
    ("view_books", "May see the books of money"),
    ("view_audit", "May see who did what"),
    ("view_people", "May see people, their roles and their logins"),
    ("manage_roles", "May decide who has which role"),
)


def validate_time_zone(name: str) -> None:
    """Refuse a name that is no time zone."""
    if name not in available_timezones():
        raise ValidationError("This is not the name of a time zone, such as Europe/Dublin.")


class User(AbstractUser):  # type: ignore[django-manager-missing]
    """A person who logs in. Nobody is ever deleted: a person who leaves is made inactive."""

    class Theme(models.TextChoices):
        AUTO = "auto", "as the device"
        LIGHT = "light", "light"
        DARK = "dark", "dark"

    # One name, as the person writes it, and no permissions besides those of roles.
    first_name = None  # type: ignore[assignment]
    last_name = None  # type: ignore[assignment]
    user_permissions = None  # type: ignore[assignment]

    name = models.CharField(max_length=120, blank=True)
    language = models.CharField(
        max_length=12, choices=LANGUAGES, default="en", help_text="Language of pages and figures."
    )
    time_zone = models.CharField(max_length=40, default="UTC", validators=[validate_time_zone])
    theme = models.CharField("look", max_length=5, choices=Theme, default=Theme.AUTO)
    is_demo = models.BooleanField("demonstration data", default=False, editable=False)

    class Meta:
        verbose_name = "person"
        verbose_name_plural = "people"
        ordering = ("name", "username")
        constraints = (
            models.UniqueConstraint(
                Lower("username"),
                name="user_name_once",
                violation_error_message="Somebody has this user name.",
            ),
            models.UniqueConstraint(
                Lower("email"),
                condition=~Q(email=""),
                name="user_email_once",
                violation_error_message="Somebody has this e-mail address.",
            ),
        )

    def __str__(self) -> str:
        return self.name or self.get_username()

    def get_full_name(self) -> str:
        """The person's name as they write it; may be empty."""
        return self.name

    def get_short_name(self) -> str:
        """How a page greets the person."""
        return self.name.split(" ")[0] or self.get_username()


class Role(models.Model):
    """A named set of permissions, told in one sentence."""

    code = models.SlugField("short name", max_length=40, unique=True)
    name = models.CharField(max_length=60, unique=True)
    summary = models.CharField(max_length=200, help_text="One sentence: what this role is for.")
    permissions = ArrayField(models.CharField(max_length=60), default=list)
    is_house_wide = models.BooleanField(
        "for the whole house", default=False, help_text="May be given for all customers at once."
    )
    is_built_in = models.BooleanField("built in", default=False, editable=False)
    group = models.OneToOneField(
        Group, models.PROTECT, null=True, blank=True, editable=False, related_name="role"
    )

    class Meta:
        ordering = ("name",)
        permissions = HOUSE_PERMISSIONS

    def __str__(self) -> str:
        return self.name


def in_force(at: datetime | None = None) -> Q:
    """Rows whose dates cover `at`, or the database's present: from then on, until before then."""
    instant = Now() if at is None else at
    return Q(valid_from__lte=instant) & (Q(valid_until=None) | Q(valid_until__gt=instant))


class RoleAssignment(models.Model):
    """A role given to a person for one customer or the whole house, from an instant until another.

    Half-open: in force from `valid_from` on, no longer at `valid_until`. Rows stay as history.
    """

    user = models.ForeignKey(
        User, models.PROTECT, related_name="assignments", verbose_name="person"
    )
    role = models.ForeignKey(Role, models.PROTECT, related_name="assignments")
    customer = models.ForeignKey(
        "billing.Customer",
        models.PROTECT,
        null=True,
        blank=True,
        related_name="role_assignments",
        help_text="Empty is the whole house.",
    )
    valid_from = models.DateTimeField("from")
    valid_until = models.DateTimeField("until", null=True, blank=True)
    reason = models.CharField(max_length=300, blank=True)
    given_by = models.ForeignKey(
        User, models.PROTECT, null=True, blank=True, editable=False, related_name="+"
    )
    given_at = models.DateTimeField(db_default=Now(), editable=False)
    ended_by = models.ForeignKey(
        User, models.PROTECT, null=True, blank=True, editable=False, related_name="+"
    )

    class Meta:
        ordering = ("-valid_from", "-id")
        constraints = (
            models.CheckConstraint(
                condition=Q(valid_until=None) | Q(valid_until__gte=F("valid_from")),
                name="role_assignment_ends_after_it_starts",
                violation_error_message="It ends before it starts.",
            ),
            models.UniqueConstraint(
                fields=("user", "role", "customer", "valid_from"),
                name="role_assignment_once",
                nulls_distinct=False,
                violation_error_message="This person has this role from that moment on already.",
            ),
        )
        indexes = (models.Index(fields=("user", "customer"), name="role_assignment_by_user"),)

    def __str__(self) -> str:
        return f"{self.user}: {self.role}"


class CustomerUserPermission(UserObjectPermissionBase):
    """One permission of one person on one customer, with the dates it holds for.

    guardian's direct foreign-key table: no row can outlive its customer or point at another one.
    One row tells the present or next stretch of time; accounts.roles writes it anew at each end.
    """

    content_object = models.ForeignKey("billing.Customer", models.CASCADE, verbose_name="customer")
    valid_from = models.DateTimeField()
    valid_until = models.DateTimeField(null=True, blank=True)

    class Meta(UserObjectPermissionBase.Meta):
        abstract = False
        verbose_name = "permission on a customer"
        verbose_name_plural = "permissions on customers"
        constraints = (
            models.CheckConstraint(
                condition=Q(valid_until=None) | Q(valid_until__gt=F("valid_from")),
                name="customer_permission_has_a_length",
            ),
        )


class LoginEvent(models.Model):
    """One attempt to log in. Rows are only ever added."""

    class Kind(models.TextChoices):
        IN = "in", "logged in"
        FAILED = "failed", "wrong name or password"
        LOCKED = "locked", "refused, too many attempts"

    user = models.ForeignKey(
        User, models.PROTECT, null=True, blank=True, related_name="logins", verbose_name="person"
    )
    username = models.CharField("entered name", max_length=254)
    address = models.GenericIPAddressField(null=True)
    kind = models.CharField("what happened", max_length=8, choices=Kind)
    at = models.DateTimeField("when", db_default=Now())

    class Meta:
        ordering = ("-id",)
        indexes = (
            models.Index(fields=("username", "address", "at"), name="login_by_name_and_address"),
        )

    def __str__(self) -> str:
        return f"{self.username}: {self.get_kind_display()}"
