"""Rules of the house that Django can verify before the first request."""
