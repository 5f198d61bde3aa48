"""One real process under test: its output line by line, and all the ways to end it.

Synchronous on purpose: a test under asyncio or Trio calls it directly (nothing here waits long),
or in a thread when it does wait.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

WAIT_SECONDS = 30.0
"""How long anything may take on a busy two-core machine before it counts as not happening."""


class Member:
    """A process of a cluster; ``lines`` grows as it writes to stdout and stderr.

    Args:
        name: for messages and the log.
        command: program and arguments.
        environment: the whole environment.
        folder: its current directory.
    """

    def __init__(
        self, name: str, command: Sequence[str], *, environment: Mapping[str, str], folder: Path
    ) -> None:
        self.name = name
        self.lines: list[str] = []
        self._changed = threading.Condition()
        self._ended = False
        # A session of its own: a signal to the tests must not reach it, and vice versa.
        self.process = subprocess.Popen(
            command,
            cwd=folder,
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        self._reader = threading.Thread(target=self._read, name=f"log of {name}", daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        with self.process.stdout as output:
            for raw in output:
                with self._changed:
                    self.lines.append(raw.decode("utf-8", "backslashreplace").rstrip("\n"))
                    self._changed.notify_all()
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def log(self) -> str:
        """All it has written."""
        with self._changed:
            return "\n".join(self.lines)

    @property
    def running(self) -> bool:
        return self.process.poll() is None

    def wait_change(self, seen: int, *, seconds: float) -> int:
        """Wait until there are more than ``seen`` lines, or it has ended; how many there are."""
        with self._changed:
            self._changed.wait_for(lambda: len(self.lines) > seen or self._ended, seconds)
            return len(self.lines)

    def wait_line(self, pattern: str, *, after: int = 0, seconds: float = WAIT_SECONDS) -> str:
        """Wait for a line that matches, from line number ``after`` on.

        Raises:
            AssertionError: it ended, or the time was up; the message shows the log.
        """
        deadline = time.monotonic() + seconds
        at = after
        while True:
            for line in self.lines[at:]:
                at += 1
                if re.search(pattern, line):
                    return line
            left = deadline - time.monotonic()
            if left <= 0 or (self._ended and at >= len(self.lines)):
                raise AssertionError(f"{self.name} never wrote /{pattern}/:\n{self.log}")
            self.wait_change(at, seconds=left)

    def kill(self) -> None:
        """kill -9 of this process alone, and wait for its end. Nothing if it has ended."""
        self.signal(signal.SIGKILL)
        self.wait()

    def signal(self, number: int) -> None:
        """Send a signal to this process alone."""
        if self.running:
            os.kill(self.pid, number)

    def terminate(self, *, seconds: float = WAIT_SECONDS) -> int:
        """SIGTERM, then wait; the exit code."""
        self.signal(signal.SIGTERM)
        return self.wait(seconds=seconds)

    def wait(self, *, seconds: float = WAIT_SECONDS) -> int:
        """Wait for its end; the exit code, negative for a signal.

        Raises:
            AssertionError: still running after ``seconds``; the message shows the log.
        """
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"{self.name} still runs after {seconds} s:\n{self.log}") from None

    def children(self) -> list[int]:
        """Process ids of its direct children: the runners of a subworker. Linux only."""
        found: set[int] = set()
        for listing in Path(f"/proc/{self.pid}/task").glob("*/children"):
            try:
                found.update(map(int, listing.read_text().split()))
            except OSError:
                continue  # the thread, or the whole process, has just ended
        return sorted(found)

    def close(self) -> None:
        """End it whatever it does, and collect the rest of its output."""
        for pid in [*self.children(), self.pid]:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        self.process.wait(WAIT_SECONDS)
        self._reader.join(WAIT_SECONDS)
