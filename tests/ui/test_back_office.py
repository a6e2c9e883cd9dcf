"""The back office in a real browser: seen, reached, read out and driven by keys."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tests.admin.house import House

Open = Callable[..., Any]
LOOKS = [("light", 1440), ("dark", 1440), ("light", 360), ("dark", 360)]
# Rules of WCAG 2.2 AA and axe's own good practice.
PAGES = {
    "login": "/login/",
    "dashboard": "/",
    "search": "/search/?q=studio",
    "customers": "/billing/customer/",
    "customer": "/billing/customer/{customer}/change/",
    "timeline": "/billing/customer/{customer}/timeline/",
    "invoices": "/billing/invoice/",
    "nothing-found": "/billing/invoice/?q=no-such-number",
    "invoice": "/billing/invoice/{invoice}/change/",
    "runs": "/billing/invoicerun/",
    "run": "/billing/invoicerun/{run}/change/",
    "approve": "/billing/invoicerun/{run}/do/approve/",
    "plan-run": "/billing/invoicerun/plan/",
    "grants": "/billing/creditgrant/",
    "grant": "/billing/creditgrant/{grant}/change/",
    "entry": "/billing/ledgerentry/{entry}/change/",
    "version": "/billing/planversion/{version}/change/",
    "payment": "/billing/payment/{payment}/change/",
    "journal": "/billing/journalentry/{journal}/change/",
    "record-payment": "/billing/payment/record/?customer={customer}",
    "give-credits": "/billing/customer/{customer}/credits/",
    "usage": "/billing/usageevent/",
    "documents": "/billing/invoicedocument/",
    "people": "/accounts/user/",
    "new-version": "/billing/planversion/add/",
    "new-customer": "/billing/customer/add/",
    "help": "/help/",
    "guide": "/help/credits/",
    "password": "/password_change/",
    "nowhere": "/nothing/here/",
}


@pytest.fixture(scope="session")
def addresses(furnished: "House", django_db_blocker: Any) -> dict[str, str]:
    from billing.models import CreditGrant, JournalEntry, LedgerEntry, Payment

    with django_db_blocker.unblock():
        customer = furnished.customers[1]
        keys = {
            "customer": customer.pk,
            "invoice": furnished.invoices(customer)[0].pk,
            "run": furnished.in_review.pk,  # type: ignore[union-attr]
            "grant": CreditGrant.objects.filter(customer=customer).latest("pk").pk,
            "entry": LedgerEntry.objects.filter(customer=customer).latest("pk").pk,
            "version": furnished.version.pk,
            "payment": Payment.objects.latest("pk").pk,
            "journal": JournalEntry.objects.latest("pk").pk,
        }
    return {name: path.format(**keys) for name, path in PAGES.items()}


def complaints(page: Any) -> list[str]:
    """What axe finds, a line each. What axe itself does to the page breaks the page's policy."""
    from axe_playwright_python.sync_playwright import Axe

    page.is_examined = True
    found = Axe().run(page, options={"iframes": False}).response["violations"]
    return [
        f"{item['id']}: {item['help']} at {item['nodes'][0]['target']} ({len(item['nodes'])})"
        for item in found
    ]


@pytest.mark.parametrize(("theme", "width"), LOOKS)
@pytest.mark.parametrize("name", PAGES)
def test_a_page_is_accessible_and_fits(
    open_page: Open,
    furnished: "House",
    addresses: dict[str, str],
    shots: Path,
    name: str,
    theme: str,
    width: int,
) -> None:
    user = None if name == "login" else furnished.checker
    page = open_page(
        addresses[name], user=user, theme=theme, width=width, is_missing=name == "nowhere"
    )
    if name == "invoice":
        page.wait_for_timeout(1500)  # the browser's own viewer takes its time
    page.screenshot(path=shots / f"{name}-{theme}-{width}.png", full_page=name != "invoice")
    assert complaints(page) == []
    wide = page.evaluate("document.documentElement.scrollWidth")
    assert wide <= width, f"{wide} px wide"


