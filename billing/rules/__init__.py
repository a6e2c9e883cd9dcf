"""Rules decide: pure arithmetic of billing. Standard library only.

No Django, no clock, no settings, no floats.

Amounts stay exact (`Decimal` or `Fraction`) until `money.quantize`, the one rounding site.
"""
