"""The door: one message for every failure, shut after five, sessions that end."""

from datetime import timedelta

import pytest
from django.contrib.auth import authenticate
from django.db import DatabaseError, connection, transaction
from django.test import Client, RequestFactory
from django.urls import reverse
from django.utils import timezone

from accounts import access, backends, middleware, roles
from accounts.models import LoginEvent
from tests.accounts.people import PASSWORD, customer, person, role

pytestmark = pytest.mark.django_db
Kind = LoginEvent.Kind


def viewer(**fields):
    roles.sync_roles(at=timezone.now())
    user = person(**fields)
    roles.assign(
        user=user,
        role=role("viewer"),
        customer_id=customer().pk,
        valid_from=timezone.now() - timedelta(days=1),
        actor=None,
    )
    return user


def enter(client, username, password=PASSWORD):
    return client.post(reverse("admin:login"), {"username": username, "password": password})


def kinds(user):
    return list(LoginEvent.objects.filter(user=user).order_by("pk").values_list("kind", flat=True))


def test_a_customers_manager_enters_by_the_same_door(client):
    user = viewer()
    assert not user.is_staff
    assert enter(client, user.username).status_code == 302
    assert client.get(reverse("admin:index")).status_code == 200
    assert kinds(user) == [Kind.IN]


def test_the_email_address_is_a_name_too(client):
    user = viewer(email="mia@example.org")
    assert enter(client, "Mia@Example.org").status_code == 302
    assert kinds(user) == [Kind.IN]


def test_somebody_without_a_role_stays_outside(client):
    user = person()
    answer = enter(client, user.username)
    assert answer.status_code == 200
    assert b"no role here" in answer.content
    assert client.get(reverse("admin:index")).status_code == 302


def test_an_inactive_person_gets_the_same_answer_as_a_wrong_password(client):
    inactive, active = viewer(is_active=False), viewer()
    told = [
        enter(client, inactive.username).context["form"].errors,
        enter(client, active.username, "wrong").context["form"].errors,
        enter(client, "nobody-at-all", "wrong").context["form"].errors,
    ]
    assert told[0] == told[1] == told[2]


def test_the_sixth_attempt_is_refused_even_with_the_right_password(client):
    user = viewer()
    for _ in range(5):
        enter(client, user.username, "wrong")
    answer = enter(client, user.username)
    assert answer.status_code == 200
    assert b"Too many attempts" in answer.content
    assert kinds(user) == [Kind.FAILED] * 5 + [Kind.LOCKED]


def test_another_address_is_not_shut_out(client):
    user = viewer()
    for _ in range(6):
        enter(client, user.username, "wrong")
    elsewhere = Client(REMOTE_ADDR="203.0.113.9")
    assert enter(elsewhere, user.username).status_code == 302


def test_name_and_address_share_one_count(client):
    user = viewer(email="ona@example.org")
    for name in (user.username, "ona@example.org", user.username.upper(), "ONA@example.org", "x"):
        enter(client, name, "wrong")
    assert backends.failures(user.username, "127.0.0.1") == 4


def test_failures_are_forgotten_after_a_success_and_after_fifteen_minutes(client):
    user = viewer()
    for _ in range(4):
        enter(client, user.username, "wrong")
    enter(client, user.username)
    assert backends.failures(user.username, "127.0.0.1") == 0
    LoginEvent.objects.bulk_create(
        LoginEvent(
            username=user.username,
            address="127.0.0.1",
            kind=Kind.FAILED,
            at=timezone.now() - timedelta(minutes=16),
        )
        for _ in range(9)
    )
    assert backends.failures(user.username, "127.0.0.1") == 0


def test_the_history_of_logins_cannot_be_rewritten():
    event = LoginEvent.objects.create(username="x", kind=Kind.FAILED)
    with pytest.raises(DatabaseError), transaction.atomic():
        LoginEvent.objects.filter(pk=event.pk).update(kind=Kind.IN)
    with pytest.raises(DatabaseError), transaction.atomic():
        event.delete()
    with pytest.raises(DatabaseError), transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("TRUNCATE accounts_loginevent")


