"""The house stands: imports point down the floors, and each floor keeps its promises.

Everything is read from the source; nothing is imported, started or set up. Each rule is also shown
a tree that breaks it, so a rule that sees nothing cannot pass.
"""

import ast
import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("accounts", "billing", "config")

# Floor of every module, by its longest prefix. A module without a floor is a mistake.
FLOORS = {
    "billing.rules": 0,
    "billing.errors": 1,
    "billing.transactions": 1,
    "billing.bulk": 1,
    "billing.failpoints": 1,
    "billing.templatetags.billing_format": 1,
    "accounts.models": 2,
    "accounts.access": 2,
    "accounts.roles": 2,
    "accounts.backends": 2,
    "billing.models": 3,
    "billing.ledger": 4,
    "billing.journal": 4,
    "billing.audit": 4,
    "billing.approvals": 4,
    "billing.catalog": 5,  # publishing is audited
    "billing.credits": 5,
    "billing.metering": 5,
    "billing.usage_files": 4,
    "billing.subscriptions": 6,
    "billing.snapshots": 6,
    "billing.invoicing": 7,
    "billing.payments": 8,
    "billing.einvoice": 8,
    "billing.paper": 8,
    "billing.documents": 9,
    "billing.quotes": 9,
    "billing.topups": 9,
    "billing.bank": 9,
    "billing.imports": 10,
    "billing.reconciliation": 10,
    "billing.delivery": 10,
    "billing.reports": 10,
    "billing.timeline": 10,
    "billing.doctor": 10,
    "billing.alerts": 10,
    "billing.runs": 11,
    "billing.work": 11,
    "billing.dunning": 11,
    "billing.closing": 12,
    "billing.demo": 12,
    "billing.real_month": 12,
    "billing.tasks": 13,
    "billing.admin": 14,
    "billing.api": 14,
    "billing.views": 14,
    "billing.management": 14,
    "billing.checks": 14,
    "billing.middleware": 14,
    "billing.assets": 14,
    "billing.apps": 14,
    "billing.migrations": 14,
    "billing.templatetags.back_office": 14,
    "accounts.admin": 14,
    "accounts.management": 14,
    "accounts.checks": 14,
    "accounts.middleware": 14,
    "accounts.login": 14,
    "accounts.apps": 14,
    "accounts.migrations": 14,
    "config": 15,
}
SERVICES = range(4, 13)  # floors whose siblings do not know each other
CLOCK_FLOOR = 13

TOP_LEVEL = {
    "manage.py",
    "pyproject.toml",
    "README.md",
    "LICENSE",
    "config",
    "billing",
    "accounts",
    "templates",
    "tests",
}
# Modules that round something that is not an amount, and what it is.
NOT_AMOUNTS = {
    "billing.admin.charts": "coordinates of a drawing",
    "billing.admin.run_pages": "minutes left",
    "billing.management.commands.real_month": "seconds on a stopwatch",
}
IMPURE_STDLIB = {
    "asyncio", "ctypes", "http", "importlib", "io", "logging", "multiprocessing", "os", "pathlib",
    "random", "secrets", "shutil", "signal", "socket", "sqlite3", "subprocess", "sys", "tempfile",
    "threading", "time", "urllib",
}  # fmt: skip
CLOCKS = {
    ("timezone", "now"),
    ("datetime", "now"),
    ("datetime", "utcnow"),
    ("datetime", "today"),
    ("date", "today"),
    ("time", "time"),
}
TASK_ARGUMENTS = re.compile(r"^(\w+_)?ids?$|^limit$")


