"""Lists to pick from instead of codes to remember: countries, currencies, languages, time zones."""

from functools import cache
from typing import Final
from zoneinfo import available_timezones

from babel import Locale
from django.utils.translation import get_language

_DOCUMENT_LANGUAGES: Final = ("de", "en", "es", "fr", "nl")
_NO_COUNTRIES: Final = {"EU", "EZ", "UN", "ZZ", "QO", "XA", "XB"}
# Currencies people are invoiced in stand first; the others follow by name.
_FIRST_CURRENCIES: Final = ("EUR", "USD", "GBP", "CHF", "SEK", "NOK", "DKK", "PLN", "CZK", "JPY")


def options(name: str) -> list[tuple[str, str]]:
    """What may be picked for a field of this name; nothing for any other field."""
    language = (get_language() or "en").partition("-")[0]
    makers = {
        "country": _countries,
        "currency": _currencies,
        "language": _languages,
        "time_zone": _time_zones,
    }
    return makers[name](language) if name in makers else []


def _empty(rows: list[tuple[str, str]]) -> list[tuple[str, str]]:
    return [("", "Please choose"), *rows]


@cache
def _countries(language: str) -> list[tuple[str, str]]:
    names = Locale(language).territories
    known = [
        (code, name)
        for code, name in names.items()
        if len(code) == 2 and code.isalpha() and code not in _NO_COUNTRIES
    ]
    return _empty(sorted(known, key=lambda row: row[1]))


@cache
def _currencies(language: str) -> list[tuple[str, str]]:
    from babel.numbers import list_currencies

    names = Locale(language).currencies
    in_use = {
        code
        for territory in map(str, Locale(language).territories)
        if len(territory) == 2
        for code in _currencies_of(territory)
    } & list_currencies()
    first = [(code, f"{code}, {names[code]}") for code in _FIRST_CURRENCIES]
    rest = [(code, f"{code}, {names.get(code, code)}") for code in sorted(in_use)]
    return _empty(first + [row for row in rest if row not in first])


def _currencies_of(territory: str) -> list[str]:
    from babel.numbers import get_territory_currencies

    try:
        return [str(code) for code in get_territory_currencies(territory)]
    except KeyError:
        return []


@cache
def _languages(language: str) -> list[tuple[str, str]]:
    names = Locale(language).languages
    return [(code, names.get(code, code)) for code in _DOCUMENT_LANGUAGES]


@cache
def _time_zones(_language: str) -> list[tuple[str, str]]:
    zones = {zone for zone in available_timezones() if "/" in zone and not zone.startswith("Etc/")}
    return [("UTC", "UTC"), *((zone, zone.replace("_", " ")) for zone in sorted(zones))]
