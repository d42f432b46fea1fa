"""The tests of Muskox. Helpers are imported as `tests.<name>`; no test imports another."""