@dataclass(frozen=True)
class Module:
    """One source file."""

    name: str
    path: Path
    is_package: bool

    @cached_property
    def tree(self) -> ast.Module:
        return ast.parse(self.path.read_text(encoding="utf-8"), str(self.path))

    @property
    def floor(self) -> int | None:
        parts = self.name.split(".")
        for size in range(len(parts), 0, -1):
            if (floor := FLOORS.get(".".join(parts[:size]))) is not None:
                return floor
        return None

    @property
    def unit(self) -> str:
        """What counts as one resident of a floor: a service, a package such as models, an app."""
        parts = self.name.split(".")
        sizes = range(len(parts), 0, -1)
        return next((n for s in sizes if (n := ".".join(parts[:s])) in FLOORS), self.name)

    def at(self, node: ast.AST) -> str:
        return f"{self.name}:{getattr(node, 'lineno', 0)}"

    def calls(self) -> Iterator[tuple[ast.Call, str, str]]:
        """Every call, as (node, receiver's last name or "", called name)."""
        for node in ast.walk(self.tree):
            if not isinstance(node, ast.Call):
                continue
            if isinstance(node.func, ast.Name):
                yield node, "", node.func.id
            elif isinstance(node.func, ast.Attribute):
                value = node.func.value
                receiver = value.id if isinstance(value, ast.Name) else ""
                if isinstance(value, ast.Attribute):
                    receiver = value.attr
                yield node, receiver, node.func.attr


