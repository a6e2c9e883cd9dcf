"""The people and terms of the demonstration data, as plain values.

Nobody here exists. VAT IDs, IBANs and the like have valid check digits and belong to the public
examples or to nobody; mail addresses end in `.example`, which no mail server serves.
"""

from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from typing import Any, Final, Literal

Pays = Literal["prompt", "card", "late", "part", "over", "never"]
Currencies: Final = ("EUR", "USD", "GBP", "CHF")


@dataclass(frozen=True, slots=True)
class Person:
    """Somebody who logs in."""

    username: str
    name: str
    role: str  # code of a role
    duty: str
    language: str = "en"
    time_zone: str = "Europe/Dublin"
    customers: tuple[str, ...] = ()  # codes; none means the whole house


PEOPLE: Final = (
    Person("demo-finance", "Nora Brennan", "finance-admin", "finance admin"),
    Person("demo-clerk", "Tom Okafor", "clerk", "clerk"),
    Person("demo-auditor", "Iris Lindqvist", "auditor", "auditor", time_zone="Europe/Stockholm"),
    Person(
        "demo-manager",
        "Mara Quigley",
        "customer-manager",
        "manager of two customers",
        customers=("C-10427", "C-10588"),
    ),
)

SELLERS: Final[tuple[dict[str, Any], ...]] = (
    {
        "code": "TI",
        "name": "Tidemark Imaging",
        "legal_name": "Tidemark Imaging Limited",
        "street": "14 Harbour Row",
        "postal_code": "D02 XY00",
        "city": "Dublin",
        "country": "IE",
        "vat_id": "IE1234567FA",
        "registration": "Registered in Ireland, no. 612345",
        "directors": "Aoife Ní Bhriain, Tunde Okafor (Nigeria)",
        "email": "billing@tidemark.example",
        "phone": "+353 1 555 0100",
        "iban": "IE29AIBK93115212345678",
        "bic": "AIBKIE2D",
        "bank_name": "Example Bank Dublin",
        "currency": "EUR",
        "language": "en",
        "time_zone": "Europe/Dublin",
        "accent": "#0b5563",
        "payment_terms_days": 14,
    },
    {
        "code": "TD",
        "name": "Tidemark Imaging Deutschland",
        "legal_name": "Tidemark Imaging GmbH",
        "street": "Gezeitenweg 8",
        "postal_code": "80331",
        "city": "München",
        "country": "DE",
        "vat_id": "DE136695976",
        "registration": "Amtsgericht München, HRB 123456",
        "directors": "Hanna Vogt",
        "email": "rechnung@tidemark.example",
        "phone": "+49 89 5550 100",
        "iban": "DE02120300000000202051",
        "bic": "BYLADEM1001",
        "bank_name": "Beispielbank München",
        "currency": "EUR",
        "language": "de",
        "time_zone": "Europe/Berlin",
        "accent": "#7a2e5d",
        "payment_terms_days": 14,
    },
    {
        "code": "TU",
        "name": "Tidemark Imaging UK",
        "legal_name": "Tidemark Imaging (UK) Ltd",
        "street": "3 Lantern Court",
        "postal_code": "E14 9ZZ",
        "city": "London",
        "country": "GB",
        "vat_id": "GB123400037",
        "registration": "Registered in England and Wales, no. 01234567",
        "directors": "Priya Desai",
        "email": "accounts@tidemark.example",
        "phone": "+44 20 7946 0100",
        "iban": "GB82WEST12345698765432",
        "bic": "WESTGB2L",
        "bank_name": "Example Bank London",
        "currency": "GBP",
        "language": "en-GB",
        "time_zone": "Europe/London",
        "accent": "#2f4b7c",
        "payment_terms_days": 30,
    },
)
HELD_BACK: Final = "TU"  # the newest run of this seller waits for its approval


@dataclass(frozen=True, slots=True)
class Party:
    """A customer with its plan and its habits."""

    seller: str
    code: str
    name: str
    country: str
    street: str
    postal_code: str
    city: str
    plan: str
    uses: str  # uses a working day
    size: int  # pictures a use, about
    vat_id: str = ""
    currency: str = "EUR"
    language: str = "en"
    time_zone: str = "Europe/Dublin"
    kind: str = "business"
    attention: str = ""
    region: str = ""
    seats: int = 1
    pays: Pays = "prompt"
    terms: int | None = None
    order: str = ""
    reference: str = ""
    joined: int = 0  # months after the first; 0 joins in the middle of the month before
    contact: str = ""


