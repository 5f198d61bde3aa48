"""Notes every few milliseconds of processor time where a process is; loaded by every Python that
finds this folder on its path and is told where to write.

A line a sample: the moment, and the functions from the outermost to the innermost. Only the main
thread is looked at: what others use, of the processor, counts as what it does meanwhile.
"""

from __future__ import annotations

import atexit
import os
import signal
import time
from types import FrameType

TARGET_VARIABLE = "BENCHMARK_SAMPLES"
SECONDS = 0.004
"""Of processor time; kernels count no finer."""
DEEPEST = 200


def start(folder: str) -> None:
    """Write samples of this process to a file of its own in ``folder``."""
    path = os.path.join(folder, f"{os.getpid()}.samples")
    target = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def note(_: int, frame: FrameType | None) -> None:
        names: list[str] = []
        while frame is not None and len(names) < DEEPEST:
            names.append(_name(frame))
            frame = frame.f_back
        line = f"{time.monotonic():.6f}\t" + ";".join(reversed(names)) + "\n"
        os.write(target, line.encode())

    signal.signal(signal.SIGPROF, note)
    signal.siginterrupt(signal.SIGPROF, False)
    # An interpreter that ends puts the default back, which would end it at the next sample.
    atexit.register(stop)
    signal.setitimer(signal.ITIMER_PROF, SECONDS, SECONDS)


def stop() -> None:
    """No more samples of this process."""
    signal.setitimer(signal.ITIMER_PROF, 0.0)
    signal.signal(signal.SIGPROF, signal.SIG_IGN)


def _name(frame: FrameType) -> str:
    code = frame.f_code
    file = code.co_filename
    for root in ("/site-packages/", "/fastworker/"):
        _, found, after = file.rpartition(root)
        if found:
            package = "fastworker/" if root == "/fastworker/" else ""
            return f"{package}{after}:{code.co_qualname}"
    return f"{os.path.basename(file)}:{code.co_qualname}"


if TARGET_VARIABLE in os.environ:
    start(os.environ[TARGET_VARIABLE])
