"""Who somebody is, and what they may: Django's questions, answered by `accounts.access`."""

from datetime import timedelta
from ipaddress import ip_address
from typing import Any, Final

from django.conf import settings
from django.contrib.auth.backends import BaseBackend
from django.contrib.auth.hashers import make_password
from django.db import OperationalError, connection, transaction
from django.db.models import Max, Model, Q
from django.db.models.functions import Now
from django.http import HttpRequest
from django.views.decorators.debug import sensitive_variables
from guardian.backends import ObjectPermissionBackend

from accounts import access
from accounts.models import HOUSE_PERMISSIONS, LoginEvent, User

_HOUSE_CODES: Final = frozenset(code for code, _ in HOUSE_PERMISSIONS)


class AccessBackend(ObjectPermissionBackend, BaseBackend):
    """Passwords with a lockout, and guardian's object permissions that honour dates.

    Any object stands for its customer. An inactive person neither logs in nor stays logged in nor
    holds anything. Permissions of groups and users that no role gave count for nothing.
    """

    @sensitive_variables("password")
    def authenticate(
        self,
        request: HttpRequest | None,
        username: str | None = None,
        password: str | None = None,
        **others: Any,
    ) -> User | None:
        """The person with this user name or e-mail address and this password, or None.

        After too many failures from one address the answer is None for a while, right or wrong;
        `request.login_is_locked` then tells the form why.
        """
        if not username or password is None:
            return None
        entered = username.replace("\x00", "").strip()[:254]
        user = self._find(entered)
        name = (user.get_username() if user else entered).lower()
        address = address_of(request)
        try:
            with transaction.atomic():
                return self._attempt(request, user, name, address, password)
        except OperationalError:  # others are trying the same name at this moment
            _tell_locked(request)
            return None

    @sensitive_variables("password")
    def _attempt(
        self,
        request: HttpRequest | None,
        user: User | None,
        name: str,
        address: str | None,
        password: str,
    ) -> User | None:
        _one_at_a_time(name, address)
        kind = LoginEvent.Kind.FAILED
        if failures(name, address) >= failures_max():
            kind = LoginEvent.Kind.LOCKED
            _tell_locked(request)
        elif user is None:
            make_password(password)  # an unknown name takes as long as a wrong password
        elif user.check_password(password) and user.is_active:
            kind = LoginEvent.Kind.IN
        LoginEvent.objects.create(user=user, username=name, address=address, kind=kind)
        return user if kind == LoginEvent.Kind.IN else None

    def get_user(self, user_id: Any) -> User | None:
        """The person of a session; None ends it, from the next request after deactivation."""
        return User.objects.filter(pk=user_id, is_active=True).first()

    def has_perm(self, user_obj: Any, perm: str, obj: Any = None) -> bool:
        """Whether the person holds `perm` on the object's customer, or house-wide without one."""
        if obj is not None and not isinstance(obj, Model):
            return False
        return access.may(user_obj, perm, obj)

    def has_module_perms(self, user_obj: Any, app_label: str) -> bool:
        """Pages ask for themselves; whoever holds nothing sees no app."""
        return bool(access.permitted(user_obj))

    def get_user_permissions(self, user_obj: Any, obj: Any = None) -> set[str]:
        """What was given for single customers."""
        return self.get_all_permissions(user_obj, obj) - self.get_group_permissions(user_obj)

    def get_group_permissions(self, user_obj: Any, obj: Any = None) -> set[str]:
        """What was given for the whole house."""
        return {_label(code) for code in access.permitted(user_obj).house}

    def get_all_permissions(self, user_obj: Any, obj: Any = None) -> set[str]:
        """All the person holds on the object's customer, or house-wide without one."""
        held = access.permitted(user_obj)
        codes = set(held.house)
        if isinstance(obj, Model):
            customer_id = access.customer_id_of(obj)
            codes |= {code for code, ids in held.customers.items() if customer_id in ids}
        return {_label(code) for code in codes}

    def _find(self, entered: str) -> User | None:
        found = User.objects.filter(username__iexact=entered).first()
        if found is None and "@" in entered:
            found = User.objects.filter(~Q(email=""), email__iexact=entered).first()
        return found


def failures(name: str, address: str | None) -> int:
    """Failures of this name from this address, within the window and since the last success."""
    events = LoginEvent.objects.filter(username=name, address=address)
    last_in = events.filter(kind=LoginEvent.Kind.IN).aggregate(last=Max("pk"))["last"] or 0
    since = Now() - timedelta(seconds=lock_seconds())
    return events.filter(kind=LoginEvent.Kind.FAILED, pk__gt=last_in, at__gt=since).count()


def failures_max() -> int:
    """Failures after which the door stays shut for a while."""
    return int(getattr(settings, "LOGIN_FAILURES_MAX", 5))


def lock_seconds() -> int:
    """How long a failure counts, in seconds."""
    return int(getattr(settings, "LOGIN_LOCK_SECONDS", 15 * 60))


def address_of(request: HttpRequest | None) -> str | None:
    """The address the request comes from; behind a trusted proxy, the one the proxy saw."""
    if request is None:
        return None
    given = request.META.get("REMOTE_ADDR", "")
    if getattr(settings, "SECURE_PROXY_SSL_HEADER", None):
        given = request.META.get("HTTP_X_FORWARDED_FOR", given).split(",")[-1].strip()
    try:
        return str(ip_address(given))
    except ValueError:
        return None


def _tell_locked(request: HttpRequest | None) -> None:
    if request is not None:
        request.login_is_locked = True  # type: ignore[attr-defined]


def _one_at_a_time(name: str, address: str | None) -> None:
    """Guesses sent at once wait for each other, so that none slips past the count."""
    with connection.cursor() as cursor:
        key = f"login {name} {address}"
        cursor.execute("SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))", [key])


def _label(code: str) -> str:
    return f"{'accounts' if code in _HOUSE_CODES else 'billing'}.{code}"
