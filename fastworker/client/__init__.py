"""What applications hold: submits jobs, waits for results. anyio only: asyncio, uvloop and Trio.

`outbox`, `requests`, `results` and `failures` decide and are pure; `connection` and `transport`
talk; `client`, `handles`, `blocking`, `callbacks` and `listener` are what users see.
"""
