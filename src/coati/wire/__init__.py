"""Ground floor: bytes to records and back."""
