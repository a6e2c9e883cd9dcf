"""People, the roles they hold, and the permissions that follow."""

from django.contrib.auth.models import AbstractUser
from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import F, Q
from guardian.models import UserObjectPermissionAbstract


class User(AbstractUser):
    """A person who logs in."""

    name = models.CharField(max_length=120, blank=True)
    language = models.CharField(max_length=8, default="en")
    time_zone = models.CharField(max_length=40, default="UTC")

    def __str__(self) -> str:
        return self.name or self.username


class Role(models.Model):
    """A named set of permissions."""

    code = models.SlugField(max_length=40, unique=True)
    name = models.CharField(max_length=60)
    summary = models.CharField(max_length=200)
    permissions = ArrayField(models.CharField(max_length=60), default=list)

    def __str__(self) -> str:
        return self.name


class RoleAssignment(models.Model):
    """A role given to a person for one customer or the whole house, from a day until a day."""

    user = models.ForeignKey(User, models.CASCADE, related_name="assignments")
    role = models.ForeignKey(Role, models.PROTECT, related_name="assignments")
    customer = models.ForeignKey(
        "billing.Customer", models.CASCADE, null=True, blank=True, related_name="role_assignments"
    )
    valid_from = models.DateTimeField()
    valid_until = models.DateTimeField(null=True, blank=True)


class CustomerUserPermission(UserObjectPermissionAbstract):
    """One permission of one person on one customer."""

    content_object = models.ForeignKey("billing.Customer", models.CASCADE)
    valid_from = models.DateTimeField()
    valid_until = models.DateTimeField(null=True, blank=True)