def test_a_name_with_a_nul_or_without_end_is_just_wrong():
    request = RequestFactory().post("/login/")
    assert authenticate(request, username="a\x00b", password="x") is None
    assert authenticate(request, username="a" * 5000, password="x") is None


@pytest.mark.parametrize(
    ("forwarded", "trusted", "expected"),
    [
        ("198.51.100.7", False, "127.0.0.1"),
        ("1.1.1.1, 198.51.100.7", True, "198.51.100.7"),
        ("<script>", True, None),
    ],
)
def test_the_address_is_the_proxys_word_only_when_the_proxy_is_trusted(
    settings, forwarded, trusted, expected
):
    settings.SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https") if trusted else None
    request = RequestFactory().get("/", HTTP_X_FORWARDED_FOR=forwarded)
    assert backends.address_of(request) == expected


def test_an_idle_session_ends(client, monkeypatch):
    client.force_login(viewer())
    start = middleware.time.time()
    monkeypatch.setattr(middleware.time, "time", lambda: start)
    assert client.get(reverse("admin:index")).status_code == 200
    monkeypatch.setattr(middleware.time, "time", lambda: start + 29 * 60)
    assert client.get(reverse("admin:index")).status_code == 200
    monkeypatch.setattr(middleware.time, "time", lambda: start + 58 * 60)
    assert client.get(reverse("admin:index")).status_code == 200
    monkeypatch.setattr(middleware.time, "time", lambda: start + 89 * 60)
    assert client.get(reverse("admin:index")).status_code == 302


def test_a_session_in_use_ends_after_eight_hours_and_a_login_begins_another(client, monkeypatch):
    user = viewer()
    client.force_login(user)
    start = middleware.time.time()
    for minutes in range(0, 8 * 60 + 1, 20):
        monkeypatch.setattr(middleware.time, "time", lambda m=minutes: start + m * 60)
        assert client.get(reverse("admin:index")).status_code == 200
    monkeypatch.setattr(middleware.time, "time", lambda: start + 8 * 3600 + 60)
    assert client.get(reverse("admin:index")).status_code == 302
    enter(client, user.username)
    assert client.get(reverse("admin:index")).status_code == 200


def test_pages_are_kept_out_of_caches_and_carry_a_strict_policy(client):
    user = viewer()
    outside = client.get(reverse("admin:login"))
    client.force_login(user)
    for answer in (outside, client.get(reverse("admin:index"))):
        assert answer.headers["Content-Security-Policy"] == middleware.CONTENT_SECURITY_POLICY
        assert "unsafe" not in answer.headers["Content-Security-Policy"]
        assert "no-store" in answer.headers["Cache-Control"]
        assert "private" in answer.headers["Cache-Control"]
        assert len(answer.headers["X-Request-ID"]) == 32
        assert answer.headers["X-Frame-Options"] == "DENY"


def test_a_post_without_a_token_is_refused():
    client = Client(enforce_csrf_checks=True)
    assert enter(client, "x").status_code == 403


def test_django_asks_the_same_authority():
    user = viewer()
    here = user.assignments.get().customer
    assert user.has_perm("billing.view_invoices", here)
    assert not user.has_perm("billing.issue_invoices", here)
    assert not user.has_perm("billing.view_invoices")
    assert not user.has_perm("billing.view_invoices", customer())
    assert "billing.view_invoices" in user.get_all_permissions(here)
    assert not user.get_all_permissions()
    assert not access.may(None, "view_invoices", here)


def test_guardian_agrees_with_what_holds_now():
    from guardian.shortcuts import get_objects_for_user

    user = viewer()
    seen = get_objects_for_user(
        user, "billing.view_invoices", accept_global_perms=False, use_groups=False
    )
    assert set(seen.values_list("pk", flat=True)) == access.visible_customer_ids(
        user, "view_invoices"
    )