PARTIES: Final = (
    # --- Dublin ---------------------------------------------------------------------------------
    Party("TI", "C-10427", "Lumen & Vale Studio", "IE", "27 Thomas Row", "D08 AB12", "Dublin",
          "studio", "4", 12, "IE1234500K", order="PO-77120", reference="Cost centre 4110",
          pays="part", contact="Sinéad Quigley"),
    Party("TI", "C-10588", "Greyharbour Print", "IE", "5 Dock Lane", "T12 CD34", "Cork",
          "prepaid", "2", 6, "IE1234501M", pays="card", contact="Declan Roche"),
    Party("TI", "C-10093", "Quigley Retail Group", "IE", "1 Mercer Square", "D02 EF56", "Dublin",
          "team", "6", 40, "IE1234502O", seats=4, order="PO-2026-118840", terms=30,
          reference="Marketing, S. Quigley", contact="Sorcha Quigley"),
    Party("TI", "C-10611", "Atelier Marceline", "FR", "18 rue des Lampions", "75011", "Paris",
          "studio", "3", 9, "FR62123450009", language="fr", time_zone="Europe/Paris",
          contact="Marceline Aubry"),
    Party("TI", "C-10612", "Brume Éditions", "FR", "4 quai du Vent", "44000", "Nantes",
          "studio-1", "2", 8, "FR86123450017", language="fr", time_zone="Europe/Paris",
          pays="late", contact="Théo Garnier"),
    Party("TI", "C-10640", "Polder Beeld", "NL", "Dijkstraat 9", "3011 AA", "Rotterdam",
          "studio", "3", 7, "NL123450007B01", time_zone="Europe/Amsterdam",
          contact="Femke de Wit"),
    Party("TI", "C-10655", "Windmolen Media", "NL", "Kade 12", "1013 BC", "Amsterdam",
          "team", "4", 16, "NL123450019B01", time_zone="Europe/Amsterdam", seats=3,
          order="INK-4471", contact="Joost Bakker"),
    Party("TI", "C-10671", "Zilvermeer Studio's", "BE", "Kanaalkaai 3", "9000", "Gent",
          "prepaid", "1", 7, "BE0123456056", time_zone="Europe/Brussels", pays="card",
          contact="Lore Peeters"),
    Party("TI", "C-10702", "Faro Visual", "ES", "Calle de la Marea 21", "08003", "Barcelona",
          "studio", "3", 8, "ESB12345005", time_zone="Europe/Madrid", pays="late",
          contact="Iker Molina"),
    Party("TI", "C-10703", "Sol y Sal Publicidad", "ES", "Plaza del Puerto 6", "29001", "Málaga",
          "free", "1", 3, "ESB12345013", time_zone="Europe/Madrid", contact="Ana Ruiz"),
    Party("TI", "C-10730", "Officina Lume", "IT", "Via dei Fari 11", "16121", "Genova",
          "studio", "2", 9, "IT12345000017", time_zone="Europe/Rome", pays="never",
          contact="Giulia Parodi"),
    Party("TI", "C-10744", "Norrsken Bild AB", "SE", "Fyrgatan 2", "111 22", "Stockholm",
          "team", "3", 14, "SE123450000501", time_zone="Europe/Stockholm", seats=2,
          contact="Elin Sandberg"),
    Party("TI", "C-10751", "Revontuli Oy", "FI", "Majakkatie 7", "00150", "Helsinki",
          "studio", "2", 7, "FI12345006", time_zone="Europe/Helsinki", contact="Aino Laine"),
    Party("TI", "C-10760", "Havblik ApS", "DK", "Bølgevej 14", "2100", "København",
          "prepaid", "1", 6, "DK12345003", time_zone="Europe/Copenhagen", joined=1,
          contact="Mikkel Holm"),
    Party("TI", "C-10772", "Latarnia Studio", "PL", "ul. Portowa 5", "80-001", "Gdańsk",
          "studio", "2", 6, "PL1234500005", time_zone="Europe/Warsaw", joined=1,
          contact="Zofia Nowak"),
    Party("TI", "C-10801", "Copperline Creative LLC", "US", "410 Water Street", "11201",
          "Brooklyn", "team", "4", 15, currency="USD", language="en-US", region="NY",
          time_zone="America/New_York", seats=2, pays="over", contact="Dana Whitfield"),
    Party("TI", "C-10802", "Mesa Light Inc.", "US", "92 Juniper Road", "80202", "Denver",
          "studio", "3", 8, currency="USD", language="en-US", region="CO",
          time_zone="America/Denver", pays="card", contact="Rory Castillo"),
    Party("TI", "C-10815", "Eoin Farrell Photography", "IE", "8 Strand Cottages", "H91 GH78",
          "Galway", "free", "1", 3, kind="consumer", contact="Eoin Farrell"),
    Party("TI", "C-10816", "Ciara Walsh", "IE", "Apt 4, 20 Quay Street", "V94 JK90", "Limerick",
          "prepaid", "1", 4, kind="consumer", pays="card", joined=2, contact="Ciara Walsh"),
    Party("TI", "C-10901", "Kestrel Motion", "IE", "", "D04 LM12", "Dublin",
          "studio", "2", 6, "IE1234503Q", joined=3, contact="Fionn Daly"),
    Party("TI", "C-10902", "Nordlys Foto AS", "NO", "Fyrlykta 10", "0150", "Oslo",
          "studio", "2", 5, "NO987650001MVA", currency="NOK", time_zone="Europe/Oslo", joined=3,
          contact="Ingrid Berg"),
    # --- Munich ---------------------------------------------------------------------------------
    Party("TD", "K-30114", "Verlag Morgenrot GmbH", "DE", "Isarufer 31", "80469", "München",
          "team", "6", 20, "DE123456000", language="de", time_zone="Europe/Berlin", seats=4,
          order="B-2026-0417", contact="Katrin Adler", terms=30),
    Party("TD", "K-30122", "Agentur Kieselstein", "DE", "Hafenweg 2", "20457", "Hamburg",
          "studio", "3", 10, "DE123456018", language="de", time_zone="Europe/Berlin",
          contact="Jonas Petersen"),
    Party("TD", "K-30131", "Fotohaus Lindner", "DE", "Marktplatz 5", "04109", "Leipzig",
          "studio-1", "2", 7, "DE123456026", language="de", time_zone="Europe/Berlin",
          pays="late", contact="Ute Lindner"),
    Party("TD", "K-30140", "Bildwerk Rhein", "DE", "Deichstraße 17", "50667", "Köln",
          "prepaid", "2", 7, "DE123456034", language="de", time_zone="Europe/Berlin",
          pays="card", contact="Selin Yılmaz"),
    Party("TD", "K-30155", "Schule für Gestaltung Nord", "DE", "Lehrerweg 1", "24103", "Kiel",
          "free", "1", 4, language="de", time_zone="Europe/Berlin", contact="Bernd Thomsen"),
    Party("TD", "K-30160", "Alpenglühen Werbung GmbH", "AT", "Lechgasse 9", "6020", "Innsbruck",
          "studio", "3", 9, "ATU12345602", language="de", time_zone="Europe/Vienna",
          contact="Leopold Maier"),
    Party("TD", "K-30161", "Donaublick Medien", "AT", "Kaistraße 44", "1020", "Wien",
          "team", "3", 13, "ATU12345611", language="de", time_zone="Europe/Vienna", seats=2,
          pays="part", contact="Theresa Huber"),
    Party("TD", "K-30170", "Seefeld Design AG", "CH", "Uferpromenade 6", "8008", "Zürich",
          "studio", "3", 9, "CHE123450001MWST", currency="CHF", language="de",
          time_zone="Europe/Zurich", contact="Reto Keller"),
    Party("TD", "K-30171", "Atelier du Lac SA", "CH", "Quai des Mouettes 3", "1201", "Genève",
          "prepaid", "1", 6, "CHE123450018MWST", currency="CHF", language="fr",
          time_zone="Europe/Zurich", pays="card", contact="Camille Rochat"),
    Party("TD", "K-30182", "Vltava Vision s.r.o.", "CZ", "Nábřežní 15", "110 00", "Praha",
          "studio", "2", 6, "CZ12345008", time_zone="Europe/Prague", joined=2,
          contact="Petr Novák"),
    Party("TD", "K-30190", "Moselblick Kreativ", "LU", "Rue du Phare 8", "1150", "Luxembourg",
          "studio", "2", 7, "LU12345007", language="fr", time_zone="Europe/Luxembourg",
          pays="never", contact="Paul Weber"),
    Party("TD", "K-30195", "Lena Hartmann", "DE", "Gartenstraße 12", "79098", "Freiburg",
          "free", "1", 2, kind="consumer", language="de", time_zone="Europe/Berlin", joined=1,
          contact="Lena Hartmann"),
    # --- London ---------------------------------------------------------------------------------
    Party("TU", "U-50021", "Saltmarsh Press", "GB", "66 Ferry Road", "EH6 4AB", "Edinburgh",
          "team", "4", 16, "GB123400079", currency="GBP", language="en-GB",
          time_zone="Europe/London", seats=3, order="SP/1093", contact="Morag Sinclair"),
    Party("TU", "U-50033", "Beacon & Tide", "GB", "12 Chandlers Wharf", "BS1 6XY", "Bristol",
          "studio", "3", 9, "GB123400092", currency="GBP", language="en-GB",
          time_zone="Europe/London", contact="Amit Shah"),
    Party("TU", "U-50047", "Foxglove Interiors", "GB", "2 Orchard Mews", "BA1 2CD", "Bath",
          "studio", "2", 6, "GB123400135", currency="GBP", language="en-GB",
          time_zone="Europe/London", pays="late", contact="Hattie Price"),
    Party("TU", "U-50052", "Northgate College", "GB", "College Lane", "LS1 3EF", "Leeds",
          "prepaid", "2", 6, "GB123400177", currency="GBP", language="en-GB",
          time_zone="Europe/London", pays="card", contact="Owen Barker"),
    Party("TU", "U-50060", "Glasshouse Theatre", "GB", "9 Playhouse Yard", "M1 4GH", "Manchester",
          "free", "1", 3, currency="GBP", language="en-GB", time_zone="Europe/London",
          contact="Zadie Cole"),
    Party("TU", "U-50071", "Emerald Quay Media", "IE", "30 Custom House Square", "D01 NP34",
          "Dublin", "studio", "2", 8, "IE1234504S", currency="EUR", contact="Niamh Byrne"),
    Party("TU", "U-50080", "Harbourlight Ventures", "US", "77 Pier Avenue", "94111",
          "San Francisco", "studio", "2", 8, currency="USD", language="en-US", region="CA",
          time_zone="America/Los_Angeles", pays="never", joined=1, contact="Lee Nakamura"),
)  # fmt: skip

