"""Whether anything grows while the load does not: ``python -m benchmarks.soak --help``.

__main__.py   the command line: processes, samples, the verdict
mixture.py    the load: jobs of all kinds at a steady pace, every end of them checked
sampling.py   what is looked at, again and again
flatness.py   when a figure counts as flat
"""
