"""Restart a whole service call when the database asks for it, and only then."""

import functools
import random
import time
from collections.abc import Callable
from typing import ParamSpec, TypeVar

from django.db import OperationalError, connection

P = ParamSpec("P")
R = TypeVar("R")

TRIES = 3
RESTARTABLE = frozenset({"40001", "40P01"})  # serialization failure, deadlock
_JITTER = random.SystemRandom()


def sqlstate(error: BaseException) -> str:
    """The SQLSTATE behind a Django database error, or an empty string."""
    return getattr(error.__cause__, "sqlstate", None) or ""


def retried(service: Callable[P, R]) -> Callable[P, R]:
    """Let a service start over after a deadlock or a serialization failure, three tries in all.

    Only the outermost call restarts: inside a transaction the caller's work would be lost.
    """

    @functools.wraps(service)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        for tries_left in range(TRIES - 1, 0, -1):
            if connection.in_atomic_block:
                break
            try:
                return service(*args, **kwargs)
            except OperationalError as error:
                if sqlstate(error) not in RESTARTABLE:
                    raise
                # Two that met once should not meet again: wait a little, and not the same.
                time.sleep(_JITTER.uniform(0.005, 0.05) * (TRIES - tries_left))
        return service(*args, **kwargs)

    return call
