"""Roles are given and ended with dates, by people who may; everything else follows."""

from datetime import UTC, datetime, timedelta

import pytest
from django.db import IntegrityError, transaction
from django.utils import timezone

from accounts import access, roles
from accounts.models import CustomerUserPermission, Role, RoleAssignment, User
from billing.errors import NotPermitted
from tests.accounts.people import customer, person, role

pytestmark = pytest.mark.django_db
NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
DAY = timedelta(days=1)


@pytest.fixture(autouse=True)
def _roles():
    roles.sync_roles(at=NOW)


def give(user, code, where=None, start=NOW, until=None, actor=None, at=NOW):
    return roles.assign(
        user=user,
        role=role(code),
        customer_id=where and where.pk,
        valid_from=start,
        valid_until=until,
        actor=actor,
        at=at,
    )


def test_syncing_twice_changes_nothing():
    assert roles.sync_roles(at=NOW) == []
    assert Role.objects.filter(is_built_in=True).count() == len(roles.BUILT_IN)


def test_an_auditor_reads_everything_and_writes_nothing():
    allowed = set(role("auditor").permissions)
    assert allowed == roles.READS
    assert not any(code.startswith(("change_", "grant_", "issue_")) for code in allowed)


def test_every_role_that_touches_a_customer_sees_it():
    for built_in in roles.BUILT_IN:
        if built_in.permissions & roles.CUSTOMER_CODES:
            assert "view_customer" in built_in.permissions, built_in.code


def test_a_manager_of_two_customers_sees_these_two():
    ann, first, second, third = person(), customer(), customer(), customer()
    give(ann, "customer-manager", first)
    give(ann, "viewer", second)
    seen = access.visible_customer_ids(ann, "view_invoices", NOW)
    assert seen == {first.pk, second.pk}
    assert third.pk not in seen
    assert access.visible_customer_ids(ann, "work", NOW) == {first.pk}
    assert access.visible_customer_ids(ann, "issue_invoices", NOW) == frozenset()


def test_a_role_begins_and_ends_at_its_instants():
    ann, here = person(), customer()
    give(ann, "viewer", here, start=NOW + DAY, until=NOW + 2 * DAY)
    assert not access.may(ann, "view_invoices", here, NOW)
    assert access.may(ann, "view_invoices", here, NOW + DAY)
    assert access.may(ann, "view_invoices", here, NOW + 2 * DAY - timedelta(microseconds=1))
    assert not access.may(ann, "view_invoices", here, NOW + 2 * DAY)


def test_a_role_of_the_house_begins_and_ends_too():
    ann = person()
    give(ann, "auditor", start=NOW + DAY, until=NOW + 2 * DAY)
    assert access.visible_customer_ids(ann, "view_invoices", NOW) == frozenset()
    assert access.visible_customer_ids(ann, "view_invoices", NOW + DAY) is access.EVERYTHING
    assert not access.may(ann, "view_audit", None, NOW + 2 * DAY)


def test_roles_that_touch_make_one_stretch_and_a_gap_is_a_gap():
    ann, here = person(), customer()
    give(ann, "viewer", here, until=NOW + DAY)
    give(ann, "customer-manager", here, start=NOW + DAY, until=NOW + 2 * DAY)
    give(ann, "viewer", here, start=NOW + 4 * DAY)
    at = (0, 1, 2, 3)
    assert [access.may(ann, "view_invoices", here, NOW + n * DAY) for n in at] == [
        True,
        True,
        False,
        False,
    ]
    assert not access.may(ann, "view_invoices", here, NOW + 5 * DAY)
    roles.refresh_permissions(at=NOW + 4 * DAY)
    assert access.may(ann, "view_invoices", here, NOW + 5 * DAY)


