"""Faults inside a process: small libraries put in front of the system's own functions.

``false_clock``: the time of day is off by what a file says; every other clock is real.
``short_writes``: now and then a write takes only half of what it was given, as it may.
"""

from __future__ import annotations

import functools
import struct
import subprocess
import tempfile
from pathlib import Path
from typing import Final

_SOURCES: Final = {
    "false_clock": """
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <time.h>

static volatile int64_t *offset;

__attribute__((constructor)) static void open_offset(void) {
    const char *path = getenv("FALSE_CLOCK");
    int file = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    if (file < 0) return;
    void *map = mmap(0, sizeof *offset, PROT_READ, MAP_SHARED, file, 0);
    if (map != MAP_FAILED) offset = map;
}

int clock_gettime(clockid_t clock, struct timespec *now) {
    static int (*real)(clockid_t, struct timespec *);
    if (!real) real = dlsym(RTLD_NEXT, "clock_gettime");
    int result = real(clock, now);
    if (offset && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE))
        now->tv_sec += *offset;
    return result;
}

int gettimeofday(struct timeval *now, void *zone) {
    struct timespec exact;
    int result = clock_gettime(CLOCK_REALTIME, &exact);
    (void)zone;
    now->tv_sec = exact.tv_sec;
    now->tv_usec = exact.tv_nsec / 1000;
    return result;
}

time_t time(time_t *out) {
    struct timespec exact;
    clock_gettime(CLOCK_REALTIME, &exact);
    if (out) *out = exact.tv_sec;
    return exact.tv_sec;
}
""",
    "short_writes": """
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>
#include <unistd.h>

ssize_t pwrite64(int file, const void *data, size_t size, off64_t at) {
    static ssize_t (*real)(int, const void *, size_t, off64_t);
    static int every, count;
    if (!real) {
        const char *given = getenv("SHORT_WRITES");
        every = given ? atoi(given) : 0;
        real = dlsym(RTLD_NEXT, "pwrite64");
    }
    if (every && size > 1 && __sync_add_and_fetch(&count, 1) % every == 0) size /= 2;
    return real(file, data, size, at);
}
""",
}


@functools.cache
def library(name: str) -> Path | None:
    """The compiled library, or None where there is no compiler."""
    folder = Path(tempfile.mkdtemp(prefix="fastworker-faults-"))
    source, built = folder / f"{name}.c", folder / f"{name}.so"
    source.write_text(_SOURCES[name])
    command = ("cc", "-shared", "-fPIC", "-O2", "-o", built, source, "-ldl")
    try:
        done = subprocess.run(command, capture_output=True)
    except FileNotFoundError:
        return None
    return built if done.returncode == 0 else None


class FalseClock:
    """The time of day of whoever is started with `variables`; it may be moved while they run.

    Args:
        file: to be made.
    """

    def __init__(self, file: Path, *, seconds: float = 0.0) -> None:
        self._file = file
        self.move(seconds)

    def move(self, seconds: float) -> None:
        """From now on it is off by so many seconds."""
        with self._file.open("r+b" if self._file.exists() else "wb") as file:
            file.write(struct.pack("=q", int(seconds)))

    def variables(self) -> dict[str, str]:
        return {"LD_PRELOAD": str(library("false_clock")), "FALSE_CLOCK": str(self._file)}
