"""From a frozen snapshot to the bytes of a PDF. Knows no models, no clock and no customer.

words, figures and tidy write things down in the document's language; page turns a snapshot into
the strings a template prints; engine draws the template; child does that in a process of its own.
"""

from typing import Final

TEMPLATE_VERSION: Final = "1"  # kept with each file; a change of look counts it up
