"""A page costs as many queries for fifty rows as for one."""

from typing import Any

import pytest
from django.contrib import admin
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from tests.admin import house

pytestmark = pytest.mark.django_db


def _queries(client: Client, url: str) -> list[str]:
    with CaptureQueriesContext(
        connection,
    ) as caught:
        assert client.get(url).status_code == 200, url
    return [query["sql"] for query in caught.captured_queries]


def _lists() -> list[str]:
    return [
        reverse(f"admin:billing_{model._meta.model_name}_changelist")
        for model in admin.site._registry
        if model._meta.app_label == "billing"
    ]


def _pages(built: house.House) -> list[str]:
    first = built.customers[0]
    invoice = built.invoices(first)[0]
    assert built.run is not None
    return [
        "/",
        "/search/?q=e",
        f"/billing/customer/{first.pk}/change/",
        f"/billing/customer/{first.pk}/timeline/",
        f"/billing/invoice/{invoice.pk}/change/",
        f"/billing/invoicerun/{built.run.pk}/change/",
        f"/billing/invoicerun/{built.run.pk}/progress/",
    ]


@pytest.mark.slow
@pytest.mark.parametrize("role", ["superuser", "manager"])
def test_query_counts_do_not_grow(client: Client, role: str) -> None:
    built = house.build(customers=1)
    user: Any = built.author if role == "superuser" else house.manager(built, *built.customers)
    client.force_login(user)
    urls = [
        url for url in (*_lists(), *_pages(built)) if client.get(url).status_code == 200
    ]  # asked once before: what is cached for the process is cached now
    one = {url: _queries(client, url) for url in urls}
    assert all(one.values())
    for position in range(2, 51):
        built.customers.append(house.customer(built, position, uses=1))
    house.billed(built, back=1, pay=False)
    if role == "manager":
        house.give(user, "customer-manager", *built.customers[1:])
    many = {url: _queries(client, url) for url in urls}
    grown = {
        url: (len(one[url]), len(many[url])) for url in urls if len(many[url]) > len(one[url]) + 2
    }
    assert not grown