# --- What is sold -------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Measure:
    """A countable thing and what one of it costs in credits."""

    code: str
    name: str
    unit: str
    credits: str


MEASURES: Final = (
    Measure("demo-images", "Image generation", "images", "2"),
    Measure("demo-upscaling", "Upscaling", "images", "0.5"),
    Measure("demo-training", "Style training", "runs", "90"),
)

# Fee of a month in each currency, and use beyond the allowance for 1,000 credits.
_STUDIO_1: Final = {
    "EUR": ("29", "55"),
    "USD": ("32", "60"),
    "GBP": ("25", "48"),
    "CHF": ("29", "55"),
}
_STUDIO_2: Final = {
    "EUR": ("39", "50"),
    "USD": ("42", "54"),
    "GBP": ("34", "44"),
    "CHF": ("39", "50"),
}
_STUDIO_3: Final = {
    "EUR": ("44", "48"),
    "USD": ("47", "52"),
    "GBP": ("38", "42"),
    "CHF": ("44", "48"),
}
_TEAM: Final = {"EUR": "59", "USD": "64", "GBP": "52", "CHF": "59"}  # each seat
_TEAM_TIERS: Final = {
    "EUR": ("0.046", "0.040", "0.034"),
    "USD": ("0.050", "0.043", "0.037"),
    "GBP": ("0.040", "0.035", "0.030"),
    "CHF": ("0.046", "0.040", "0.034"),
}


