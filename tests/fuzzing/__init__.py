"""Fuzzing: what is made of any bytes, guided by coverage, by the schema, or by chance."""
