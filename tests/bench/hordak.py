"""django-hordak's transfer, for comparison: run as a process with settings of its own.

Called by the ledger benchmark: `python -m tests.bench.hordak serve`; it then reads one line for
each measurement (clients, seconds, hot, synchronous commit) and answers with transfers per second.
"""

import json
import os
import random
import sys
import time

ACCOUNTS = 200


def main() -> None:
    """Migrate, make the accounts, then measure as asked."""
    import django
    from django.conf import settings

    settings.configure(
        INSTALLED_APPS=[
            "django.contrib.contenttypes",
            "django.contrib.auth",
            "mptt",
            "hordak",
        ],
        DATABASES={"default": json.loads(os.environ["HORDAK_DATABASE"])},
        DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
        SECRET_KEY="only for a benchmark",
        USE_TZ=True,
        CURRENCIES=["EUR"],
        DEFAULT_CURRENCY="EUR",
        HORDAK_CURRENCIES=["EUR"],
    )
    django.setup()
    from django.core.management import call_command

    call_command("migrate", verbosity=0)
    from hordak.models import Account, AccountType
    from moneyed import Money

    from tests.bench.common import in_processes

    pot = Account.objects.create(name="Used", code="0", type=AccountType.income, currencies=["EUR"])
    accounts = [
        Account.objects.create(
            name=f"C{n}", code=str(n), type=AccountType.liability, currencies=["EUR"]
        )
        for n in range(1, ACCOUNTS + 1)
    ]
    say("ready")

    def work(client: int, seconds: float) -> int:
        from django.db import connection

        with connection.cursor() as cursor:
            cursor.execute("SET synchronous_commit = %s", ["on" if durable else "off"])
        choose = random.Random(client)
        done, until = 0, time.perf_counter() + seconds
        while time.perf_counter() < until:
            source = accounts[0] if hot else choose.choice(accounts)
            source.transfer_to(pot, Money(3, "EUR"))
            done += 1
        return done

    for asked in sys.stdin:
        clients, seconds, hot, durable = json.loads(asked)
        done, took = in_processes(clients, work, seconds)
        say(done / took)


def say(value: object) -> None:
    """Answer on a line."""
    sys.stdout.write(json.dumps(value) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
