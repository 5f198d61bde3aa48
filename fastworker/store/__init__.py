"""Remembers: a synchronous contract, SQLite and memory behind it, one thread in front of it."""
