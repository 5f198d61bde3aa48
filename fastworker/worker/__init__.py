"""The subworker, in Trio: its connection, the jobs it holds, its runners. Runs no user code."""
