"""The form at the door."""

from typing import Any

from django.contrib.auth.forms import AuthenticationForm
from django.core.exceptions import ValidationError

from accounts import access


class LoginForm(AuthenticationForm):
    """User name or e-mail address, and password. Staff and customers' people use the same door."""

    error_messages = {
        "invalid_login": (
            "Name and password do not fit together. Both are case-sensitive; after a few "
            "failures the door stays shut for a while."
        ),
        "inactive": "Name and password do not fit together.",
        "locked": "Too many attempts. Please wait fifteen minutes, or ask for help.",
        "no_role": "You have no role here at present. Please ask whoever invited you.",
    }

    def confirm_login_allowed(self, user: Any) -> None:
        """Let in whoever holds a role now."""
        super().confirm_login_allowed(user)
        if not access.may_enter(user):
            raise ValidationError(self.error_messages["no_role"], code="no_role")

    def get_invalid_login_error(self) -> ValidationError:
        """Why not: without saying which of the two was wrong."""
        if getattr(self.request, "login_is_locked", False):
            return ValidationError(self.error_messages["locked"], code="locked")
        return ValidationError(self.error_messages["invalid_login"], code="invalid_login")
