"""Waiting rows become files: once, whole, in order, whatever fails on the way."""

import errno
import hashlib
import os
from datetime import timedelta
from pathlib import Path

import pytest
from django.core.files.storage import storages
from django.db import connection

from billing import documents
from billing.errors import IllegalTransition, MissingData
from billing.models import Invoice, InvoiceDocument
from billing.paper import child as paper_child
from billing.paper import figures
from tests import factories as make
from tests.documents import reading, snapshots
from tests.factories import NOVEMBER, NOW

pytestmark = pytest.mark.django_db

State = InvoiceDocument.State
_REPLY = b"%PDF drawn"


@pytest.fixture(autouse=True)
def _own_storage(settings, tmp_path):
    """Files of these tests lie in a folder of their own."""
    settings.STORAGES = settings.STORAGES | {
        "documents": settings.STORAGES["documents"]
        | {"OPTIONS": {"location": str(tmp_path / "documents")}}
    }


@pytest.fixture(autouse=True)
def _only_ours():
    """Rows other tests left behind do not wait for us."""
    InvoiceDocument.objects.filter(state=State.WAITING).update(state=State.PARKED)


@pytest.fixture
def drawer(monkeypatch):
    """Replaces the drawing itself; the child, its limits and its pipes stay real."""

    def use(function):
        monkeypatch.setattr(paper_child, "_engine_draw", lambda: function)

    use(lambda snapshot: _REPLY + snapshot["number"].encode())
    return use


def _waiting(number: str = "X-1", **fields) -> InvoiceDocument:
    entity = make.seller()
    customer = make.customer(entity)
    invoice = Invoice.objects.create(
        legal_entity=entity,
        customer=customer,
        currency="EUR",
        supply_from="2026-11-01",
        supply_to="2026-12-01",
        key=make.unique("k"),
        snapshot=fields.pop("snapshot", {"number": number}),
    )
    return InvoiceDocument.objects.create(invoice=invoice, customer=customer, **fields)


def _file(document: InvoiceDocument) -> Path:
    return Path(storages["documents"].path(document.storage_name))


def test_a_waiting_document_becomes_a_file_named_by_its_hash(drawer):
    document = _waiting("X-7")
    assert documents.render_waiting(limit=10, at=NOW) == 1
    document.refresh_from_db()
    content = _REPLY + b"X-7"
    assert document.state == State.READY
    assert document.sha256 == hashlib.sha256(content).hexdigest()
    assert document.size == len(content)
    assert document.attempts == 1
    assert document.template_version
    assert NOW <= document.rendered_at < NOW + timedelta(minutes=1)
    assert _file(document).read_bytes() == content
    assert _file(document).stat().st_mode & 0o777 == 0o640
    assert documents.open_document(document.pk) == content
    assert documents.render_waiting(limit=10, at=NOW) == 0


def test_a_real_snapshot_is_drawn_and_can_be_read_back():
    document = _waiting(snapshot=snapshots.invoice())
    assert documents.render_one(document.pk, NOW)
    assert documents.open_document(document.pk).startswith(b"%PDF-1.7")


@pytest.mark.parametrize("language", ["en", "de"])
def test_what_a_run_issues_is_drawn_with_its_number_and_sums(language):
    entity = make.seller(directors="Ada Lind", registration="No. 1")
    who = make.customer(entity, language=language)
    on_plan = make.subscribe(who, make.version(), NOVEMBER[0])
    make.record(make.use(on_plan, "12345", NOW - timedelta(days=10)))
    run = make.bill(entity, make.person(), make.person())
    document = InvoiceDocument.objects.get(invoice__run=run)
    assert documents.render_one(document.pk, NOW), document.reason
    invoice = document.invoice
    text = reading.text(documents.open_document(document.pk))
    locale = figures.locale_of(language)
    assert invoice.number in text
    assert figures.digits(invoice.payable, 2, locale) in text
    for line in invoice.lines.all():
        assert line.description in text
        assert figures.digits(line.net, 2, locale) in text


