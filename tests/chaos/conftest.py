"""Real worker processes on the test's database; only their own pids are ever signalled."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.conftest import BASE_DIR

Spawn = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def spawn(
    transactional_db: None, site_environment: Callable[..., dict[str, str]]
) -> Iterator[Spawn]:
    """Starts a worker: `spawn(run_id, chunk, FAILPOINT=...)`. What runs on is killed at the end."""
    started: list[subprocess.Popen[str]] = []

    def start(run_id: int, chunk: int = 1000, **extra: str) -> "subprocess.Popen[str]":
        settings: dict[str, Any] = {"RUN_LEASE_SECONDS": "2", "LOG_LEVEL": "ERROR"}
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.chaos.worker", str(run_id), str(chunk)],
            cwd=BASE_DIR,
            env=site_environment(FAILPOINTS="1", **settings | extra),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        if process.poll() is None:
            process.kill()
        process.communicate()
