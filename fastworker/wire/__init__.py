"""Encodes. Pure: bytes to typed messages and back; `schema.cddl` is the specification."""
