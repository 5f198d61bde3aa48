"""Tests, one file for each file of the package; `tests/support` holds what several need."""
