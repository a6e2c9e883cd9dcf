"""Each way to show somebody else's rows is refused before the first request."""

import pytest
from django.contrib import admin
from django.contrib.admin.filters import RelatedFieldListFilter
from django.contrib.contenttypes.models import ContentType

from accounts import checks
from accounts.admin.scoped import ScopedAdmin, ScopedTabularInline
from billing.models import Contact, Customer, Invoice, InvoiceLine, Project, Subscription


def wrong(page: type, model: type = Invoice) -> set[str]:
    site = admin.AdminSite(name="broken")
    return {error.id for error in checks.page_errors(page(model, site))}


class Good(ScopedAdmin):
    owner = "customer"
    view_permission = "view_invoices"


def test_the_site_itself_is_clean():
    assert checks.pages_are_scoped(None) == []
    assert len(admin.site._registry) > 20


def test_a_good_page_passes():
    assert wrong(Good) == set()


def test_a_stock_page_is_refused():
    assert wrong(admin.ModelAdmin) == {"accounts.E001"}


def test_a_stock_inline_is_refused_unless_it_only_shows():
    class Lines(admin.TabularInline):
        model = InvoiceLine

    class Shown(admin.TabularInline):
        model = InvoiceLine
        fields = readonly_fields = ("description",)

    class Scoped(ScopedTabularInline):
        model = InvoiceLine

    assert wrong(type("Page", (Good,), {"inlines": [Lines]})) == {"accounts.E002"}
    assert wrong(type("Page", (Good,), {"inlines": [Shown, Scoped]})) == set()


def test_an_action_says_for_whom_it_is():
    def silent(page, request, rows):
        """Do it."""

    loud = admin.action(permissions=["issue_invoices"])(lambda page, request, rows: None)
    loud.__name__ = "loud"
    assert wrong(type("Page", (Good,), {"actions": [silent]})) == {"accounts.E006"}
    assert wrong(type("Page", (Good,), {"actions": [loud]})) == set()


@pytest.mark.parametrize("path", ["customer", "corrects", "customer__country", "created_by"])
def test_a_filter_across_customers_or_people_is_refused(path):
    assert wrong(type("Page", (Good,), {"list_filter": [path]})) == {"accounts.E007"}


def test_a_filter_by_rows_of_the_house_passes():
    page = type("Page", (Good,), {"list_filter": ["plan_version__plan"]})
    assert wrong(page, Subscription) == set()


def test_choices_of_a_stock_filter_are_refused():
    page = type("Page", (Good,), {"list_filter": [("plan_version", RelatedFieldListFilter)]})
    assert wrong(page, Subscription) == {"accounts.E008"}


@pytest.mark.parametrize(
    ("attributes", "number"),
    [
        ({"list_editable": ("currency",)}, "E003"),
        ({"view_permission": "view_everything"}, "E004"),
        ({"owner": "number"}, "E005"),
        ({"owner": "pk"}, "E005"),
        ({"raw_id_fields": ("customer",)}, "E009"),
        ({"view_on_site": True}, "E010"),
    ],
)
def test_other_ways_out_are_refused(attributes, number):
    assert wrong(type("Page", (Good,), attributes)) == {f"accounts.{number}"}


def test_the_customer_owns_itself():
    assert wrong(type("Page", (Good,), {"owner": "pk"}), Customer) == set()
    assert wrong(Good, Customer) == {"accounts.E005"}
    assert wrong(Good, Contact) == wrong(Good, Project) == set()


@pytest.mark.django_db
def test_guardians_generic_tables_stay_empty():
    from django.contrib.auth.models import Permission
    from guardian.models import UserObjectPermission

    from tests.accounts.people import customer, person

    assert checks.generic_permissions_are_empty(None, databases=["default"]) == []
    where = customer()
    kind = ContentType.objects.get_for_model(where)
    UserObjectPermission.objects.create(
        user=person(),
        permission=Permission.objects.filter(content_type=kind).first(),
        content_type=kind,
        object_pk=str(where.pk),
    )
    found = checks.generic_permissions_are_empty(None, databases=["default"])
    assert [error.id for error in found] == ["accounts.E011"]