@dataclass(frozen=True, slots=True)
class Terms:
    """One version of a plan, as the catalogue takes it."""

    key: str  # how parties name it
    plan: str
    name: str
    summary: str
    allowance: str
    overage: Literal["block", "invoice"]
    state: Literal["draft", "published", "archived"]
    prices: tuple[dict[str, Any], ...] = ()


def _studio(table: dict[str, tuple[str, str]]) -> tuple[dict[str, Any], ...]:
    return tuple(
        price
        for currency, (fee, overage) in table.items()
        for price in (
            _fee("Studio plan", currency, fee, "month"),
            _overage(currency) | {"unit_price": Decimal(overage), "base_quantity": 1000},
        )
    )


def _team() -> tuple[dict[str, Any], ...]:
    ends = ("2000", "10000", None)
    return tuple(
        price
        for currency, fee in _TEAM.items()
        for price in (
            _fee("Team plan", currency, fee, "seat"),
            _overage(currency)
            | {
                "model": "graduated",
                "unit_label": "credits",
                "tiers": [
                    {"up_to": end, "unit": unit}
                    for end, unit in zip(ends, _TEAM_TIERS[currency], strict=True)
                ],
            },
        )
    )


def _fee(label: str, currency: str, amount: str, unit: str) -> dict[str, Any]:
    return {
        "code": "fee",
        "label": label,
        "role": "fee",
        "currency": currency,
        "unit_price": Decimal(amount),
        "billed": "advance",
        "unit_label": unit,
        "product": "plan-fees",
    }


