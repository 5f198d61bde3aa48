"""What applications hold: submits jobs, waits for results. anyio only: asyncio, uvloop and Trio.

`outbox`, `requests`, `results` and `failures` decide and are pure; `connection` and `transport`
talk; `client`, `handles`, `task_group`, `blocking`, `callbacks` and `listener` are what users see.
"""
