"""Decides. Pure: gets ``now`` and randomness as arguments; never waits, never does I/O."""
