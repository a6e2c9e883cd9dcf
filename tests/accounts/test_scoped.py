"""Buttons, choices and searches of a scoped page, row by row."""

from datetime import timedelta

import pytest
from django.contrib import admin
from django.contrib.messages.storage.fallback import FallbackStorage
from django.db import connection
from django.test import RequestFactory
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from accounts import access, roles
from accounts.admin.scoped import LargePaginator, ScopedAdmin
from accounts.models import Role, RoleAssignment, User
from billing.models import Contact, Customer
from tests.accounts.people import customer, person, role, seller

pytestmark = pytest.mark.django_db
YESTERDAY = timedelta(days=-1)


@pytest.fixture(autouse=True)
def _roles():
    roles.sync_roles(at=timezone.now())


def give(user, code, *where):
    start = timezone.now() + YESTERDAY
    for customer_id in [row.pk for row in where] or [None]:
        roles.assign(
            user=user, role=role(code), customer_id=customer_id, valid_from=start, actor=None
        )


def asks(user, path="/", **query):
    request = RequestFactory().get(path, query)
    request.user = user
    request.resolver_match = None
    request.session = {}
    request._messages = FallbackStorage(request)
    return request


class Page(ScopedAdmin):
    owner = "customer"
    view_permission = "view_customer"
    change_permission = "work"
    search_fields = ("name", "customer__name")
    actions = ("mark", "silent")

    @admin.action(permissions=["work"])
    def mark(self, request, queryset):
        return sorted(queryset.values_list("name", flat=True))

    def silent(self, request, queryset):
        raise AssertionError


def page() -> Page:
    return Page(Contact, admin.site)


def contact(where, name):
    return Contact.objects.create(customer=where, name=name, email=f"{name}@example.org")


def test_an_action_meets_only_rows_its_permission_covers():
    user, looks_after, may_see, hidden = person(), customer(), customer(), customer()
    give(user, "customer-manager", looks_after)
    give(user, "viewer", may_see)
    for where, name in ((looks_after, "a"), (may_see, "b"), (hidden, "c")):
        contact(where, name)
    request = asks(user)
    run, *_ = page().get_actions(request)["mark"]
    assert run(page(), request, page().get_queryset(request)) == ["a"]
    everybodys = Contact.objects.filter(customer__in=(looks_after, may_see, hidden))
    assert run(page(), request, everybodys) == ["a"]
    assert [str(message) for message in request._messages] == [
        "1 of the chosen rows are not yours to do this with.",
        "2 of the chosen rows are not yours to do this with.",
    ]


def test_an_action_without_a_permission_is_no_button():
    root = person(is_superuser=True)
    assert set(page().get_actions(asks(root))) == {"mark"}


def test_an_action_is_no_button_for_somebody_who_holds_it_nowhere():
    user = person()
    give(user, "viewer", customer())
    assert page().get_actions(asks(user)) == {}


def test_a_row_is_written_only_where_writing_is_permitted():
    user, writes, reads = person(), customer(), customer()
    give(user, "customer-manager", writes)
    give(user, "viewer", reads)
    request = asks(user)
    choices = page().choices_of(Contact._meta.get_field("customer"), request)
    assert list(choices) == [writes]
    assert page().has_change_permission(request, contact(writes, "a"))
    assert not page().has_change_permission(request, contact(reads, "b"))


def test_deleting_is_nobodys_unless_declared():
    root = person(is_superuser=True)
    assert not page().has_delete_permission(asks(root))


def test_a_delete_page_counts_and_names_nobody_else():
    root, where = person(is_superuser=True), customer()
    contact(where, "secret-name")
    shown, counts, _, kept = page().get_deleted_objects([where], asks(root))
    assert "secret-name" not in str((shown, kept))
    assert counts or kept


def test_search_takes_two_steps_and_stays_within_own_rows():
    user, own, hidden = person(), customer("Brouwer Zonen"), customer("Brouwer Secret")
    give(user, "viewer", own)
    anna = contact(own, "anna")
    contact(hidden, "anna2")
    request = asks(user)
    for words in ("anna", "brouwer", "brouwer anna", "ANNA zonen", '"anna"'):
        found, repeats = page().get_search_results(request, page().get_queryset(request), words)
        assert list(found) == [anna], words
        assert not repeats
    with CaptureQueriesContext(connection) as asked:
        found, _ = page().get_search_results(
            request, page().get_queryset(request).order_by("pk"), "brouwer"
        )
        list(found)
    last = asked.captured_queries[-1]["sql"]
    assert "JOIN" not in last
    assert "ANY(" in last
    none, _ = page().get_search_results(request, page().get_queryset(request), "secret")
    assert list(none) == []
    every, _ = page().get_search_results(request, page().get_queryset(request), "\x00  ")
    assert list(every) == [anna]


def test_a_long_list_is_estimated_and_a_short_one_counted():
    where = customer()
    contact(where, "only")
    assert LargePaginator(Contact.objects.filter(customer=where), 50).count == 1
    assert LargePaginator([1, 2, 3], 2).num_pages == 2


def test_a_manager_of_five_thousand_customers_is_one_parameter():
    user = person()
    Customer.objects.bulk_create(
        Customer(legal_entity=seller(), code=f"M{n}", name=f"M{n}", country="IE", currency="EUR")
        for n in range(5000)
    )
    ids = list(Customer.objects.filter(code__startswith="M").values_list("pk", flat=True))
    viewers = Role.objects.get(code="viewer")
    start = timezone.now() + YESTERDAY
    RoleAssignment.objects.bulk_create(
        RoleAssignment(user=user, role=viewers, customer_id=pk, valid_from=start) for pk in ids
    )
    roles.refresh_permissions(at=timezone.now(), everybody=True)
    fresh = User.objects.get(pk=user.pk)
    with CaptureQueriesContext(connection) as asked, access.one_request():
        rows = access.scoped(Contact.objects.all(), fresh, "view_customer")
        assert rows.count() == 0
        assert len(access.visible_customer_ids(fresh, "view_invoices")) == 5000
    assert len(asked) == 2
    assert sum(float(query["time"]) for query in asked.captured_queries) < 0.5
