"""The runner: the child process in which user code runs, and nothing that must survive it."""
