"""How fast credits are spent: the door through Django against the same door from pgbench.

The reference is the raw limit of one round trip: pgbench, prepared, calling the door that does the
whole debit (replay check, lock, waterfall over grants, entry, parts, balance, key). Beside it: the
door as services call it, the set-based batch, the debit as eight ORM queries, and a transfer of
django-hordak where that is installed (config/requirements/bench.lock).
"""

import argparse
import importlib.util
import json
import os
import random
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

from tests.bench.common import Contender, compare, in_processes, line, machine, temporary_site

AT = datetime(2026, 2, 1, tzinfo=UTC)
AMOUNT = Decimal(3)
CUSTOMERS = 1000
BATCH = 1000
SPEND = """\\set customer {customer}
\\set key random(1, 9000000000000000)
SELECT * FROM ledger_spend(:customer, :key::text, 3, '2026-02-01 00:00+00', :meter, NULL, NULL,
  'block', 0, NULL, 'bench', 'bench', 'bench');
"""


def main(argv: list[str]) -> int:
    """Measure; exit 1 when the books do not add up afterwards."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench ledger")
    parser.add_argument("--full", action="store_true", help="longer turns and the growth curve")
    parser.add_argument("--rounds", type=int)
    parser.add_argument("--seconds", type=float)
    options = parser.parse_args(argv)
    rounds = options.rounds or (7 if options.full else 3)
    seconds = options.seconds or (5 if options.full else 1)
    machine("ledger")
    with temporary_site() as cluster:
        bench = Bench(cluster)
        bench.seed()
        with ExitStack() as stack:
            hordak = stack.enter_context(hordak_transfers(cluster))
            for durable in (True, False):
                bench.measure(durable, hordak, rounds=rounds, seconds=seconds)
            if options.full:
                bench.growth(rounds=rounds, seconds=seconds)
        faults = bench.faults()
    line("ledger", check="sums, parts, numbering and count of entries", faults=faults)
    return 1 if faults else 0


class Bench:
    """The site, its customers, and how many debits were made."""

    def __init__(self, cluster: Any) -> None:
        self.cluster = cluster
        self.customers: list[int] = []
        self.meter = 0
        self.debits = 0
        self.naive_debits = 0

    def seed(self) -> None:
        """Customers with five grants each: four small ones to fall through, one that lasts."""
        from billing.models import Customer, LegalEntity, Meter
        from tests.bench import naive

        entity = LegalEntity.objects.create(
            code="BENCH", name="Bench", legal_name="Bench", country="IE", currency="EUR"
        )
        made = Customer.objects.bulk_create(
            Customer(legal_entity=entity, code=f"b{n}", name=f"B{n}", country="IE", currency="EUR")
            for n in range(CUSTOMERS)
        )
        self.customers = [customer.pk for customer in made]
        self.meter = Meter.objects.create(code="image", name="Images", unit="image").pk
        self.grant("seed", 300, 300, 300, 300, 10**9)
        with self.owner() as owner:
            owner.execute(naive.DDL)
            owner.execute(
                "GRANT SELECT, INSERT, UPDATE ON naive_account, naive_lot, naive_movement,"
                " naive_share TO keter_app"
            )
            owner.execute("INSERT INTO naive_account SELECT id, 4e9 FROM billing_customer")
            owner.execute(
                "INSERT INTO naive_lot (account_id, priority, remaining)"
                " SELECT c.id, 100, CASE WHEN n < 5 THEN 300 ELSE 1e9 END"
                " FROM billing_customer c, generate_series(1, 5) n ORDER BY n"
            )
            owner.execute("VACUUM ANALYZE")

    def grant(self, key: str, *amounts: int) -> None:
        """Give every customer these lots."""
        from billing import ledger

        ledger.grant_many(
            [
                ledger.NewGrant(customer, f"{key}{n}", "promotional", Decimal(amount), AT)
                for n, amount in enumerate(amounts)
                for customer in self.customers
            ],
            actor="bench",
            reason="bench",
            request_id="bench",
        )

    @contextmanager
    def owner(self) -> Iterator[Any]:
        """The owner's connection to the site's database."""
        from config.embedded.postgres import DATABASE, OWNER

        with self.cluster.connect(OWNER, DATABASE) as connection:
            yield connection

    def measure(
        self,
        durable: bool,
        hordak: Callable[[int, bool, bool], Callable[[float], float]] | None,
        *,
        rounds: int,
        seconds: float,
    ) -> None:
        """Every client count and both kinds of load; the slow ways with one client only."""
        for hot in (False, True):
            for clients in (1, 4, 8):
                contenders = [
                    Contender("raw door (pgbench)", self.raw(clients, hot, durable)),
                    Contender("door through Django", self.door(clients, hot, durable)),
                ]
                if hordak is not None and (clients == 1 or not hot):
                    contenders.append(
                        Contender("django-hordak transfer", hordak(clients, hot, durable))
                    )
                if clients == 1 and not hot:
                    contenders += [
                        Contender(f"spend_many of {BATCH}", self.batch(durable)),
                        Contender("naive ORM", self.naive(durable)),
                    ]
                compare(
                    "ledger",
                    contenders,
                    rounds=rounds,
                    seconds=seconds,
                    commit="durable" if durable else "async",
                    load="hot" if hot else "uniform",
                    clients=clients,
                )

    def raw(self, clients: int, hot: bool, durable: bool) -> Callable[[float], float]:
        """Debits a second of pgbench with the same door."""
        first, last = self.customers[0], self.customers[0 if hot else -1]

        def run(seconds: float) -> float:
            with tempfile.NamedTemporaryFile("w", suffix=".sql") as script:
                script.write(SPEND.format(customer=f"random({first}, {last})"))
                script.flush()
                done = subprocess.run(
                    [
                        pgbench(),
                        "--no-vacuum",
                        "--protocol=prepared",
                        f"--client={clients}",
                        f"--jobs={min(clients, os.cpu_count() or 1)}",
                        f"--time={max(int(seconds), 1)}",
                        f"--define=meter={self.meter}",
                        f"--file={script.name}",
                    ],
                    env=os.environ | self.libpq(durable),
                    check=True,
                    capture_output=True,
                    text=True,
                )
            self.debits += int(found(r"transactions actually processed: (\d+)", done.stdout))
            return float(found(r"tps = ([\d.]+)", done.stdout))

        return run

    def libpq(self, durable: bool) -> dict[str, str]:
        """Environment that makes libpq the application role."""
        from config.embedded.postgres import APPLICATION, DATABASE

        return {
            "PGHOST": str(self.cluster.paths.run),
            "PGUSER": APPLICATION,
            "PGDATABASE": DATABASE,
            "PGPASSFILE": str(self.cluster.paths.passfile(APPLICATION)),
            "PGOPTIONS": f"-c synchronous_commit={'on' if durable else 'off'}",
        }

    def door(self, clients: int, hot: bool, durable: bool) -> Callable[[float], float]:
        """Debits a second of `ledger.spend`, a process for each client."""
        from billing import ledger

        def work(client: int, seconds: float) -> int:
            commit(durable)
            choose = random.Random()
            prefix = f"{client}-{time.time_ns()}-"
            done, until = 0, time.perf_counter() + seconds
            while time.perf_counter() < until:
                ledger.spend(
                    self.customers[0] if hot else choose.choice(self.customers),
                    key=f"{prefix}{done}",
                    amount=AMOUNT,
                    at=AT,
                    meter_id=self.meter,
                    actor="bench",
                    reason="bench",
                    request_id="bench",
                )
                done += 1
            return done

        return self.counted(clients, work)

    def batch(self, durable: bool) -> Callable[[float], float]:
        """Debits a second of `ledger.spend_many`, one client."""
        from billing import ledger

        def work(client: int, seconds: float) -> int:
            commit(durable)
            choose = random.Random()
            prefix = f"many-{time.time_ns()}-"
            done, until = 0, time.perf_counter() + seconds
            while time.perf_counter() < until:
                uses = [
                    ledger.Use(
                        choose.choice(self.customers),
                        f"{prefix}{done + n}",
                        AMOUNT,
                        AT,
                        meter_id=self.meter,
                    )
                    for n in range(BATCH)
                ]
                outcomes = ledger.spend_many(
                    uses, actor="bench", reason="bench", request_id="bench"
                )
                done += sum(spent.covered == AMOUNT for spent in outcomes)
            return done

        return self.counted(1, work)

    def naive(self, durable: bool) -> Callable[[float], float]:
        """Debits a second of eight ORM queries, one client."""
        from tests.bench import naive

        def work(client: int, seconds: float) -> int:
            commit(durable)
            choose = random.Random()
            prefix = f"naive-{time.time_ns()}-"
            done, until = 0, time.perf_counter() + seconds
            while time.perf_counter() < until:
                naive.spend(
                    choose.choice(self.customers), key=f"{prefix}{done}", amount=AMOUNT, at=AT
                )
                done += 1
            return done

        def run(seconds: float) -> float:
            done, took = in_processes(1, work, seconds)
            return done / took

        return run

    def counted(self, clients: int, work: Callable[[int, float], int]) -> Callable[[float], float]:
        """As a rate, with the debits remembered for the check."""

        def run(seconds: float) -> float:
            done, took = in_processes(clients, work, seconds)
            self.debits += done
            return done / took

        return run

    def growth(self, *, rounds: int, seconds: float) -> None:
        """The same debit at 100,000, a million and ten million entries."""
        rates: dict[str, float] = {}
        for entries in (100_000, 1_000_000, 10_000_000):
            self.grow(entries)
            turns = [self.raw(1, hot=False, durable=False)(seconds) for _ in range(rounds)]
            rates[str(entries)] = round(sorted(turns)[rounds // 2], 1)
            line("growth", entries=entries, per_second=rates[str(entries)], commit="async")

    def grow(self, entries: int) -> None:
        """Add batches of use until the ledger has that many entries."""
        from billing import ledger
        from billing.models import LedgerEntry

        missing = entries - LedgerEntry.objects.count()
        while missing > 0:
            count = min(missing, 20_000)
            stamp = time.time_ns()
            ledger.spend_many(
                [
                    ledger.Use(
                        self.customers[n % CUSTOMERS],
                        f"grow-{stamp}-{n}",
                        Decimal("0.01"),
                        AT,
                        meter_id=self.meter,
                    )
                    for n in range(count)
                ],
                actor="bench",
                reason="bench",
                request_id="bench",
            )
            self.debits += count
            missing -= count
        with self.owner() as owner:
            owner.execute("VACUUM ANALYZE")

    def faults(self) -> list[str]:
        """What does not add up."""
        checks = {
            "balance is not the sum of its grants": """
                SELECT b.customer_id FROM billing_creditbalance b JOIN billing_creditgrant g
                USING (customer_id) GROUP BY b.customer_id, b.available, b.held
                HAVING b.available + b.held <> sum(g.remaining)""",
            "grant is not the sum of its parts": """
                SELECT g.id FROM billing_creditgrant g LEFT JOIN billing_ledgerpart p
                ON p.grant_id = g.id LEFT JOIN billing_ledgerentry e
                ON e.id = p.entry_id AND e.kind = 'spend' GROUP BY g.id, g.amount, g.remaining
                HAVING g.remaining <> g.amount - coalesce(sum(p.amount)
                  FILTER (WHERE e.kind = 'spend'), 0)""",
            "entry is not the sum of its parts": """
                SELECT e.id FROM billing_ledgerentry e JOIN billing_ledgerpart p
                ON p.entry_id = e.id GROUP BY e.id, e.amount HAVING e.amount <> sum(p.amount)""",
            "numbering has a gap": """
                SELECT customer_id FROM billing_ledgerentry GROUP BY customer_id
                HAVING count(*) <> max(seq) OR min(seq) <> 1""",
            "key has no entry": "SELECT key FROM billing_ledgerkey WHERE entry_id IS NULL",
        }
        with self.owner() as owner:
            faults = [name for name, sql in checks.items() if owner.execute(sql).fetchone()]
            (spends,) = owner.execute(
                "SELECT count(*) FROM billing_ledgerentry WHERE kind = 'spend'"
            ).fetchone()
        if spends != self.debits:
            faults.append(f"{self.debits} debits were made, the ledger has {spends}")
        return faults


@contextmanager
def hordak_transfers(cluster: Any) -> Iterator[Any]:
    """Ask a process of its own for django-hordak's transfers a second; None when not installed."""
    if importlib.util.find_spec("hordak") is None:
        line("ledger", way="django-hordak transfer", result="not run: django-hordak is missing")
        yield None
        return
    from config.embedded.postgres import SUPERUSER

    with cluster.connect(SUPERUSER, "postgres") as connection:
        connection.execute("CREATE DATABASE hordak")
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.bench.hordak"],
        env=os.environ | {"HORDAK_DATABASE": json.dumps(cluster.database(SUPERUSER, "hordak"))},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    to, from_ = process.stdin, process.stdout
    if json.loads(from_.readline() or "null") != "ready":
        raise RuntimeError("the django-hordak process did not start")

    def transfers(clients: int, hot: bool, durable: bool) -> Callable[[float], float]:
        def run(seconds: float) -> float:
            to.write(json.dumps([clients, seconds, hot, durable]) + "\n")
            to.flush()
            return float(json.loads(from_.readline()))

        return run

    try:
        yield transfers
    finally:
        to.close()
        process.wait(timeout=30)


def commit(durable: bool) -> None:
    """Choose what a commit waits for, in this connection."""
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute("SET synchronous_commit = %s", ["on" if durable else "off"])


def pgbench() -> str:
    """The bundled pgbench."""
    from config.embedded.postgres import binaries

    return str(Path(binaries()) / "pgbench")


def found(pattern: str, text: str) -> str:
    """The one group of a pattern that must be there."""
    match = re.search(pattern, text)
    if match is None:
        raise RuntimeError(f"pgbench said:\n{text}")
    return match[1]
