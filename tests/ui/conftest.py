"""A real browser on a furnished house, under the site's own content security policy."""

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tests.admin.house import House

CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium") or ""
# Playwright keeps an event loop in this thread; the tests talk to the database beside it.
os.environ.setdefault("DJANGO_ALLOW_ASYNC_UNSAFE", "1")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.ui)
            if not CHROMIUM:
                item.add_marker(
                    pytest.mark.skip(reason="no Chromium: set CHROMIUM or install `chromium`")
                )


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        started = playwright.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"]
        )
        yield started
        started.close()


@pytest.fixture(scope="session")
def shots() -> Path:
    """Where pictures are put for a person to look at."""
    place = Path(os.environ.get("KETER_SHOTS") or tempfile.mkdtemp(prefix="keter-shots-"))
    place.mkdir(parents=True, exist_ok=True)
    return place


@pytest.fixture(scope="session")
def furnished(django_db_setup: None, django_db_blocker: Any) -> "House":
    """One house for all pages; one of its documents is drawn by the real renderer."""
    from django.utils import timezone

    from billing import documents
    from billing.models import InvoiceDocument
    from tests.admin import house

    with django_db_blocker.unblock():
        built = house.build(customers=6, with_run=False)
        built.run = house.billed(built, drawn=False)
        drawn = InvoiceDocument.objects.filter(
            invoice__run=built.run, customer=built.customers[1]
        ).get()
        documents.render_one(drawn.pk, at=timezone.now())
        for invoice in built.run.invoices.all():
            house.ready(invoice)
        built.in_review = house.enliven(built)
        built.manager = house.manager(built, *built.customers[:2])
    return built


@pytest.fixture
def open_page(browser: Any, live_server: Any, furnished: "House") -> Iterator[Callable[..., Any]]:
    """Opens a page as a person, in a theme and a width; script or policy errors fail the test."""
    from django.conf import settings
    from django.test import Client

    contexts, complaints = [], []

    def visit(
        path: str,
        *,
        user: Any = None,
        theme: str = "light",
        width: int = 1440,
        is_missing: bool = False,
    ) -> Any:
        context = browser.new_context(
            viewport={"width": width, "height": 900},
            color_scheme=theme,
            base_url=live_server.url,
        )
        contexts.append(context)
        if user is not None:
            client = Client()
            client.force_login(user)
            context.add_cookies(
                [
                    {
                        "name": settings.SESSION_COOKIE_NAME,
                        "value": client.cookies[settings.SESSION_COOKIE_NAME].value,
                        "url": live_server.url,
                    }
                ]
            )
        page = context.new_page()
        page.is_examined = is_missing  # the browser itself complains about a page that is not there
        page.on("pageerror", lambda error: complaints.append(f"{path}: {error}"))
        page.on(
            "console",
            lambda message: (
                complaints.append(f"{path}: {message.text}")
                if message.type == "error" and not page.is_examined
                else None
            ),
        )
        page.goto(path)
        return page

    yield visit
    for context in contexts:
        context.close()
    assert not complaints, complaints
