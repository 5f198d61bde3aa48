"""The fault matrix with real processes: one test a row, its injection, two ledgers as oracle."""
