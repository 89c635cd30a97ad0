"""How servers agree on one order of writes. Payloads are opaque bytes here."""
