"""Two families. A BillingError is a refusal an operator can act on: the admin shows it.
An InvariantBroken is a bug: nobody catches it, the transaction rolls back, someone is paged."""

from decimal import Decimal


class BillingError(Exception):
    """The request was understood and refused; nothing was written."""

    code = "refused"


class InsufficientCredit(BillingError):
    """A blocking plan has fewer credits than the action needs."""

    code = "insufficient_credit"

    def __init__(self, *, customer_id: int, needed: Decimal, available: Decimal) -> None:
        self.customer_id, self.needed, self.available = customer_id, needed, available
        super().__init__(f"needs {needed} credits, only {available} are available")


class IllegalTransition(BillingError):
    """The subject's state does not allow what was asked."""

    code = "illegal_transition"

    def __init__(self, *, subject: str, state: str, target: str) -> None:
        self.subject, self.state, self.target = subject, state, target
        super().__init__(f"{subject} is {state} and cannot become {target}")


class IdempotencyConflict(BillingError):
    """The key was used before, for a different request."""

    code = "idempotency_conflict"


class MissingData(BillingError):
    """A document cannot be issued or an import row read: names what is missing and where."""

    code = "missing_data"


class NotPermitted(BillingError):
    """The person may not do this, or may not decide on their own request."""

    code = "not_permitted"


class InvariantBroken(Exception):
    """The books would no longer balance. Never caught."""
