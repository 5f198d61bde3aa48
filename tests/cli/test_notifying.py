"""What a service manager hears: over a real socket, and from real processes."""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from datetime import timedelta
from pathlib import Path

import pytest
import trio

from fastworker.cli.notifying import Notifier, run_notifying
from fastworker.config.service import ServiceManager, take_service_manager
from fastworker.errors import StoreLocked
from tests.support.cluster import Cluster
from tests.support.process import WAIT_SECONDS

READY, STOPPING, BEAT = "READY=1", "STOPPING=1", "WATCHDOG=1"


class Manager:
    """Hears what services say, on a socket of its own, as soon as they say it."""

    def __init__(self, listener: socket.socket) -> None:
        self._socket = listener
        self._said = threading.Condition()
        self.heard: list[str] = []
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        with suppress(OSError):  # closed
            while said := self._socket.recv(4096):
                with self._said:
                    self.heard += said.decode().split("\n")
                    self._said.notify_all()

    def wait_for(self, line: str, times: int = 1) -> None:
        """Wait until this line was said so often."""
        with self._said:
            assert self._said.wait_for(lambda: self.heard.count(line) >= times, WAIT_SECONDS)

    def falls_silent(self, length: timedelta) -> bool:
        """Whether nothing is said for so long, sooner or later."""
        with self._said:
            silent = False
            ends_at = time.monotonic() + WAIT_SECONDS
            while not silent and time.monotonic() < ends_at:
                silent = not self._said.wait(length.total_seconds())
            return silent


@contextmanager
def service_manager(path: Path) -> Iterator[Manager]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(str(path))
        yield Manager(listener)
        listener.shutdown(socket.SHUT_RDWR)


def variables(path: Path, watchdog: timedelta | None = None) -> dict[str, str]:
    given = {"NOTIFY_SOCKET": str(path)}
    if watchdog is not None:
        given["WATCHDOG_USEC"] = str(watchdog // timedelta(microseconds=1))
    return given


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({}, None),
        ({"NOTIFY_SOCKET": "relative"}, None),
        ({"NOTIFY_SOCKET": "vsock:2:1234"}, None),
        ({"NOTIFY_SOCKET": "/run/x", "WATCHDOG_USEC": "x"}, ServiceManager("/run/x", None)),
        ({"NOTIFY_SOCKET": "@x", "WATCHDOG_USEC": "0"}, ServiceManager("@x", None)),
        (
            {"NOTIFY_SOCKET": "/run/x", "WATCHDOG_USEC": "3000000", "WATCHDOG_PID": "1"},
            ServiceManager("/run/x", None),
        ),
        (
            {"NOTIFY_SOCKET": "/x", "WATCHDOG_USEC": "3000000", "WATCHDOG_PID": str(os.getpid())},
            ServiceManager("/x", timedelta(seconds=3)),
        ),
    ],
)
def test_the_environment_says_who_wants_to_hear_and_is_cleared(
    environ: dict[str, str], expected: ServiceManager | None
) -> None:
    environ["PATH"] = "/bin"
    assert take_service_manager(environ) == expected
    assert environ == {"PATH": "/bin"}


def test_a_manager_in_the_abstract_namespace_can_be_told() -> None:
    name = f"fastworker-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind("\0" + name)
        listener.settimeout(WAIT_SECONDS)
        Notifier(ServiceManager("@" + name, None)).started()
        assert READY.encode() in listener.recv(4096)


def test_a_manager_that_is_gone_is_mentioned_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    notifier = Notifier(ServiceManager(str(tmp_path / "nobody"), None))
    notifier.started()
    notifier.stopping()
    assert len(caplog.records) == 1 and "service manager" in caplog.text


def test_one_that_does_not_read_holds_nobody_up(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(str(tmp_path / "notify"))
        notifier = Notifier(ServiceManager(str(tmp_path / "notify"), None))
        for _ in range(10_000):
            notifier.started()


def test_the_servers_error_comes_out_as_it_is() -> None:
    async def locked(notifier: Notifier) -> int:
        raise StoreLocked("somebody has it")

    with pytest.raises(StoreLocked):
        trio.run(run_notifying, locked, None)


def test_without_a_manager_nothing_is_said(caplog: pytest.LogCaptureFixture) -> None:
    async def serve(notifier: Notifier) -> int:
        notifier.started()
        notifier.stopping()
        return 3

    assert trio.run(run_notifying, serve, None) == 3
    assert not caplog.records


@pytest.mark.process
@pytest.mark.skipif(os.name != "posix", reason="service managers speak over Unix sockets")
def test_control_plane_and_subworker_say_ready_alive_and_stopping(
    cluster: Cluster, tmp_path: Path
) -> None:
    common = ("--token-file", str(cluster.token_file), "--task-modules", cluster.module)
    commands = {
        "control-plane": (
            *("--base-address", cluster.address, "--discovery-address", cluster.discovery_address),
            *("--store", str(tmp_path / "store"), "--local-worker", "never"),
        ),
        "subworker": ("--control-plane-address", cluster.address),
    }
    with ExitStack() as sockets:
        running = []
        for name, flags in commands.items():
            manager = sockets.enter_context(service_manager(tmp_path / name))
            given = variables(tmp_path / name, timedelta(seconds=0.4))
            member = cluster.start(name, "run", name, *flags, *common, extra=given)
            manager.wait_for(READY)
            assert STOPPING not in manager.heard
            manager.wait_for(BEAT, times=3)
            running.append((member, manager))
        for member, manager in reversed(running):
            assert member.terminate() == 0
            manager.wait_for(STOPPING)
            assert manager.heard.count(STOPPING) == manager.heard.count(READY) == 1


@pytest.mark.process
@pytest.mark.slow
def test_one_that_hangs_is_not_heard_any_more(cluster: Cluster, tmp_path: Path) -> None:
    with service_manager(tmp_path / "notify") as manager:
        plane = cluster.start(
            *("hanging", "run", "control-plane", "--local-worker", "never"),
            *("--base-address", cluster.address, "--discovery-address", cluster.discovery_address),
            *("--token-file", str(cluster.token_file), "--store", str(tmp_path / "store")),
            extra=variables(tmp_path / "notify", timedelta(seconds=0.4)),
        )
        manager.wait_for(BEAT)
        plane.process.send_signal(signal.SIGSTOP)
        assert manager.falls_silent(timedelta(seconds=1))
        beats = manager.heard.count(BEAT)
        plane.process.send_signal(signal.SIGCONT)
        manager.wait_for(BEAT, times=beats + 1)
