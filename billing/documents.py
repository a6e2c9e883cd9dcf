"""The files of issued invoices: drawn from the snapshot, stored once, checked on every reading.

The rows of InvoiceDocument that wait are the queue. A renderer that dies takes nothing with it:
the invoice stays issued, the document is tried again, and after three tries it is set aside with a
reason a person can read. The same snapshot always gives the same bytes, and a file is named by its
own hash, so whatever was interrupted can simply be done again.
"""

import contextlib
import hashlib
import logging
import os
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final

from django.core.files.base import ContentFile
from django.core.files.storage import Storage, storages
from django.db import transaction
from django.db.models import F, Q

from billing.errors import BillingError, IllegalTransition, InvariantBroken, MissingData
from billing.failpoints import failpoint
from billing.models import Invoice, InvoiceDocument
from billing.paper import TEMPLATE_VERSION
from billing.paper.child import Child, RenderFailed, draw_apart

log = logging.getLogger(__name__)

ATTEMPTS_MAX: Final = 3
LEASE: Final = timedelta(minutes=5)  # longer than a claim may take, see TURN_SECONDS
TURN_SECONDS: Final = 35  # then what was claimed and not begun goes back to the queue
_PAUSE: Final = timedelta(seconds=20)  # times the attempts so far, before the next one
_PAUSE_STORAGE: Final = timedelta(minutes=1)

State = InvoiceDocument.State


class NotDrawn(BillingError):
    """The document could not be drawn; the text says why."""

    code = "not_drawn"


class DocumentDamaged(InvariantBroken):
    """The stored file is missing or is not the one that was made."""


@dataclass(frozen=True, slots=True)
class Claim:
    """A document held under a lease. The lease's end is the token: who lost it may not write."""

    document_id: int
    invoice_id: int
    lease_until: datetime


def claim(limit: int, at: datetime) -> list[Claim]:
    """Take up to `limit` waiting documents, the most urgent and newest first, under a lease.

    Documents whose last allowed try ended without a word are set aside here.
    """
    with transaction.atomic():
        rows = list(
            InvoiceDocument.objects.select_for_update(skip_locked=True)
            .filter(_is_free(at), state=State.WAITING)
            .order_by("priority", "-id")[:limit]
        )
        return _lease(rows, at)


def render_waiting(limit: int, at: datetime) -> int:
    """Draw waiting documents for a while and store them; how many were worked on.

    Any number of workers may do this at once. Nothing is left half-done: a file is in place before
    its row says so. Returns 0 when there is nothing to do now.
    """
    claims = claim(limit, at)
    if claims:
        _work(claims, at)
    return len(claims)


def render_one(document_id: int, at: datetime) -> bool:
    """Draw one waiting document now; whether it is ready afterwards."""
    with transaction.atomic():
        rows = list(
            InvoiceDocument.objects.select_for_update(skip_locked=True).filter(
                _is_free(at), pk=document_id, state=State.WAITING
            )
        )
        claims = _lease(rows, at)
    if claims:
        _work(claims, at)
    return InvoiceDocument.objects.filter(pk=document_id, state=State.READY).exists()


def retry(document_id: int) -> None:
    """Put a document that was set aside back into the queue, with all its tries."""
    with transaction.atomic():
        document = InvoiceDocument.objects.select_for_update().get(pk=document_id)
        if document.state != State.PARKED:
            raise IllegalTransition(
                subject="the document", state=document.get_state_display(), target="waiting"
            )
        InvoiceDocument.objects.filter(pk=document_id).update(
            state=State.WAITING, attempts=0, lease_until=None, reason=""
        )


def preview(snapshot: Mapping[str, Any]) -> bytes:
    """The PDF a snapshot would become, drawn the same way and kept nowhere. Raises NotDrawn."""
    try:
        return draw_apart(snapshot)
    except RenderFailed as error:
        raise NotDrawn(str(error)) from error


def open_document(document_id: int) -> bytes:
    """The stored file, checked against the hash taken when it was made.

    Raises MissingData while it is not made yet, DocumentDamaged when it is not what it was.
    """
    document = InvoiceDocument.objects.get(pk=document_id)
    if document.state != State.READY:
        raise MissingData(f"the PDF is not made yet: {document.get_state_display()}")
    try:
        with storages["documents"].open(document.storage_name) as file:
            content: bytes = file.read()
    except OSError as error:
        raise DocumentDamaged(f"document {document_id} cannot be read: {error}") from error
    if hashlib.sha256(content).hexdigest() != document.sha256:
        raise DocumentDamaged(f"document {document_id} is not the file that was made")
    return content


# --- the queue -----------------------------------------------------------------------------------


def _is_free(at: datetime) -> Q:
    return Q(lease_until__isnull=True) | Q(lease_until__lte=at)