@pytest.mark.parametrize("name", ["dashboard", "customer", "invoice", "invoices"])
def test_a_managers_page_is_accessible(
    open_page: Open, furnished: "House", addresses: dict[str, str], shots: Path, name: str
) -> None:
    page = open_page(addresses[name], user=furnished.manager)
    page.screenshot(path=shots / f"manager-{name}.png", full_page=True)
    assert complaints(page) == []


def test_the_person_logs_in_and_out(open_page: Open, furnished: "House") -> None:
    page = open_page("/")
    page.get_by_label("User name or e-mail").fill(furnished.checker.username)
    page.get_by_label("Password").fill("correct horse battery")
    page.get_by_role("button", name="Log in").click()
    assert page.get_by_role("heading", level=1).inner_text().endswith("Marta")
    page.locator("summary", has_text="Marta").click()
    page.get_by_role("button", name="Log out").click()
    assert "logged out" in page.get_by_role("heading", level=1).inner_text()


def test_slash_and_control_k_lead_to_the_search(open_page: Open, furnished: "House") -> None:
    page = open_page("/", user=furnished.checker)
    for key in ("/", "Control+k"):
        page.locator("h1").click()
        page.keyboard.press(key)
        assert page.evaluate("document.activeElement.name") == "q"
        page.evaluate("document.activeElement.blur()")
    page.keyboard.press("/")
    page.keyboard.type(furnished.customers[0].name[:6])
    page.keyboard.press("Enter")
    page.get_by_role("link", name=re.compile(furnished.customers[0].name[:6])).first.click()
    assert page.locator("h1").inner_text().startswith(furnished.customers[0].name[:6])


def test_the_sheet_of_keys_opens_and_closes(open_page: Open, furnished: "House") -> None:
    page = open_page("/", user=furnished.checker)
    page.keyboard.press("?")
    assert page.get_by_role("dialog").is_visible()
    assert complaints(page) == []
    page.keyboard.press("Escape")
    assert not page.get_by_role("dialog").is_visible()


def test_rows_are_walked_and_opened_by_keys(open_page: Open, furnished: "House") -> None:
    page = open_page("/billing/invoice/", user=furnished.checker)
    page.keyboard.press("j")
    page.keyboard.press("j")
    second = page.locator("#result_list tbody tr").nth(1)
    assert "cursor" in (second.get_attribute("class") or "")
    wanted = second.locator("th a").get_attribute("href")
    page.keyboard.press("Enter")
    page.wait_for_url(f"**{wanted}")


def test_j_and_k_page_through_invoices(open_page: Open, furnished: "House") -> None:
    page = open_page("/billing/invoice/", user=furnished.checker)
    page.locator("#result_list tbody th a").first.click()
    page.wait_for_url("**/change/**")
    first = page.url
    page.keyboard.press("j")
    page.wait_for_function("url => location.href !== url", arg=first)
    page.wait_for_load_state("networkidle")
    page.keyboard.press("k")
    page.wait_for_url(first)


def test_a_chosen_theme_stays(open_page: Open, furnished: "House") -> None:
    page = open_page("/", user=furnished.checker)
    toggle = page.get_by_role("button", name=re.compile("^Theme"))
    light = page.evaluate("getComputedStyle(document.body).backgroundColor")
    toggle.click()
    toggle.click()
    assert page.get_by_role("button", name="Theme: dark").is_visible()
    page.goto("/help/")
    assert page.evaluate("document.documentElement.dataset.theme") == "dark"
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") != light


def test_the_menu_opens_on_a_phone(open_page: Open, furnished: "House") -> None:
    page = open_page("/", user=furnished.checker, width=360)
    menu = page.get_by_role("navigation", name="Menu")
    assert not menu.is_visible()
    page.get_by_role("link", name="Open menu").click()
    assert menu.is_visible()
    menu.get_by_role("link", name="Close menu").click()
    assert not menu.is_visible()


