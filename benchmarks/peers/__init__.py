"""Side by side with other task queues: ``python -m benchmarks.peers --help``.

The harness that starts and measures the others is no part of this project: it has a program
``run.py``, workloads W1 to W7, and a module in ``adapters/`` for each queue. What joins it::

    __main__.py   the command line: rounds, their alternation, the table of ratios
    harness.py    a copy of the harness that knows of us, and one run of it
    merging.py    the results of several rounds as one, and the ratios to the best of the others
    this_peer.py  our adapter: copied into ``adapters/``, imported by the harness alone
"""