def _lease(rows: Sequence[InvoiceDocument], at: datetime) -> list[Claim]:
    """Lease what may still be tried; the rows are locked."""
    spent = [row for row in rows if row.attempts >= ATTEMPTS_MAX]
    for row in spent:
        _set_aside(
            InvoiceDocument.objects.filter(pk=row.pk),
            row.reason or "the renderer never answered",
        )
    until = at + LEASE
    claims = [Claim(row.pk, row.invoice_id, until) for row in rows if row.attempts < ATTEMPTS_MAX]
    InvoiceDocument.objects.filter(pk__in=[item.document_id for item in claims]).update(
        lease_until=until
    )
    return claims


def _work(claims: Sequence[Claim], at: datetime) -> None:
    """Draw and store claimed documents, one by one, in a child process."""
    began = time.monotonic()
    snapshots = dict(
        Invoice.objects.filter(pk__in={item.invoice_id for item in claims}).values_list(
            "pk", "snapshot"
        )
    )
    waiting = list(reversed(claims))
    try:
        with Child() as child:
            while waiting and time.monotonic() - began < TURN_SECONDS:
                item = waiting.pop()
                now = at + timedelta(seconds=time.monotonic() - began)
                if not _begin(item):
                    continue
                if not _make(child, item, snapshots.get(item.invoice_id), now):
                    return
    finally:
        # Not begun: free at once for whoever comes next.
        for item in waiting:
            _held(item).update(lease_until=None)


def _begin(item: Claim) -> bool:
    """Count the try before it starts, so that one that kills us is counted too."""
    return bool(_held(item).update(attempts=F("attempts") + 1))


def _make(child: Child, item: Claim, snapshot: Mapping[str, Any] | None, now: datetime) -> bool:
    """Draw, store and record one document; False when the storage takes nothing more."""
    try:
        if snapshot is None:
            raise RenderFailed("the invoice has no snapshot")
        content = child.draw(snapshot)
    except RenderFailed as error:
        _failed(item, str(error), now)
        return True
    failpoint("pdf.after_render")
    digest = hashlib.sha256(content).hexdigest()
    try:
        name = _store(content, digest)
    except OSError as error:
        # Not the document's fault: the try does not count, and the others would fare no better.
        reason = f"the file could not be stored: {error.strerror or error}"
        log.error("document %s: %s", item.document_id, reason)
        _held(item).update(
            attempts=F("attempts") - 1, lease_until=now + _PAUSE_STORAGE, reason=reason[:300]
        )
        return False
    _held(item).update(
        state=State.READY,
        storage_name=name,
        sha256=digest,
        size=len(content),
        template_version=TEMPLATE_VERSION,
        rendered_at=now,
        lease_until=None,
        reason="",
    )
    return True


def _failed(item: Claim, reason: str, now: datetime) -> None:
    log.warning("document %s was not drawn: %s", item.document_id, reason)
    with transaction.atomic():
        document = _held(item).select_for_update().first()
        if document is None:
            return
        if document.attempts >= ATTEMPTS_MAX:
            _set_aside(_held(item), reason)
            return
        _held(item).update(reason=reason[:300], lease_until=now + document.attempts * _PAUSE)


def _set_aside(rows: Any, reason: str) -> None:
    said = f"Not drawn in {ATTEMPTS_MAX} tries: {reason}."
    rows.update(state=State.PARKED, lease_until=None, reason=said[:300])


def _held(item: Claim) -> Any:
    """The row, as long as the lease is still ours."""
    return InvoiceDocument.objects.filter(
        pk=item.document_id, state=State.WAITING, lease_until=item.lease_until
    )


# --- the files -----------------------------------------------------------------------------------


def _store(content: bytes, digest: str) -> str:
    """Put the file in place, whole or not at all; its name says nothing of whose it is."""
    storage = storages["documents"]
    name = f"{digest[:2]}/{digest[2:]}.pdf"
    try:
        path = Path(storage.path(name))
    except NotImplementedError:  # not on a disk of ours: the storage itself writes all or nothing
        return name if storage.exists(name) else storage.save(name, ContentFile(content))
    _make_folder(path.parent, storage)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=".", suffix=".part")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fchmod(file.fileno(), getattr(storage, "file_permissions_mode", None) or 0o640)
            os.fsync(file.fileno())
        failpoint("pdf.after_write")
        Path(temporary).replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            Path(temporary).unlink()
        raise
    _sync_folder(path.parent)
    failpoint("pdf.after_rename")
    return name


def _make_folder(folder: Path, storage: Storage) -> None:
    mode = getattr(storage, "directory_permissions_mode", None) or 0o750
    if folder.is_dir():
        return
    root = Path(storage.path(""))
    root.mkdir(mode=mode, parents=True, exist_ok=True)
    folder.mkdir(mode=mode, exist_ok=True)
    _sync_folder(root)


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