class House:
    """The source tree under a root."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.modules = {module.name: module for module in self._read()}

    def _read(self) -> Iterator[Module]:
        for package in PACKAGES:
            for path in sorted((self.root / package).rglob("*.py")):
                parts = list(path.relative_to(self.root).with_suffix("").parts)
                is_package = parts[-1] == "__init__"
                name = ".".join(parts[:-1] if is_package else parts)
                yield Module(name, path, is_package)

    def imports(self, module: Module) -> Iterator[tuple[ast.AST, str]]:
        """Every imported module, wherever the import stands; ours as the deepest module named."""
        for node in ast.walk(module.tree):
            if isinstance(node, ast.Import):
                for alias in node.names:
                    yield node, alias.name
            elif isinstance(node, ast.ImportFrom):
                base = self._base(module, node)
                for alias in node.names:
                    deeper = f"{base}.{alias.name}"
                    yield node, deeper if deeper in self.modules or deeper in FLOORS else base
            elif (
                isinstance(node, ast.Call)
                and _called(node) in {"import_module", "__import__"}
                and node.args
                and isinstance(node.args[0], ast.Constant)
            ):
                yield node, str(node.args[0].value)

    @staticmethod
    def _base(module: Module, node: ast.ImportFrom) -> str:
        if not node.level:
            return node.module or ""
        parts = module.name.split(".")
        up = node.level - (1 if module.is_package else 0)
        parts = parts[: len(parts) - up]
        return ".".join([*parts, node.module] if node.module else parts)


def _called(node: ast.Call) -> str:
    func = node.func
    return func.id if isinstance(func, ast.Name) else getattr(func, "attr", "")


def _is_ours(name: str) -> bool:
    return name.split(".", maxsplit=1)[0] in PACKAGES


# --- the rules -----------------------------------------------------------------------------------


def every_module_has_a_floor(house: House) -> list[str]:
    empty = {"accounts", "billing", "billing.templatetags"}  # packages that only hold others
    return [
        f"{module.name} has no floor: say in FLOORS where it lives"
        for module in house.modules.values()
        if module.floor is None and module.name not in empty
    ]


def imports_point_down(house: House) -> list[str]:
    wrong = []
    for module in house.modules.values():
        if module.floor is None:
            continue
        for node, name in house.imports(module):
            if not _is_ours(name):
                continue
            target = house.modules.get(name) or Module(name, Path(), is_package=False)
            if target.floor is None:
                continue
            if target.floor > module.floor:
                wrong.append(f"{module.at(node)} (floor {module.floor}) imports {name} above it")
            elif (
                target.floor == module.floor
                and module.floor in {1, *SERVICES}
                and target.unit != module.unit
            ):
                wrong.append(f"{module.at(node)} imports its sibling {name}")
    return wrong


def rules_are_pure(house: House) -> list[str]:
    wrong = []
    for module in house.modules.values():
        if module.floor != 0:
            continue
        for node, name in house.imports(module):
            top = name.split(".")[0]
            if name.startswith("billing.rules") or name == "__future__":
                continue
            if top not in sys.stdlib_module_names or top in IMPURE_STDLIB:
                wrong.append(f"{module.at(node)} imports {name}; rules are pure arithmetic")
        wrong += [
            f"{module.at(node)} has the float {node.value}"
            for node in ast.walk(module.tree)
            if isinstance(node, ast.Constant) and isinstance(node.value, float)
        ]
    return wrong


def importing_a_rule_needs_nothing(house: House) -> list[str]:
    module = house.modules.get("billing")
    if module is None or all(_is_docstring(node) for node in module.tree.body):
        return []
    return ["billing/__init__.py must stay empty: importing billing.rules would run it"]


def _is_docstring(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


def accounts_names_only_the_customer(house: House) -> list[str]:
    """accounts may say 'billing.Customer', as text, and no other name of the floor above."""
    return [
        f"{module.at(node)} names {node.value}"
        for module in house.modules.values()
        if module.name.startswith("accounts.")
        and ".migrations" not in module.name
        and (module.floor or 0) < CLOCK_FLOOR
        for node in ast.walk(module.tree)
        if isinstance(node, ast.Constant)
        and isinstance(node.value, str)
        and re.fullmatch(r"(billing|config)\.[A-Z]\w*", node.value)
        and node.value != "billing.Customer"
    ]


def only_money_rounds(house: House) -> list[str]:
    """Comparing a number with its rounded self, to refuse it, is not rounding."""
    wrong = []
    for module in house.modules.values():
        if not module.name.startswith(("billing.", "accounts.")):
            continue
        if module.name == "billing.rules.money" or module.name in NOT_AMOUNTS:
            continue
        compared = {
            id(side)
            for node in ast.walk(module.tree)
            if isinstance(node, ast.Compare)
            for side in (node.left, *node.comparators)
        }
        for node, receiver, name in module.calls():
            is_method = isinstance(node.func, ast.Attribute) and receiver != "money"
            rounds = (
                (name == "round" and not receiver)
                or (name == "quantize" and is_method)
                or name.startswith("to_integral")
            )
            if rounds and id(node) not in compared:
                wrong.append(f"{module.at(node)} rounds with {name}(); use rules.money")
    wrong += [
        f"{path.relative_to(house.root)} rounds in SQL"
        for path in sorted((house.root / "billing").rglob("*.sql"))
        if re.search(r"(?<!<> )\bround\s*\(", path.read_text(encoding="utf-8"), re.IGNORECASE)
    ]
    return wrong


def no_floats_in_billing(house: House) -> list[str]:
    return [
        f"{module.at(node)} calls float()"
        for module in house.modules.values()
        if module.name.startswith("billing.") and module.name not in NOT_AMOUNTS
        for node, receiver, name in module.calls()
        if name == "float" and not receiver
    ]


def only_the_upper_floors_read_the_clock(house: House) -> list[str]:
    return [
        f"{module.at(node)} reads the clock; below floor {CLOCK_FLOOR} time is an argument"
        for module in house.modules.values()
        if module.floor is not None and module.floor < CLOCK_FLOOR
        for node, receiver, name in module.calls()
        if (receiver, name) in CLOCKS
        or (name in {"localdate", "localtime"} and not node.args and not node.keywords)
    ]


def nothing_is_marked_safe(house: House) -> list[str]:
    forbidden = {"mark_safe", "SafeString", "SafeText", "RawSQL"}
    wrong = [
        f"{module.at(node)} uses {name}()"
        for module in house.modules.values()
        for node, receiver, name in module.calls()
        if name in forbidden or (name in {"extra", "raw"} and receiver not in {"", "logger"})
    ]
    for folder in ("templates", "billing/templates", "accounts/templates"):
        for path in sorted((house.root / folder).rglob("*")):
            if path.is_file() and path.suffix in {".html", ".txt", ".svg", ".xml"}:
                text = path.read_text(encoding="utf-8")
                if re.search(r"\|\s*safe(seq)?\b|\{%\s*autoescape\s+off", text):
                    wrong.append(f"{path.relative_to(house.root)} switches escaping off")
    return wrong


def no_service_enqueues(house: House) -> list[str]:
    """Rows are the queue: below the tasks nobody sends a message, and nobody listens to signals."""
    sending = {"delay", "apply_async", "delay_on_commit", "apply_async_on_commit", "send_task"}
    wrong = [
        f"{module.at(node)} sends a task with {name}()"
        for module in house.modules.values()
        if module.floor is not None and module.floor < CLOCK_FLOOR
        for node, _, name in module.calls()
        if name in sending
    ]
    for module in house.modules.values():
        if not module.name.startswith(("billing.", "accounts.")):
            continue
        for node, name in house.imports(module):
            if name.startswith(("django.db.models.signals", "django.dispatch")):
                wrong.append(f"{module.at(node)} puts logic into signals")
    return wrong


def tasks_take_only_ids(house: House) -> list[str]:
    wrong = []
    for module in house.modules.values():
        if module.floor != CLOCK_FLOOR:
            continue
        for node in ast.walk(module.tree):
            if not isinstance(node, ast.FunctionDef) or not _is_task(node):
                continue
            arguments = node.args.posonlyargs + node.args.args + node.args.kwonlyargs
            wrong += [
                f"{module.at(node)} {node.name}({argument.arg}): tasks take ids, rows hold the rest"
                for argument in arguments
                if argument.arg != "self" and not TASK_ARGUMENTS.match(argument.arg)
            ]
            if node.args.vararg or node.args.kwarg:
                wrong.append(f"{module.at(node)} {node.name} takes anything")
    return wrong


def _is_task(node: ast.FunctionDef) -> bool:
    names = [d.func if isinstance(d, ast.Call) else d for d in node.decorator_list]
    return any(
        (isinstance(n, ast.Name) and n.id in {"shared_task", "task"})
        or (isinstance(n, ast.Attribute) and n.attr == "task")
        for n in names
    )


def the_top_level_is_tidy(house: House) -> list[str]:
    return [
        f"{path.name} has no place at the top level"
        for path in sorted(house.root.iterdir())
        if not path.name.startswith(".") and path.name not in TOP_LEVEL | {"__pycache__"}
    ]


def no_vendor_files(house: House) -> list[str]:
    foreign = re.compile(
        r"^(vendor|vendored|node_modules|third_party)$|\.min\.(js|css)$|\.(map|whl|jar)$"
    )
    return [
        f"{path.relative_to(house.root)} is somebody else's file"
        for folder in (*PACKAGES, "templates")
        for path in sorted((house.root / folder).rglob("*"))
        if foreign.search(path.name)
    ]


Rule = Callable[[House], list[str]]
RULES: tuple[Rule, ...] = (
    every_module_has_a_floor,
    imports_point_down,
    rules_are_pure,
    importing_a_rule_needs_nothing,
    accounts_names_only_the_customer,
    only_money_rounds,
    no_floats_in_billing,
    only_the_upper_floors_read_the_clock,
    nothing_is_marked_safe,
    no_service_enqueues,
    tasks_take_only_ids,
    the_top_level_is_tidy,
    no_vendor_files,
)


@pytest.fixture(scope="module")
def house() -> House:
    return House(ROOT)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_the_house_keeps(rule: Rule, house: House) -> None:
    wrong = rule(house)
    assert not wrong, "\n".join(wrong)


def test_the_whole_house_is_read(house: House) -> None:
    for name in ("billing.rules.money", "billing.models", "billing.errors", "config.settings"):
        assert name in house.modules


# --- each rule sees what it forbids --------------------------------------------------------------

BAD = [
    (every_module_has_a_floor, "billing/somewhere.py", ""),
    (imports_point_down, "billing/rules/upward.py", "from billing import invoicing"),
    (imports_point_down, "billing/ledger.py", "import billing.runs"),
    (imports_point_down, "billing/ledger.py", "from . import invoicing"),
    (imports_point_down, "billing/models/a.py", "from ..ledger import spend"),
    (imports_point_down, "billing/models/a.py", "def f():\n    from billing.tasks import knock"),
    (imports_point_down, "billing/models/a.py", "m = import_module('billing.tasks')"),
    (imports_point_down, "billing/payments.py", "from billing.einvoice import write"),
    (imports_point_down, "billing/journal.py", "from billing import audit"),
    (imports_point_down, "accounts/access.py", "from billing.models import Customer"),
    (imports_point_down, "billing/tasks.py", "from config.site import site"),
    (imports_point_down, "billing/closing.py", "if TYPE_CHECKING:\n    from billing import tasks"),
    (rules_are_pure, "billing/rules/a.py", "from django.utils import timezone"),
    (rules_are_pure, "billing/rules/a.py", "import os"),
    (rules_are_pure, "billing/rules/a.py", "RATE = 0.19"),
    (rules_are_pure, "billing/rules/a.py", "from billing.errors import BillingError"),
    (importing_a_rule_needs_nothing, "billing/__init__.py", "import django"),
    (accounts_names_only_the_customer, "accounts/models.py", "owner = 'billing.Invoice'"),
    (only_money_rounds, "billing/payments.py", "def f(x):\n    return round(x, 2)"),
    (only_money_rounds, "billing/rules/a.py", "def f(x, unit):\n    return x.quantize(unit)"),
    (only_money_rounds, "billing/admin/a.py", "def f(x):\n    return x.to_integral_value()"),
    (only_money_rounds, "billing/sql/0009_a.sql", "SELECT ROUND(amount, 2)"),
    (only_the_upper_floors_read_the_clock, "billing/runs.py", "def f():\n    return localdate()"),
    (no_floats_in_billing, "billing/reports.py", "def f(x):\n    return float(x)"),
    (only_the_upper_floors_read_the_clock, "billing/runs.py",
     "from django.utils import timezone\ndef f():\n    return timezone.now()"),
    (only_the_upper_floors_read_the_clock, "billing/rules/a.py",
     "import datetime\ndef f():\n    return datetime.date.today()"),
    (only_the_upper_floors_read_the_clock, "accounts/access.py",
     "from datetime import datetime\ndef f():\n    return datetime.now()"),
    (nothing_is_marked_safe, "billing/admin/a.py", "def f(x):\n    return mark_safe(x)"),
    (nothing_is_marked_safe, "billing/reports.py", "def f(qs):\n    return qs.extra(where=['1'])"),
    (nothing_is_marked_safe, "billing/reports.py", "def f(m):\n    return m.objects.raw('x')"),
    (nothing_is_marked_safe, "templates/a.html", "{{ name | safe }}"),
    (nothing_is_marked_safe, "templates/a.html", "{% autoescape off %}"),
    (no_service_enqueues, "billing/invoicing.py", "def f(task):\n    task.delay_on_commit(1)"),
    (no_service_enqueues, "billing/models/a.py", "from django.db.models.signals import post_save"),
    (tasks_take_only_ids, "billing/tasks.py", "@shared_task(name='x')\ndef f(invoice):\n    pass"),
    (tasks_take_only_ids, "billing/tasks.py", "@shared_task\ndef f(*rows):\n    pass"),
    (the_top_level_is_tidy, "utils/a.py", ""),
    (no_vendor_files, "billing/static/billing/htmx.min.js", ""),
    (no_vendor_files, "billing/static/vendor/a.js", ""),
]  # fmt: skip


@pytest.mark.parametrize(("rule", "path", "text"), BAD)
def test_a_rule_sees_what_it_forbids(rule: Rule, path: str, text: str, tmp_path: Path) -> None:
    _write(tmp_path, path, text)
    assert rule(House(tmp_path))


GOOD = {
    "billing/__init__.py": "",
    "billing/rules/money.py": "def quantize(x, u):\n    return x.quantize(u)",
    "billing/rules/totals.py": "from billing.rules import money\n"
                               "def f(x):\n    return money.quantize(x, 2)",
    "billing/models/a.py": "from billing.models.b import B\nfrom accounts.roles import NAMES",
    "billing/invoicing.py": "from billing import ledger\nfrom billing.rules import a",
    "billing/tasks.py": "@shared_task\ndef f(run_id, limit=5):\n    return timezone.now()",
    "billing/admin/base.py": "from accounts.admin import ScopedAdmin",
    "accounts/models.py": "customer = 'billing.Customer'",
    "config/urls.py": "from config.site import site",
    "billing/sql/0001_a.sql": "IF amount <> round(amount, 6) THEN RAISE",
    "billing/reports.py": "def f(x):\n    return x == x.to_integral_value() and localtime(x)",
    "templates/a.html": "{{ name }} is safe",
}  # fmt: skip


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_a_rule_lets_a_sound_house_stand(rule: Rule, tmp_path: Path) -> None:
    for path, text in GOOD.items():
        _write(tmp_path, path, text)
    assert not rule(House(tmp_path))


def _write(root: Path, path: str, text: str) -> None:
    file = root / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text, encoding="utf-8")