def _overage(currency: str) -> dict[str, Any]:
    return {
        "code": "overage",
        "label": "Credits beyond the allowance",
        "role": "overage",
        "currency": currency,
        "unit_label": "credits",
        "product": "overage",
    }


PLANS: Final = (
    Terms("free", "demo-free", "Free", "60 credits each month. Use stops when they are used up.",
          "60", "block", "published"),
    Terms("studio-1", "demo-studio", "Studio",
          "800 credits each month; further credits are invoiced.",
          "800", "invoice", "archived", _studio(_STUDIO_1)),
    Terms("studio", "demo-studio", "Studio",
          "1,000 credits each month; further credits are invoiced.",
          "1000", "invoice", "published", _studio(_STUDIO_2)),
    Terms("studio-3", "demo-studio", "Studio",
          "1,200 credits each month; further credits are invoiced.",
          "1200", "invoice", "draft", _studio(_STUDIO_3)),
    Terms("team", "demo-team", "Team",
          "5,000 credits each month for the team, a fee for each seat, further credits in tiers.",
          "5000", "invoice", "published", _team()),
    Terms("prepaid", "demo-prepaid", "Prepaid", "No fee. Credits are bought in packs.",
          "0", "block", "published"),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Pack:
    """Credits for sale, priced in each currency."""

    code: str
    name: str
    credits: str
    prices: dict[str, str]


PACKS: Final = (
    Pack("demo-pack-500", "Pack of 500 credits", "500",
         {"EUR": "29.00", "USD": "32.00", "GBP": "25.00", "CHF": "29.00"}),
    Pack("demo-pack-5000", "Pack of 5,000 credits", "5000",
         {"EUR": "240.00", "USD": "260.00", "GBP": "210.00", "CHF": "240.00"}),
)  # fmt: skip

PROJECTS: Final = (
    "Spring catalogue",
    "Shop window",
    "Annual report",
    "Social media",
    "Poster series",
)
MODELS: Final = ("tide-2", "tide-2-fast", "harbour-xl")

# Standard rates of VAT in percent, each from its first day to the next row's.
STANDARD_RATES: Final[dict[str, tuple[tuple[date, str], ...]]] = {
    "AT": ((date(1984, 1, 1), "20"),),
    "BE": ((date(1996, 1, 1), "21"),),
    "BG": ((date(1999, 1, 1), "20"),),
    "CH": ((date(2018, 1, 1), "7.7"), (date(2024, 1, 1), "8.1")),
    "CY": ((date(2014, 1, 13), "19"),),
    "CZ": ((date(2013, 1, 1), "21"),),
    "DE": ((date(2007, 1, 1), "19"), (date(2020, 7, 1), "16"), (date(2021, 1, 1), "19")),
    "DK": ((date(1992, 1, 1), "25"),),
    "EE": ((date(2009, 7, 1), "20"), (date(2024, 1, 1), "22"), (date(2025, 7, 1), "24")),
    "ES": ((date(2012, 9, 1), "21"),),
    "FI": ((date(2013, 1, 1), "24"), (date(2024, 9, 1), "25.5")),
    "FR": ((date(2014, 1, 1), "20"),),
    "GB": ((date(2011, 1, 4), "20"),),
    "GR": ((date(2016, 6, 1), "24"),),
    "HR": ((date(2012, 3, 1), "25"),),
    "HU": ((date(2012, 1, 1), "27"),),
    "IE": ((date(2021, 3, 1), "23"),),
    "IT": ((date(2013, 10, 1), "22"),),
    "LT": ((date(2009, 9, 1), "21"),),
    "LU": ((date(2015, 1, 1), "17"), (date(2023, 1, 1), "16"), (date(2024, 1, 1), "17")),
    "LV": ((date(2012, 7, 1), "21"),),
    "MT": ((date(2004, 1, 1), "18"),),
    "NL": ((date(2012, 10, 1), "21"),),
    "NO": ((date(2005, 1, 1), "25"),),
    "PL": ((date(2011, 1, 1), "23"),),
    "PT": ((date(2011, 1, 1), "23"),),
    "RO": ((date(2017, 1, 1), "19"), (date(2025, 8, 1), "21")),
    "SE": ((date(1990, 7, 1), "25"),),
    "SI": ((date(2013, 7, 1), "22"),),
    "SK": ((date(2011, 1, 1), "20"), (date(2025, 1, 1), "23")),
}
