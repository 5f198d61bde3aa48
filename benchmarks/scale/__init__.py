"""What a job costs when there is more of something: ``python -m benchmarks.scale --help``.

__main__.py   the command line: which series, which sizes, rounds
series.py     figures by series, size and metric; their tables
probing.py    the same few jobs beside everything: cost, latency, memory
queued.py     jobs that wait
connected.py  idle subworkers and idle clients, as real connections
payloads.py   bytes that go there and back
mixed.py      four priorities and two tenants at once
"""
