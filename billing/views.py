"""Documents leave the house here and nowhere else: asked for by an opaque id, permission checked.

A document that does not exist and one the reader may not have answer alike. Every fetch leaves a
row. The download is an attachment in a sandbox; the preview answers inline for a frame of the
site itself.
"""

import hashlib
import logging
import re
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from django.contrib.auth.decorators import login_required
from django.core.files.storage import storages
from django.http import Http404, HttpRequest, HttpResponse
from django.utils.cache import get_conditional_response
from django.utils.http import http_date
from django.views.decorators.clickjacking import xframe_options_sameorigin
from django.views.decorators.http import require_safe

from accounts import access
from billing.models import DocumentAccess, InvoiceDocument

log = logging.getLogger(__name__)

HEADER: Final = "Content-Security-Policy"
_RANGE: Final = re.compile(r"^bytes=(?P<first>[0-9]{0,15})-(?P<last>[0-9]{0,15})$")
_DOWNLOAD_POLICY: Final = "default-src 'none'; sandbox; frame-ancestors 'none'"
_PREVIEW_POLICY: Final = "frame-ancestors 'self'"


@dataclass(frozen=True, slots=True)
class Part:
    """The bytes asked for; `last` is included."""

    first: int
    last: int


@require_safe
@login_required
def download(request: HttpRequest, public_id: UUID) -> HttpResponse:
    """The PDF of an invoice as an attachment; whole or a range, 304 when it is known already."""
    response = _answer(request, public_id, action="download")
    response[HEADER] = _DOWNLOAD_POLICY
    return response


@require_safe
@login_required
@xframe_options_sameorigin
def preview(request: HttpRequest, public_id: UUID) -> HttpResponse:
    """The same bytes inline, for the frame beside the form."""
    response = _answer(request, public_id, action="preview")
    response[HEADER] = _PREVIEW_POLICY
    return response


def _answer(request: HttpRequest, public_id: UUID, *, action: str) -> HttpResponse:
    document = _permitted(request, public_id)
    etag = f'"{document.sha256}"'
    response = HttpResponse(content_type="application/pdf")
    response["ETag"] = etag
    response["Cache-Control"] = "private, no-store"
    response["Accept-Ranges"] = "bytes"
    if document.rendered_at is not None:
        response["Last-Modified"] = http_date(document.rendered_at.timestamp())
    known = get_conditional_response(request, etag=etag, response=response)
    if known is not None and known.status_code == 304:
        return _with_name(response_of(known), document, action)
    content = _content(document)
    part = _range(request, etag, len(content))
    if isinstance(part, Part):
        response.status_code = 206
        response["Content-Range"] = f"bytes {part.first}-{part.last}/{len(content)}"
        response.content = content[part.first : part.last + 1]
    elif part == "beyond":
        response.status_code = 416
        response["Content-Range"] = f"bytes */{len(content)}"
        return response
    else:
        response.content = content
    response["Content-Length"] = str(len(response.content))
    if request.method == "GET" and not (isinstance(part, Part) and part.first):
        DocumentAccess.objects.create(
            document=document,
            customer_id=document.customer_id,
            user_id=int(request.user.pk or 0),
            action=action,
            request_id=getattr(request, "request_id", "")[:40],
        )
    return _with_name(response, document, action)


def response_of(known: HttpResponse) -> HttpResponse:
    """A conditional answer keeps the privacy headers of the whole one."""
    known["Cache-Control"] = "private, no-store"
    return known


def _permitted(request: HttpRequest, public_id: UUID) -> InvoiceDocument:
    document = (
        InvoiceDocument.objects.filter(
            invoice__public_id=public_id, kind="pdf", state=InvoiceDocument.State.READY
        )
        .select_related("invoice")
        .first()
    )
    if document is None or not access.may(request.user, "download_documents", document.customer_id):
        raise Http404
    return document


def _content(document: InvoiceDocument) -> bytes:
    """The file, proven to be the one that was made."""
    try:
        with storages["documents"].open(document.storage_name) as file:
            content = bytes(file.read())
    except OSError as error:
        log.exception("document %s cannot be read", document.pk)
        raise Http404 from error
    if hashlib.sha256(content).hexdigest() != document.sha256:
        log.error("document %s is not the file that was made", document.pk)
        raise Http404
    return content


def _with_name(response: HttpResponse, document: InvoiceDocument, action: str) -> HttpResponse:
    """Named by the number only, in letters every system knows."""
    number = re.sub(r"[^A-Za-z0-9._-]+", "-", document.invoice.number or "document")
    kind = "attachment" if action == "download" else "inline"
    response["Content-Disposition"] = f'{kind}; filename="{number}.pdf"'
    return response


def _range(request: HttpRequest, etag: str, size: int) -> Part | str | None:
    """The one range asked for, "beyond" when it lies outside, None for the whole file."""
    match = _RANGE.match(request.headers.get("Range", ""))
    if match is None or request.headers.get("If-Range", etag) != etag:
        return None
    first, last = match["first"], match["last"]
    if not first and not last:
        return None
    if not first:  # the last n bytes
        wanted = min(int(last), size)
        return Part(size - wanted, size - 1) if wanted else "beyond"
    start = int(first)
    end = min(int(last), size - 1) if last else size - 1
    if start >= size:
        return "beyond"
    return Part(start, end) if start <= end else None
