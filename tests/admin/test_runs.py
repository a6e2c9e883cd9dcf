"""The pages of a run: progress, steps that ask first, and two pairs of eyes."""

from datetime import date
from typing import TYPE_CHECKING, Any

import pytest
from django.test import Client
from django.urls import reverse

from billing.models import AuditEvent, Invoice, InvoiceRun
from tests.admin import house

if TYPE_CHECKING:
    from tests.admin.house import House

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def nudged(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Messages to the workers, kept instead of sent."""
    from billing import tasks

    sent: list[int] = []
    monkeypatch.setattr(tasks.advance_run, "delay_on_commit", sent.append)
    return sent


@pytest.fixture
def in_review(furnished: "House") -> InvoiceRun:
    return house.enliven(furnished)


def step(run: InvoiceRun, name: str) -> str:
    return reverse("admin:billing_invoicerun_step", args=[run.pk, name])


def tools(client: Client, run: InvoiceRun) -> set[str]:
    page = client.get(f"/billing/invoicerun/{run.pk}/change/")
    return {tool.label for tool in page.context["page_tools"]}


def test_progress_is_told_in_words_and_bars(
    client: Client, furnished: "House", in_review: InvoiceRun
) -> None:
    client.force_login(furnished.checker)
    answer = client.get(f"/billing/invoicerun/{in_review.pk}/progress/")
    told = answer.json()
    assert answer["Cache-Control"] == "private, no-store"
    assert told["state"] == "in_review"
    assert told["percent"] == "100 %"
    assert told["failed"] == "1"
    assert [part["name"] for part in told["bar"]] == ["done", "none", "fail", "track"]


def test_a_manager_sees_no_run_at_all(
    client: Client, furnished: "House", in_review: InvoiceRun
) -> None:
    client.force_login(house.manager(furnished, furnished.customers[0]))
    for url in (
        f"/billing/invoicerun/{in_review.pk}/change/",
        f"/billing/invoicerun/{in_review.pk}/progress/",
        step(in_review, "approve"),
    ):
        assert client.get(url).status_code == 404, url


def test_a_failure_names_its_reason_and_where_it_is_mended(
    client: Client, furnished: "House", in_review: InvoiceRun
) -> None:
    client.force_login(furnished.checker)
    page = client.get(f"/billing/invoicerun/{in_review.pk}/change/")
    failure = page.context["failures"][0]
    assert "no price in USD" in failure["reason"]
    assert failure["url"] == reverse("admin:billing_planversion_changelist")


def test_the_author_is_not_offered_to_approve_and_is_refused(
    client: Client, furnished: "House", in_review: InvoiceRun
) -> None:
    client.force_login(furnished.author)
    assert "Approve…" not in tools(client, in_review)
    answer = client.post(step(in_review, "approve"), {"reason": "mine"}, follow=True)
    assert "Another person must approve" in answer.content.decode()
    in_review.refresh_from_db()
    assert in_review.state == "in_review"


def test_another_person_approves_with_a_reason_and_issues(
    client: Client, furnished: "House", in_review: InvoiceRun, nudged: list[int]
) -> None:
    client.force_login(furnished.checker)
    assert {"Approve…", "Stop…", "Retry failed"} <= tools(client, in_review)
    asked = client.get(step(in_review, "approve"))
    assert b"Approve this run?" in asked.content
    without = client.post(step(in_review, "approve"), {"reason": ""})
    assert without.status_code == 200
    in_review.refresh_from_db()
    assert in_review.state == "in_review"
    client.post(step(in_review, "approve"), {"reason": "compared with September"})
    in_review.refresh_from_db()
    assert (in_review.state, in_review.approved_by_id) == ("approved", furnished.checker.pk)
    event = AuditEvent.objects.get(action="run approved", subject=f"run:{in_review.pk}")
    assert event.reason == "compared with September"
    assert tools(client, in_review) == {"Stop…", "Retry failed", "Issue…"}
    client.post(step(in_review, "issue"))
    in_review.refresh_from_db()
    assert in_review.state == "issuing"
    assert nudged == [in_review.pk, in_review.pk]


def test_a_get_changes_nothing(client: Client, furnished: "House", in_review: InvoiceRun) -> None:
    client.force_login(furnished.checker)
    for name in ("approve", "issue", "stop", "resume", "retry", "start"):
        client.get(step(in_review, name))
    in_review.refresh_from_db()
    assert in_review.state == "in_review"
    assert client.get(step(in_review, "explode")).status_code == 404


def test_stop_and_resume(client: Client, furnished: "House", in_review: InvoiceRun) -> None:
    client.force_login(furnished.checker)
    client.post(step(in_review, "stop"), {"reason": "wrong month"})
    in_review.refresh_from_db()
    assert in_review.state == "stopped"
    client.post(step(in_review, "resume"))
    in_review.refresh_from_db()
    assert in_review.state == "in_review"


@pytest.mark.parametrize(
    ("role", "name", "status"),
    [
        ("auditor", "approve", 403),
        ("auditor", "stop", 403),
        ("clerk", "approve", 403),
        ("clerk", "stop", 302),
        ("approver", "approve", 302),
        ("approver", "issue", 403),
        ("finance-admin", "approve", 302),
    ],
)
def test_steps_are_for_whom_they_are(
    client: Client, furnished: "House", in_review: InvoiceRun, role: str, name: str, status: int
) -> None:
    person = house.person(f"{role}-{name}")
    house.give(person, role)
    client.force_login(person)
    before = Invoice.objects.filter(state="approved").count()
    answer = client.post(step(in_review, name), {"reason": "because"})
    assert answer.status_code == status
    if status == 403:
        in_review.refresh_from_db()
        assert in_review.state == "in_review"
        assert Invoice.objects.filter(state="approved").count() == before


def test_a_run_is_planned_once_for_a_month(client: Client, furnished: "House") -> None:
    client.force_login(furnished.author)
    values: dict[str, Any] = {"legal_entity": furnished.entity.pk, "month": date(2026, 2, 17)}
    url = reverse("admin:billing_invoicerun_plan")
    assert client.get(url).status_code == 200
    first, second = client.post(url, values), client.post(url, values)
    assert first.status_code == 302
    assert first["Location"] == second["Location"]
    run = InvoiceRun.objects.get(pk=int(first["Location"].split("/")[-3]))
    assert (run.period.lower, run.period.upper) == (date(2026, 2, 1), date(2026, 3, 1))
    assert run.author == furnished.author


def test_who_may_not_make_runs_plans_none(client: Client, furnished: "House") -> None:
    person = house.person("auditor-plans")
    house.give(person, "auditor")
    client.force_login(person)
    assert client.get(reverse("admin:billing_invoicerun_plan")).status_code == 403