def test_why_this_amount_is_one_click_away(
    open_page: Open, furnished: "House", addresses: dict[str, str]
) -> None:
    page = open_page(addresses["invoice"], user=furnished.checker)
    first = page.locator("details.disclose").first
    first.locator("summary").click()
    answer = first.inner_text()
    assert "49.00 EUR for one month" in answer
    assert "19\u00a0%" in answer
    assert complaints(page) == []


def test_the_document_stands_beside_the_invoice(
    open_page: Open, furnished: "House", addresses: dict[str, str]
) -> None:
    page = open_page(addresses["invoice"], user=furnished.checker)
    frame = page.locator("iframe")
    assert frame.is_visible()
    source = frame.get_attribute("src").partition("#")[0]
    answer = page.request.get(source)
    assert answer.status == 200
    assert answer.body().startswith(b"%PDF")
    with page.expect_download() as caught:
        page.get_by_role("link", name="Download PDF").click()
    assert caught.value.suggested_filename.endswith(".pdf")


def test_a_run_is_live_and_rests_when_nobody_looks(
    open_page: Open, furnished: "House", addresses: dict[str, str], django_db_blocker: Any
) -> None:
    from billing.models import InvoiceRun

    run = InvoiceRun.objects.filter(pk=furnished.in_review.pk)  # type: ignore[union-attr]
    run.update(state="drafting")
    try:
        page = open_page(addresses["run"], user=furnished.checker)
        asked: list[str] = []
        page.on(
            "request",
            lambda request: asked.append(request.url) if "/progress/" in request.url else None,
        )
        page.wait_for_timeout(2500)
        assert len(asked) == 1
        page.evaluate(
            "Object.defineProperty(document, 'hidden', {configurable: true, get: () => true})"
        )
        page.wait_for_timeout(5000)
        assert len(asked) == 1
        page.evaluate(
            "Object.defineProperty(document, 'hidden', {configurable: true, get: () => false});"
            "document.dispatchEvent(new Event('visibilitychange'))"
        )
        page.wait_for_timeout(800)
        assert len(asked) == 2
        run.update(state="in_review")
        page.wait_for_selector("text=Approve…", timeout=8000)
    finally:
        run.update(state="in_review")


def test_filters_become_chips_that_can_be_removed(open_page: Open, furnished: "House") -> None:
    page = open_page("/billing/invoice/", user=furnished.checker)
    page.locator("summary", has_text="State").click()
    page.locator("#changelist-filter").get_by_role("link", name="Issued").click()
    chip = page.locator(".chip")
    assert "issued" in chip.inner_text()
    assert page.locator(".badge", has_text="Draft").count() == 0
    chip.get_by_role("link").click()
    assert page.locator(".chip").count() == 0
    assert page.locator(".badge", has_text="Draft").count() > 0


def test_a_touched_form_is_not_lost_by_accident(open_page: Open, furnished: "House") -> None:
    page = open_page("/billing/customer/add/", user=furnished.checker)
    page.get_by_label("Name", exact=False).first.fill("Neu")
    asked: list[str] = []
    page.on("dialog", lambda dialog: (asked.append(dialog.type), dialog.accept()))
    page.get_by_role("link", name="Home").click()
    page.wait_for_url(re.compile(r"/$"))
    assert asked == ["beforeunload"]


def test_a_page_prints_without_its_frame(
    open_page: Open, furnished: "House", addresses: dict[str, str], shots: Path
) -> None:
    page = open_page(addresses["customer"], user=furnished.checker, theme="dark")
    page.emulate_media(media="print")
    assert not page.locator("#header").is_visible()
    assert not page.locator("#nav-sidebar").is_visible()
    paper = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert paper == "rgb(255, 255, 255)"
    page.screenshot(path=shots / "print-customer.png", full_page=True)


def test_a_page_may_be_zoomed_to_twice_its_size(open_page: Open, furnished: "House") -> None:
    page = open_page("/billing/invoice/", user=furnished.checker, width=640)
    assert page.evaluate("document.documentElement.scrollWidth") <= 640
