"""The instrument that measures fastworker: ``python -m benchmarks --help``.

Real processes through the command line, a token, default retention, results read back and checked::

    __main__.py   the command line: rounds, alternation of versions, what is written where
    cluster.py    a control plane and a subworker of one interpreter, and their process ids
    load.py       the client: runs under the interpreter that is measured, measures, writes JSON
    load_tasks.py the tasks that the jobs run
    report.py     medians, ratios, the table
    machine.py    what it ran on
    fairness.py   another command line, ``python -m benchmarks.fairness``: how long a tenant waits
                  alone, and while another floods
    tenant.py     its clients: one that floods, one whose waits are measured
    scale/        another, ``python -m benchmarks.scale``: with more of something
    soak/         another, ``python -m benchmarks.soak``: whether anything grows
    microseconds.py, sampler/  another, ``python -m benchmarks.microseconds``: where they go
    connections.py, crowd.py   another, ``python -m benchmarks.connections``: what they cost
    plots.py, pages.py         another, ``python -m benchmarks.plots``: pages of what was found
    peers/        another, ``python -m benchmarks.peers``: beside other task queues
"""
