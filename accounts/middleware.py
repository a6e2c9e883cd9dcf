"""What every request passes: an id, a strict content policy, and sessions that end."""

import time
from collections.abc import Callable
from typing import Final
from uuid import uuid4

from django.conf import settings
from django.contrib.auth import logout
from django.http import HttpRequest, HttpResponse

from accounts import access

Next = Callable[[HttpRequest], HttpResponse]

CONTENT_SECURITY_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "font-src 'self'; connect-src 'self'; form-action 'self'; base-uri 'none'; "
    "frame-ancestors 'none'; object-src 'none'; frame-src 'self'"
)
SEEN_EVERY: Final = 60  # seconds; a session is not written for every click
_LIMITS: Final = "limits"


class RequestIdMiddleware:
    """Gives the request an id, and remembers permissions for its length only."""

    def __init__(self, get_response: Next) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        """Answer, with the id in a header."""
        request.request_id = uuid4().hex  # type: ignore[attr-defined]
        with access.one_request():
            response = self.get_response(request)
        response.headers["X-Request-ID"] = request.request_id  # type: ignore[attr-defined]
        return response


class ContentSecurityPolicyMiddleware:
    """Scripts, styles and frames of this site only; a view may set a policy of its own."""

    def __init__(self, get_response: Next) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        """Answer, with the policy unless the view set one."""
        response = self.get_response(request)
        response.headers.setdefault("Content-Security-Policy", CONTENT_SECURITY_POLICY)
        return response


class SessionLimitsMiddleware:
    """Ends a session that was idle too long or has lasted too long; keeps pages out of caches."""

    def __init__(self, get_response: Next) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        """Answer, or first end the session."""
        signed_in = request.user.is_authenticated
        if signed_in:
            self._limit(request, time.time())
        response = self.get_response(request)
        if signed_in or request.user.is_authenticated:
            response.headers["Cache-Control"] = "private, no-store"
        return response

    def _limit(self, request: HttpRequest, now: float) -> None:
        key = request.session.session_key
        limits = request.session.get(_LIMITS)
        # A login gives the session another key, and a new beginning.
        if limits is None or limits["key"] != key:
            request.session[_LIMITS] = {"key": key, "began": now, "seen": now}
            return
        idle, absolute = session_limits()
        if now - limits["seen"] > idle or now - limits["began"] > absolute:
            logout(request)
        elif now - limits["seen"] > SEEN_EVERY:
            request.session[_LIMITS] = limits | {"seen": now}


def session_limits() -> tuple[int, int]:
    """Seconds a session may be idle, and seconds it may last."""
    idle = int(getattr(settings, "SESSION_IDLE_SECONDS", 30 * 60))
    return idle, int(getattr(settings, "SESSION_ABSOLUTE_SECONDS", 8 * 60 * 60))
