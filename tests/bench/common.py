"""What benchmarks share: a site of their own, fair turns, honest lines."""

import contextlib
import json
import multiprocessing
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

BASE_DIR = Path(__file__).resolve().parents[2]


@contextlib.contextmanager
def temporary_site(**settings: str) -> Iterator[Any]:
    """A durable, migrated embedded PostgreSQL; Django is set up as its application role.

    Yields the cluster. Everything is removed at the end.
    """
    state = Path(tempfile.mkdtemp(prefix="keter-bench-"))
    for name in ("DATABASE_URL", "DATABASE_OWNER_URL", "SECRET_KEY", "DEBUG"):
        os.environ.pop(name, None)
    os.environ |= {
        "DJANGO_SETTINGS_MODULE": "config.settings",
        "KETER_ENV_FILE": os.devnull,
        "KETER_STATE_DIR": str(state),
        "CELERY_BROKER_URL": "memory://",
        "EMAIL_URL": "memorymail://",
        "SECURE": "0",
    }
    from config.embedded.locks import services_lock
    from config.embedded.postgres import Cluster

    cluster = Cluster(state, settings={"max_connections": "60"} | settings)
    lock = services_lock(cluster.paths)
    lock.acquire(wait=True)
    try:
        cluster.start()
        subprocess.run(
            [sys.executable, BASE_DIR / "manage.py", "migrate", "--verbosity=0", "--skip-checks"],
            check=True,
            stdin=subprocess.DEVNULL,
        )
        import django

        django.setup()
        yield cluster
    finally:
        cluster.stop()
        lock.release()
        shutil.rmtree(cluster.paths.run, ignore_errors=True)
        shutil.rmtree(state, ignore_errors=True)


@dataclass(frozen=True, slots=True)
class Contender:
    """A way to do the work. `run(seconds)` returns how much it did per second."""

    name: str
    run: Callable[[float], float]


def compare(
    bench: str,
    contenders: Sequence[Contender],
    *,
    rounds: int,
    seconds: float,
    **facts: Any,
) -> dict[str, float]:
    """Let the contenders take turns and print a line for each; the first is the reference.

    Every round runs all of them, in an order that rotates, and the reference a second time: how
    far the two lie apart is the noise (A/A), and a ratio inside it says nothing. Ratios are paired
    within a round. Returns each contender's median ratio.
    """
    reference, *others = contenders
    turns = [reference, *others, Contender("A/A", reference.run)]
    rates: dict[str, list[float]] = {turn.name: [] for turn in turns}
    load = os.getloadavg()
    for number in range(rounds):
        shift = number % len(turns)
        for turn in turns[shift:] + turns[:shift]:
            rates[turn.name].append(turn.run(seconds))
    noise = _ratios(rates["A/A"], rates[reference.name])
    medians = {}
    for turn in (reference, *others):
        ratios = _ratios(rates[turn.name], rates[reference.name])
        medians[turn.name] = statistics.median(ratios)
        line(
            bench,
            way=turn.name,
            per_second=round(statistics.median(rates[turn.name]), 1),
            of=reference.name,
            ratio=round(medians[turn.name], 3),
            ratio_range=[round(min(ratios), 3), round(max(ratios), 3)],
            aa_range=[round(min(noise), 3), round(max(noise), 3)],
            rounds=rounds,
            seconds=seconds,
            load_before=round(load[0], 2),
            load_after=round(os.getloadavg()[0], 2),
            **facts,
        )
    return medians


def in_processes(
    clients: int, work: Callable[[int, float], int], seconds: float
) -> tuple[int, float]:
    """Run `work(client, seconds)` in that many forked processes at once.

    Returns what they did together and how long the slowest took. Each opens its own connection.
    """
    from django.db import connections

    connections.close_all()
    context = multiprocessing.get_context("fork")
    results: Any = context.SimpleQueue()
    barrier = context.Barrier(clients)

    def client(number: int) -> None:
        from django.db import connection

        connection.ensure_connection()
        barrier.wait()
        began = time.perf_counter()
        done = work(number, seconds)
        results.put((done, time.perf_counter() - began))
        connection.close()

    processes = [context.Process(target=client, args=(n,)) for n in range(clients)]
    for process in processes:
        process.start()
    outcomes = [results.get() for _ in processes]
    for process in processes:
        process.join()
    return sum(done for done, _ in outcomes), max(took for _, took in outcomes)


def machine(bench: str) -> None:
    """Print what the figures were measured on."""
    model = next(
        (
            text.partition(":")[2].strip()
            for text in Path("/proc/cpuinfo").read_text().splitlines()
            if text.startswith("model name")
        ),
        platform.processor(),
    )
    line(
        bench,
        machine=model,
        cores=os.cpu_count(),
        python=platform.python_version(),
        load=[round(value, 2) for value in os.getloadavg()],
    )


def line(bench: str, **facts: Any) -> None:
    """One JSON line."""
    sys.stdout.write(json.dumps({"bench": bench} | facts) + "\n")
    sys.stdout.flush()


def _ratios(rates: Sequence[float], references: Sequence[float]) -> list[float]:
    return [rate / reference for rate, reference in zip(rates, references, strict=True)]
