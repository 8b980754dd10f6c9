"""Pure data, shared by every other part: no I/O and no clock in here."""
