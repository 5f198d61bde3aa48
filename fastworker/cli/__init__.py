"""The command line: reads settings, wires the processes together, prints.

Data goes to stdout, messages to stderr. Heavy imports stay inside the commands, so that
``fastworker version`` and ``--help`` answer at once. Nothing imports this package but the
``fastworker`` script and ``python -m fastworker``.
"""