def test_an_ended_role_ends_now_and_stays_as_history():
    ann, here = person(), customer()
    given = give(ann, "viewer", here)
    roles.end(given.pk, at=NOW + DAY, actor=None)
    assert access.may(ann, "view_invoices", here, NOW) is False
    assert not access.may(ann, "view_invoices", here, NOW + DAY)
    assert RoleAssignment.objects.get(pk=given.pk).valid_until == NOW + DAY
    assert not CustomerUserPermission.objects.filter(user=ann).exists()


def test_a_role_that_has_not_begun_never_does():
    ann, here = person(), customer()
    given = give(ann, "viewer", here, start=NOW + 5 * DAY)
    roles.end(given.pk, at=NOW, actor=None)
    assert not access.may(ann, "view_invoices", here, NOW + 6 * DAY)


def test_ending_one_of_two_roles_keeps_what_the_other_gives():
    ann, here = person(), customer()
    wide = give(ann, "customer-manager", here)
    give(ann, "viewer", here)
    roles.end(wide.pk, at=NOW + DAY, actor=None)
    assert access.may(ann, "view_invoices", here, NOW + DAY)
    assert not access.may(ann, "work", here, NOW + DAY)


def test_an_inactive_person_has_nothing():
    ann, here = person(), customer()
    give(ann, "viewer", here)
    give(ann, "finance-admin")
    ann.is_active = False
    ann.save()
    assert access.visible_customer_ids(ann, "view_invoices", NOW) == frozenset()
    assert not access.may(ann, "view_invoices", here, NOW)
    assert not access.may_enter(ann)


def test_an_inactive_superuser_has_nothing():
    root = person(is_superuser=True, is_staff=True, is_active=False)
    assert access.visible_customer_ids(root, "view_invoices") == frozenset()
    assert not root.has_perm("billing.view_invoices")


def test_what_is_derived_can_be_lost_and_made_again():
    ann, here = person(), customer()
    give(ann, "viewer", here)
    give(ann, "auditor")
    rows = set(CustomerUserPermission.objects.values_list("user", "permission", "content_object"))
    CustomerUserPermission.objects.all().delete()
    ann.groups.clear()
    assert roles.refresh_permissions(at=NOW, everybody=True) > 0
    again = set(CustomerUserPermission.objects.values_list("user", "permission", "content_object"))
    assert again == rows
    assert list(ann.groups.values_list("role__code", flat=True)) == ["auditor"]
    assert roles.refresh_permissions(at=NOW) == 0


def test_a_group_without_a_role_gives_nothing():
    ann = person()
    ann.groups.add(role("finance-admin").group)
    assert access.visible_customer_ids(ann, "view_invoices", NOW) == frozenset()
    assert not ann.has_perm("billing.view_invoices")


def test_a_role_for_customers_is_not_given_for_the_house():
    with pytest.raises(NotPermitted, match="given for a customer"):
        give(person(), "viewer")


def test_house_permissions_of_a_role_do_not_hold_on_a_customer():
    ann, here = person(), customer()
    give(ann, "auditor", here)
    assert access.may(ann, "view_invoices", here, NOW)
    assert not access.may(ann, "view_audit", here, NOW)
    assert not access.may(ann, "view_audit", None, NOW)


def test_nobody_decides_about_their_own_roles():
    admin = person()
    give(admin, "finance-admin")
    with pytest.raises(NotPermitted, match="their own"):
        give(admin, "auditor", actor=admin)
    held = RoleAssignment.objects.get(user=admin)
    with pytest.raises(NotPermitted, match="their own"):
        roles.end(held.pk, at=NOW, actor=admin)


def test_a_clerk_gives_no_role():
    clerk, ann = person(), person()
    give(clerk, "clerk")
    with pytest.raises(NotPermitted, match="may not decide"):
        give(ann, "viewer", customer(), actor=clerk)


