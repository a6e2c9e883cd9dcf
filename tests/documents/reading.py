"""Reads a PDF back: its text, its structure, its fonts, and the modules of its payment code."""

import io
import re
from collections.abc import Iterator
from typing import Any

from pypdf import PdfReader
from pypdf.generic import ArrayObject, DictionaryObject


def reader(pdf: bytes) -> PdfReader:
    """The file, opened."""
    return PdfReader(io.BytesIO(pdf))


def text(pdf: bytes) -> str:
    """The text of all pages in the order it is read, one blank line between pages."""
    pages = [page.extract_text().replace("\u00a0", " ") for page in reader(pdf).pages]
    return "\n\n".join("\n".join(line.rstrip() for line in page.splitlines()) for page in pages)


def metadata(pdf: bytes) -> str:
    """The XMP packet."""
    return reader(pdf).trailer["/Root"]["/Metadata"].get_object().get_data().decode()


def elements(pdf: bytes) -> Iterator[DictionaryObject]:
    """Every structure element, parents before children."""
    root = reader(pdf).trailer["/Root"]["/StructTreeRoot"]

    def walk(node: Any) -> Iterator[DictionaryObject]:
        node = node.get_object()
        if isinstance(node, ArrayObject):
            for child in node:
                yield from walk(child)
        elif isinstance(node, DictionaryObject):
            if "/S" in node:
                yield node
            if "/K" in node:
                yield from walk(node["/K"])

    yield from walk(root["/K"])


def fonts(pdf: bytes) -> dict[str, int]:
    """Embedded fonts: name without the subset's tag, and the bytes of the font file."""
    found = {}
    for page in reader(pdf).pages:
        for font in page["/Resources"]["/Font"].values():
            name = str(font.get_object()["/BaseFont"]).rpartition("+")[2]
            descriptor = font.get_object()["/DescendantFonts"][0].get_object()["/FontDescriptor"]
            found[name] = len(descriptor["/FontFile2"].get_data())
    return found


def code_modules(path: str, size: int) -> list[bytearray]:
    """The dark modules a payment code's path draws, row by row."""
    rows = [bytearray(size) for _ in range(size)]
    for x, y, run in re.findall(r"M(\d+) (\d+)\.5h(\d+)", path):
        for column in range(int(x), int(x) + int(run)):
            rows[int(y)][column] = 1
    return rows
