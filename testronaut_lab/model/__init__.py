"""Pure data that every other part shares: no I/O, no clock."""