def test_nobody_gives_more_than_they_have():
    deputy, ann, here = person(), person(), customer()
    deputies = Role(code="deputy", name="Deputy", summary="Decides about people.")
    roles.define_role(deputies, permissions=["manage_people", "view_invoices"], actor=None, at=NOW)
    roles.assign(
        user=deputy, role=deputies, customer_id=here.pk, valid_from=NOW, actor=None, at=NOW
    )
    with pytest.raises(NotPermitted, match="what you do not have"):
        give(ann, "customer-manager", here, actor=deputy)
    with pytest.raises(NotPermitted, match="may not decide"):
        give(ann, "viewer", customer(), actor=deputy)


def test_a_custom_role_changes_for_everybody_who_has_it():
    ann, here = person(), customer()
    custom = roles.define_role(
        Role(code="counter", name="Counter", summary="Counts."),
        permissions=["view_credits"],
        actor=None,
        at=NOW,
    )
    assert custom.permissions == ["view_credits", "view_customer"]
    roles.assign(user=ann, role=custom, customer_id=here.pk, valid_from=NOW, actor=None, at=NOW)
    roles.define_role(custom, permissions=["view_invoices"], actor=None, at=NOW)
    assert access.may(ann, "view_invoices", here, NOW)
    assert not access.may(ann, "view_credits", here, NOW)


def test_a_built_in_role_is_not_changed():
    with pytest.raises(NotPermitted, match="built-in"):
        roles.define_role(role("viewer"), permissions=["approve"], actor=None, at=NOW)


def test_an_unknown_permission_is_a_mistake():
    with pytest.raises(ValueError, match="no such permission"):
        roles.define_role(
            Role(code="x", name="X", summary="X"), permissions=["rule"], actor=None, at=NOW
        )


def test_the_database_refuses_an_end_before_the_start():
    with pytest.raises(IntegrityError), transaction.atomic():
        RoleAssignment.objects.create(
            user=person(), role=role("auditor"), valid_from=NOW, valid_until=NOW - DAY
        )


def test_two_people_cannot_share_a_name_in_other_letters():
    person("Mia")
    with pytest.raises(IntegrityError), transaction.atomic():
        person("mia")


def test_a_thousand_customers_are_one_query(django_assert_num_queries):
    ann = person()
    first = customer()
    more = [customer() for _ in range(3)]
    for where in (first, *more):
        give(ann, "customer-manager", where)
    fresh = User.objects.get(pk=ann.pk)
    with django_assert_num_queries(1), access.one_request():
        for code in roles.SENTENCES:
            access.visible_customer_ids(fresh, code)
        assert access.may(fresh, "view_invoices", first)


def test_nothing_is_remembered_past_a_request():
    ann, here = person(), customer()
    now = timezone.now()
    given = give(ann, "viewer", here, start=now - DAY, at=now)
    with access.one_request():
        assert access.may(ann, "view_invoices", here)
        roles.end(given.pk, at=now, actor=None)
        assert not access.may(ann, "view_invoices", here)
    assert not access.may(ann, "view_invoices", here)


def test_the_first_unbroken_stretch():
    a, b, c, d = (NOW + n * DAY for n in range(4))
    assert roles.first_span([(a, b), (b, c)]) == (a, c)
    assert roles.first_span([(a, c), (b, None)]) == (a, None)
    assert roles.first_span([(a, b), (c, d)]) == (a, b)
    assert roles.first_span([(a, d), (b, c)]) == (a, d)


@pytest.mark.django_db(transaction=True)
def test_two_assignments_at_once_both_hold():
    """Each writes the person's rows anew; neither may miss the other's."""
    from threading import Barrier, Thread

    from django.db import connection

    ann, places = person(), [customer() for _ in range(6)]
    start = Barrier(len(places))

    def work(where):
        start.wait()
        try:
            give(ann, "customer-manager", where)
        finally:
            connection.close()

    threads = [Thread(target=work, args=(where,)) for where in places]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert access.visible_customer_ids(ann, "work", NOW) == {where.pk for where in places}
    with transaction.atomic():
        assert roles._rewrite({ann.pk}, NOW) == 0
