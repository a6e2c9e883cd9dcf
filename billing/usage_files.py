"""A usage file as a stream: each row read or refused with its reason, never the whole in memory."""

import csv
import hashlib
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TextIO

from billing.errors import MissingData
from billing.rules.usage_rows import FileMapping, Row, RowRefusedError, fingerprint

_FORMULA_STARTS: Final = frozenset("=+-@\t\r\n\0＝＋－＠")
FIELD_MAX: Final = 10_000  # characters of one field; longer ones are refused, not read


@dataclass(frozen=True, slots=True)
class Read:
    """A row that could be read, with its place in the file."""

    line: int
    row: Row
    key: str
    values: Mapping[str, str]


class Rejects:
    """The CSV of refused rows; made with the first one."""

    def __init__(self, stack: ExitStack, path: Path | None) -> None:
        self.stack, self.path = stack, path
        self.writer: Any = None
        self.count = 0

    def add(self, line: int, values: Mapping[str, str], refusal: RowRefusedError) -> None:
        """Write one refused row with field, reason and remedy, and count it."""
        self.count += 1
        if self.path is None:
            return
        if self.writer is None:
            target = self.stack.enter_context(self.path.open("w", encoding="utf-8", newline=""))
            self.writer = csv.writer(target)
            self.writer.writerow(["line", "field", "reason", "remedy", *values])
        cells = (line, refusal.column, refusal.reason, refusal.remedy, *values.values())
        self.writer.writerow([_harmless(str(cell)) for cell in cells])


def _harmless(cell: str) -> str:
    """A cell no spreadsheet takes for a formula."""
    return f"'{cell}" if cell[:1] in _FORMULA_STARTS else cell


def read_rows(
    source: TextIO,
    terms: FileMapping,
    rejects: Rejects,
    progress: Callable[[int], None],
) -> Iterator[Read]:
    """Read row by row. A key is the row's own, or its sha256 with its ordinal among equals."""
    csv.field_size_limit(FIELD_MAX)
    table = csv.DictReader(source, strict=True)
    try:
        found = table.fieldnames or ()
    except (csv.Error, UnicodeDecodeError) as error:
        raise MissingData(f"It cannot be read ({error}). Save it as UTF-8 CSV.") from error
    missing = [name for name in terms.columns if name not in found]
    if missing:
        raise MissingData(f"The file has no column {', '.join(missing)}.")
    equals: dict[str, int] = defaultdict(int)
    rows = iter(table)
    while True:
        try:
            values = next(rows)
        except StopIteration:
            return
        except (csv.Error, UnicodeDecodeError) as error:
            raise MissingData(
                f"Line {table.line_num + 1} cannot be read ({error}). "
                "Save the file as UTF-8 CSV and read it again; rows read before it stand."
            ) from error
        progress(1)
        if any("\0" in value for value in values.values() if isinstance(value, str)):
            rejects.add(
                table.line_num,
                values,
                RowRefusedError("row", "It holds a character that is no text.", "Remove it."),
            )
            continue
        if None in values or None in values.values():
            rejects.add(
                table.line_num,
                {k: v or "" for k, v in values.items() if k},
                RowRefusedError("row", "It has another number of fields.", "Check the separators."),
            )
            continue
        try:
            row = terms.read(values)
        except RowRefusedError as refusal:
            rejects.add(table.line_num, values, refusal)
            continue
        key = row.key
        if not key:
            digest = fingerprint(values)
            equals[digest] += 1
            key = f"{digest}:{equals[digest]}"
        yield Read(table.line_num, row, key, values)


def sha256(path: Path) -> str:
    """The digest that tells two files apart."""
    digest = hashlib.sha256()
    with path.open("rb") as source:
        while block := source.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
