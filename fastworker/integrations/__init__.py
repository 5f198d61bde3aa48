"""Web frameworks and pytest. Each module needs its own extra, and nothing here imports one."""
