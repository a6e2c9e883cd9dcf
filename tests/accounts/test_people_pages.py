"""The pages of people and roles: plain words, and nobody climbs."""

from datetime import timedelta

import pytest
from django.contrib import admin
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from accounts import access, roles
from accounts.models import Role, RoleAssignment, User
from billing.models import AuditEvent
from tests.accounts.people import customer, person, role

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _roles():
    roles.sync_roles(at=timezone.now())


def given(code, where=None, **fields):
    user = person(**fields)
    roles.assign(
        user=user,
        role=role(code),
        customer_id=where and where.pk,
        valid_from=timezone.now() - timedelta(days=1),
        actor=None,
    )
    return user


def as_(user):
    client = Client()
    client.force_login(user)
    return client


def url(model, name, *args):
    return reverse(f"admin:accounts_{model}_{name}", args=args)


def assignment_form(user, code, where=None):
    now = timezone.localtime()
    return {
        "user": user.pk,
        "role": role(code).pk,
        "customer": where.pk if where else "",
        "valid_from": f"{now:%Y-%m-%dT%H:%M}",
        "valid_until": "",
        "reason": "asked by mail",
    }


def test_a_finance_admin_hands_a_manager_exactly_two_customers():
    client, ann = as_(given("finance-admin")), person()
    first, second = customer(), customer()
    customer()
    for where in (first, second):
        form = assignment_form(ann, "customer-manager", where)
        answer = client.post(url("roleassignment", "add"), form)
        assert answer.status_code == 302, answer.context["errors"]
    assert access.visible_customer_ids(ann, "view_invoices") == {first.pk, second.pk}
    events = AuditEvent.objects.filter(action="role.given")
    assert {event.customer_id for event in events} == {first.pk, second.pk}
    assert all(event.request_id and event.reason == "asked by mail" for event in events)


@pytest.mark.parametrize("code", ["clerk", "approver", "auditor", "support"])
def test_others_of_the_house_give_no_roles(code):
    client, ann = as_(given(code)), person()
    form = assignment_form(ann, "viewer", customer())
    assert client.post(url("roleassignment", "add"), form).status_code == 403
    assert client.post(url("user", "add"), {}).status_code == 403
    assert not RoleAssignment.objects.filter(user=ann).exists()


def test_a_finance_admin_does_not_decide_about_themselves():
    admin_user = given("finance-admin")
    answer = as_(admin_user).post(
        url("roleassignment", "add"), assignment_form(admin_user, "auditor")
    )
    assert answer.status_code == 200
    assert "their own roles" in str(answer.context["errors"])


def test_a_role_is_ended_by_a_button_and_stays_as_history():
    client, where = as_(given("finance-admin")), customer()
    ann = given("viewer", where)
    row = RoleAssignment.objects.get(user=ann)
    client.post(
        url("roleassignment", "changelist"), {"action": "end_now", "_selected_action": [row.pk]}
    )
    assert not access.may(ann, "view_invoices", where)
    assert RoleAssignment.objects.get(pk=row.pk).ended_by is not None
    assert AuditEvent.objects.filter(action="role.ended", customer=where).exists()


def test_an_assignment_is_never_edited_or_deleted():
    client = as_(person(is_superuser=True))
    row = RoleAssignment.objects.get(user=given("viewer", customer()))
    assert client.post(url("roleassignment", "change", row.pk), {}).status_code == 403
    assert client.post(url("roleassignment", "delete", row.pk), {"post": "yes"}).status_code == 403


def test_who_can_see_a_customer_is_a_page_in_plain_words():
    where, other = customer(), customer()
    ann, bob = given("viewer", where, name="Ann Abel"), given("auditor", name="Bob Boole")
    given("viewer", other, name="Cy Stranger")
    page = reverse("admin:accounts_who_sees", args=[where.pk])
    text = as_(given("finance-admin")).get(page).content.decode()
    assert "Ann Abel" in text
    assert "Bob Boole" in text
    assert "Cy Stranger" not in text
    assert "May see invoices" in text
    assert "view_invoices" not in text
    assert as_(bob).get(page).status_code == 200
    assert as_(ann).get(page).status_code == 404
    missing = reverse("admin:accounts_who_sees", args=[987654321])
    assert as_(ann).get(missing).status_code == 404


def test_what_a_person_may_do_is_told_in_sentences():
    where = customer("Brouwer")
    ann = given("viewer", where)
    text = as_(given("auditor")).get(url("user", "change", ann.pk)).content.decode()
    assert "Brouwer" in text
    assert "May see invoices" in text
    assert "Superuser status" not in text


def test_a_superuser_is_changed_by_superusers_only():
    root, boss = person(is_superuser=True), given("finance-admin")
    assert as_(boss).post(url("user", "change", root.pk), {"name": "x"}).status_code == 403
    password = reverse("admin:auth_user_password_change", args=[root.pk])
    assert as_(boss).get(password).status_code == 403


def test_nobody_becomes_superuser_through_a_form():
    boss, ann = given("finance-admin"), person()
    form = {
        "name": "Ann",
        "username": ann.username,
        "email": "",
        "is_active": "on",
        "language": "en",
        "time_zone": "UTC",
        "theme": "auto",
        "is_superuser": "on",
        "is_staff": "on",
        "groups": [role("finance-admin").group_id],
    }
    assert as_(boss).post(url("user", "change", ann.pk), form).status_code == 302
    ann.refresh_from_db()
    assert ann.name == "Ann"
    assert not ann.is_superuser
    assert not ann.is_staff
    assert not ann.groups.exists()


def test_the_way_in_of_somebody_who_uses_it_is_theirs():
    boss, new, old = given("finance-admin"), person(), person(last_login=timezone.now())
    for user, expected in ((new, 200), (old, 403)):
        page = reverse("admin:auth_user_password_change", args=[user.pk])
        assert as_(boss).get(page).status_code == expected
    readonly = admin.site._registry[User]
    request = type("R", (), {"user": boss, "resolver_match": None})()
    assert "email" in readonly.get_readonly_fields(request, old)
    assert "email" not in readonly.get_readonly_fields(request, new)


def test_a_new_person_gets_a_name_and_a_password():
    boss = given("finance-admin")
    form = {
        "username": "newcomer",
        "name": "New Comer",
        "email": "new@example.org",
        "password1": "staple battery horse correct",
        "password2": "staple battery horse correct",
    }
    answer = as_(boss).post(url("user", "add"), form)
    assert answer.status_code == 302, answer.context["errors"]
    assert User.objects.get(username="newcomer").name == "New Comer"
    event = AuditEvent.objects.get(action="person.added")
    assert "staple" not in str(event.after)


def test_a_custom_role_is_made_of_sentences():
    client = as_(given("finance-admin"))
    form = {
        "name": "Counter",
        "code": "counter",
        "summary": "Counts credits.",
        "permissions": ["view_credits"],
    }
    answer = client.post(url("role", "add"), form)
    assert answer.status_code == 302, answer.context["errors"]
    made = Role.objects.get(code="counter")
    assert made.permissions == ["view_credits", "view_customer"]
    assert not made.is_built_in
    assert client.post(url("role", "change", role("viewer").pk), form).status_code == 403


@pytest.mark.parametrize("model", ["user", "role", "roleassignment", "loginevent"])
def test_pages_of_people_ask_a_fixed_number_of_questions(
    model, django_assert_max_num_queries, client
):
    client.force_login(given("finance-admin"))
    page = url(model, "changelist")
    client.get(page)
    for _ in range(12):
        given("viewer", customer())
    with django_assert_max_num_queries(30):
        assert client.get(page).status_code == 200