def test_the_urgent_and_the_newest_come_first(drawer):
    plain, urgent, newest = _waiting(), _waiting(priority=1), _waiting()
    claims = documents.claim(2, NOW)
    assert [item.document_id for item in claims] == [urgent.pk, newest.pk]
    assert [item.document_id for item in documents.claim(2, NOW)] == [plain.pk]


def test_a_claimed_document_is_nobody_else_s_until_the_lease_ends(drawer):
    document = _waiting()
    documents.claim(1, NOW)
    assert documents.claim(1, NOW) == []
    assert not documents.render_one(document.pk, NOW)
    assert len(documents.claim(1, NOW + documents.LEASE)) == 1


def test_who_lost_the_lease_writes_nothing(drawer):
    document = _waiting()
    (mine,) = documents.claim(1, NOW)
    documents.claim(1, NOW + documents.LEASE)
    documents._work([mine], NOW)
    document.refresh_from_db()
    assert document.state == State.WAITING
    assert document.attempts == 0


def test_a_failure_is_written_down_tried_three_times_and_then_set_aside(drawer):
    drawer(lambda _: 1 / 0)
    document, at = _waiting(), NOW
    for attempt in (1, 2, 3):
        assert documents.render_waiting(limit=10, at=at) == 1
        document.refresh_from_db()
        assert document.attempts == attempt
        assert "division by zero" in document.reason
        assert documents.render_waiting(limit=10, at=at) == 0
        at += timedelta(minutes=2)
    assert document.state == State.PARKED
    assert document.reason == "Not drawn in 3 tries: ZeroDivisionError: division by zero."
    assert document.storage_name == ""


@pytest.mark.fault
def test_a_renderer_that_dies_stops_nobody_else(drawer):
    def draw(snapshot):
        if snapshot["number"] == "bad":
            os.abort()
        return _REPLY

    drawer(draw)
    first, bad, last = _waiting("a"), _waiting("bad"), _waiting("c")
    assert documents.render_waiting(limit=10, at=NOW) == 3
    states = dict(InvoiceDocument.objects.values_list("pk", "state"))
    assert [states[row.pk] for row in (first, bad, last)] == [
        State.READY,
        State.WAITING,
        State.READY,
    ]
    bad.refresh_from_db()
    assert bad.reason == "the renderer was ended by SIGABRT"
    assert bad.attempts == 1


@pytest.mark.fault
def test_a_worker_killed_while_drawing_costs_only_the_document_in_its_hands(drawer):
    rows = [_waiting(str(number)) for number in range(3)]
    claims = documents.claim(3, NOW)
    assert documents._begin(claims[0])  # and then the power goes
    later = NOW + documents.LEASE
    documents.render_waiting(limit=10, at=later)
    found = InvoiceDocument.objects.filter(pk__in=[row.pk for row in rows])
    assert {row.state for row in found} == {State.READY}
    assert sorted(row.attempts for row in found) == [1, 1, 2]


@pytest.mark.fault
def test_a_document_that_kills_its_worker_three_times_is_set_aside():
    document = _waiting(attempts=3, lease_until=NOW)
    assert documents.claim(5, NOW + timedelta(seconds=1)) == []
    document.refresh_from_db()
    assert document.state == State.PARKED
    assert document.reason == "Not drawn in 3 tries: the renderer never answered."


@pytest.mark.fault
def test_what_was_not_begun_when_the_time_was_up_goes_back_at_once(drawer, monkeypatch):
    rows = [_waiting(str(number)) for number in range(3)]
    monkeypatch.setattr(documents, "TURN_SECONDS", -1)
    assert documents.render_waiting(limit=10, at=NOW) == 3
    found = InvoiceDocument.objects.filter(pk__in=[row.pk for row in rows])
    assert {(row.attempts, row.lease_until) for row in found} == {(0, None)}


@pytest.mark.fault
def test_a_renderer_that_cannot_start_counts_against_no_document(drawer, monkeypatch):
    def missing():
        raise OSError("cannot load library 'pango-1.0'")

    monkeypatch.setattr(paper_child, "_engine_draw", missing)
    document = _waiting()
    with pytest.raises(OSError, match="pango"):
        documents.render_waiting(limit=10, at=NOW)
    document.refresh_from_db()
    assert (document.state, document.attempts, document.lease_until) == (State.WAITING, 0, None)


@pytest.mark.fault
def test_a_full_disk_counts_no_try_and_leaves_no_half_file(drawer, monkeypatch, settings, tmp_path):
    settings.FAILPOINTS = True
    monkeypatch.setenv("FAILPOINT", "pdf.after_write=full")
    one, two = _waiting("1"), _waiting("2")
    assert documents.render_waiting(limit=10, at=NOW) == 2
    for row in (one, two):
        row.refresh_from_db()
        assert (row.state, row.attempts, row.storage_name) == (State.WAITING, 0, "")
    assert two.reason == f"the file could not be stored: {os.strerror(errno.ENOSPC)}"
    assert [path for path in (tmp_path / "documents").rglob("*") if path.is_file()] == []
    monkeypatch.delenv("FAILPOINT")
    documents.render_waiting(limit=10, at=NOW + timedelta(minutes=2))
    assert InvoiceDocument.objects.filter(pk__in=[one.pk, two.pk], state=State.READY).count() == 2


@pytest.mark.fault
@pytest.mark.parametrize("place", ["pdf.after_render", "pdf.after_write", "pdf.after_rename"])
def test_a_power_cut_at_any_place_is_made_good_with_the_same_file(
    place, drawer, monkeypatch, settings, tmp_path
):
    """The process that dies is a copy of this one, as a worker is; the database is untouched."""
    settings.FAILPOINTS = True
    digest = hashlib.sha256(_REPLY).hexdigest()
    dying = os.fork()
    if dying == 0:
        os.environ["FAILPOINT"] = place
        try:
            documents.failpoint("pdf.after_render")
            documents._store(_REPLY, digest)
        finally:
            os._exit(1)
    assert os.WTERMSIG(os.waitpid(dying, 0)[1]) == 9
    name = documents._store(_REPLY, digest)
    whole = [p for p in (tmp_path / "documents").rglob("*.pdf") if not p.name.startswith(".")]
    assert [path.read_bytes() for path in whole] == [_REPLY]
    assert Path(storages["documents"].path(name)) == whole[0]


def test_a_document_set_aside_can_be_put_back(drawer):
    document = _waiting(state=State.PARKED, attempts=3, reason="Not drawn.")
    documents.retry(document.pk)
    assert documents.render_waiting(limit=10, at=NOW) == 1
    document.refresh_from_db()
    assert (document.state, document.reason) == (State.READY, "")
    with pytest.raises(IllegalTransition):
        documents.retry(document.pk)


def test_a_file_that_was_changed_or_lost_is_never_handed_out(drawer):
    document = _waiting()
    with pytest.raises(MissingData, match="not made yet"):
        documents.open_document(document.pk)
    documents.render_waiting(limit=10, at=NOW)
    document.refresh_from_db()
    _file(document).write_bytes(b"%PDF forged")
    with pytest.raises(documents.DocumentDamaged, match="not the file"):
        documents.open_document(document.pk)
    _file(document).unlink()
    with pytest.raises(documents.DocumentDamaged, match="cannot be read"):
        documents.open_document(document.pk)


def test_a_preview_is_the_file_that_would_be_made_and_a_failure_is_a_refusal(draw):
    snapshot = snapshots.invoice(number="")
    assert documents.preview(snapshot) == draw(snapshot)
    with pytest.raises(documents.NotDrawn, match="do not add up"):
        documents.preview(snapshots.invoice(net="1"))


def test_the_claim_is_two_statements_however_many_wait(drawer, django_assert_num_queries):
    for number in range(5):
        _waiting(str(number))
    with django_assert_num_queries(4, connection=connection):  # with the savepoint around them
        documents.claim(50, NOW)
