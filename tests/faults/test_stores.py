"""Stores that are taken, damaged, replaced, foreign, read-only or half made; backups under load."""

from __future__ import annotations

import os
import random
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Final

import pytest
import trio

from fastworker import TaskStatus
from fastworker.core.records import JobView
from fastworker.errors import FastWorkerError, StoreUnusable
from fastworker.store.folder import DATABASE
from fastworker.store.migrations import APPLICATION_ID, MIGRATIONS, checksum
from fastworker.store.sqlite import SqliteStore
from fastworker.wire.values import open_value
from tests.faults.images import started_plane
from tests.faults.machine import require
from tests.faults.report import REPORT, spread
from tests.faults.rounds import Rounds
from tests.faults.site import FaultSite, NewSite
from tests.faults.strace import SYNCS, WRITES, injecting
from tests.faults.witness import Told, Witness
from tests.support.process import Member

LOCKED: Final = 75
UNUSABLE: Final = 65
CANNOT_CREATE: Final = 73
REFUSE_SECONDS: Final = 2.0
"""From the start of a process to its refusal."""
NOTICE_SECONDS: Final = 5.0
"""From a store that is taken away to the end of its control plane."""
NEVER: Final = (TaskStatus.FAILURE, TaskStatus.CANCELLED, TaskStatus.EXPIRED)
"""No job of the undamaged store ended like this."""
HINT: Final = re.compile(r"backup|salvage|--store|upgrade|put it back|delete the whole folder")
"""Every refusal says what to try."""
ANY_CALL: Final = f"{SYNCS},{WRITES},openat,rename,unlink"


def refused(site: FaultSite, *flags: str) -> tuple[Member, float]:
    """Start a control plane that is to refuse; with it, the seconds until it has ended."""
    begun = time.monotonic()
    plane = site.launch_plane(*flags)
    plane.wait()
    return plane, time.monotonic() - begun


def test_c11_second_control_plane_on_one_store(site: FaultSite, rounds: Rounds) -> None:
    first = site.start_plane()
    took: list[float] = []
    base = ("--base-address", "tcp://127.0.0.1:0", "--discovery-address", "tcp://127.0.0.1:0")
    for _ in range(rounds.of("C11 second control planes", ci=1, full=20)):
        second, seconds = refused(site, *base)
        took.append(seconds)
        assert second.wait() == LOCKED, second.log
        assert f"process {first.pid} " in second.log
    REPORT.figures.append(f"C11 second control plane refused, {spread(took)}")
    assert max(took) <= REFUSE_SECONDS * site.patience, spread(took)
    assert first.running


def test_c17_damaged_database_or_journal(site: FaultSite, rounds: Rounds) -> None:
    site.start_plane()
    site.start_worker("one")
    told = Witness(site.address, site.token, site.random).run(60)
    site.plane.kill()  # so that there is a journal
    outcomes: Counter[str] = Counter()
    for number in range(rounds.of("C17 damaged stores", ci=40, full=1_000)):
        folder = site.folder / "damaged"
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(site.store, folder)
        what = _damage(folder, site.random)
        try:
            trio.run(_check_damaged, folder, told)
        except StoreUnusable as refusal:
            assert HINT.search(str(refusal)), refusal
            outcomes["refused"] += 1
        except Exception as error:
            error.add_note(f"damage {number}: {what}")
            raise
        else:
            outcomes["started"] += 1
    REPORT.figures.append(f"C17 damaged stores: {dict(outcomes)}, no wrong result")
    assert outcomes.total() == outcomes["refused"] + outcomes["started"]


def _damage(folder: Path, chooser: random.Random) -> str:
    """One fault of a disk in the database or its journal; what it was."""
    file = chooser.choice([folder / DATABASE, folder / f"{DATABASE}-wal"])
    content = bytearray(file.read_bytes())
    at = chooser.randrange(len(content))
    kind = chooser.choice(("bit", "bytes", "zeros", "truncated", "swapped"))
    match kind:
        case "bit":
            content[at] ^= 1 << chooser.randrange(8)
        case "bytes":
            content[at : at + 16] = chooser.randbytes(min(16, len(content) - at))
        case "zeros":
            start = at // 4096 * 4096
            content[start : start + 4096] = bytes(min(4096, len(content) - start))
        case "truncated":
            del content[at:]
        case "swapped":
            other = chooser.randrange(len(content)) // 512 * 512
            start = at // 512 * 512
            one, two = content[start : start + 512], content[other : other + 512]
            content[start : start + len(two)], content[other : other + len(one)] = two, one
    file.write_bytes(content)
    return f"{kind} at {at} of {file.name}"


async def _check_damaged(folder: Path, told: list[Told]) -> None:
    async with started_plane(folder) as plane:
        keys = {each.id: each.key for each in told}
        views = await plane.store.views(list(keys))
    for view in views:
        _check_not_wrong(view, keys[view.id])


def _check_not_wrong(view: JobView, key: str) -> None:
    """No job has ended in another way than it did; a result that can be opened is the right one."""
    assert view.status not in NEVER, f"a wrong end: {view}"
    if view.status is not TaskStatus.SUCCESS or view.value is None:
        return
    try:
        value = open_value(view.value)
    except FastWorkerError:
        return  # its checksum tells the client
    assert value == f"done {key}", f"a wrong result: {view}"


def test_c17_damaged_arguments(site: FaultSite) -> None:
    site.least_accepted = 0
    site.start_plane()
    with site.client() as client:
        task_id = client.submit("in_thread", "damaged", 0.0, bytes(1_000)).id
    site.plane.kill()
    with sqlite3.connect(site.store / DATABASE) as database:
        ((key, payload),) = database.execute("SELECT key, payload FROM payloads").fetchall()
        flipped = payload[:-100] + bytes([payload[-100] ^ 4]) + payload[-99:]
        database.execute("UPDATE payloads SET payload = ? WHERE key = ?", (flipped, key))
    database.close()
    site.start_plane()
    site.start_worker("one")
    with site.client() as client:
        result = client.handle(task_id).wait(timeout=30)
    assert (result.status, result.reason) == (TaskStatus.DEAD, "corrupt"), result
    assert not site.effects().starts


def _remove(store: Path) -> None:
    (store / DATABASE).unlink()


def _move(store: Path) -> None:
    store.rename(store.with_name("moved"))


def _replace(store: Path) -> None:
    copy = store / "copy"
    shutil.copy(store / DATABASE, copy)
    copy.rename(store / DATABASE)


def _empty(store: Path) -> None:
    with (store / DATABASE).open("r+b") as file:
        file.truncate(0)


@pytest.mark.parametrize("take_away", [_remove, _move, _replace, _empty])
def test_c18_store_taken_away_while_running(
    sites: NewSite, rounds: Rounds, take_away: Callable[[Path], None]
) -> None:
    took: list[float] = []
    what = take_away.__name__.strip("_")
    if what != "remove":
        rounds.only_full(f"C18 {what}", instead="C18 remove")
    for _ in range(rounds.of(f"C18 store {what}d", ci=1, full=5)):
        with sites() as site:
            site.start_plane()
            site.start_worker("one")
            seconds, told, taken_at = _take_away_under_load(site, take_away)
            took.append(seconds)
            late = [each for each in told if each.acked_at and each.sent_at > taken_at]
            assert not late, f"accepted into a store that was gone: {late}"
            assert site.plane.wait() == UNUSABLE, site.plane.log
            assert HINT.search(site.plane.log), site.plane.log
    REPORT.figures.append(f"C18 store {what}d: exit {UNUSABLE} after {spread(took)}")
    assert max(took) <= NOTICE_SECONDS * site.patience, spread(took)


def _take_away_under_load(
    site: FaultSite, take_away: Callable[[Path], None]
) -> tuple[float, list[Told], float]:
    witness = Witness(site.address, site.token, site.random, submit_seconds=1.0)
    submitting = threading.Thread(target=witness.run, args=(2_000,), kwargs={"wait_results": False})
    submitting.start()
    try:
        site.pause(0.3, 0.8)
        take_away(site.store)
        taken_at, begun = time.time(), time.monotonic()
        site.plane.wait(seconds=NOTICE_SECONDS * site.patience)
        return time.monotonic() - begun, witness.told, taken_at
    finally:
        witness.stop()
        submitting.join()


@pytest.mark.quiet
def test_c19_folder_that_cannot_be_used(site: FaultSite) -> None:
    require("C19", "mounts")
    read_only = site.folder / "read-only"
    read_only.mkdir()
    (site.folder / "a-file").write_text("")
    subprocess.run(("mount", "-t", "tmpfs", "-o", "ro", "tmpfs", read_only), check=True)
    try:
        for store in (read_only, read_only / "below", site.folder / "a-file" / "below"):
            site.store = store
            plane, seconds = refused(site)
            assert plane.wait() == CANNOT_CREATE, plane.log
            assert str(store) in plane.log
            assert "Traceback" not in plane.log
            assert seconds <= REFUSE_SECONDS * site.patience
    finally:
        subprocess.run(("umount", read_only), check=True)


@pytest.mark.quiet
def test_c19_folder_of_somebody_else(site: FaultSite) -> None:
    require("C19 (wrong owner)", "root", "setpriv")
    site.store.mkdir(mode=0o755)
    os.chown(site.store, 65534, 65534)
    # Root without root's right to write everywhere is a user like any other.
    site.plane_prefix = ("setpriv", "--bounding-set", "-dac_override,-dac_read_search")
    plane, seconds = refused(site)
    assert plane.wait() == CANNOT_CREATE, plane.log
    assert "check its owner and mode" in plane.log
    assert seconds <= REFUSE_SECONDS * site.patience


def test_c19_new_store_is_private(site: FaultSite) -> None:
    old = os.umask(0)
    try:
        site.start_plane()
    finally:
        os.umask(old)
    modes = {path.name: path.stat().st_mode & 0o777 for path in site.store.iterdir()}
    del modes[".gitignore"]
    assert set(modes.values()) == {0o600}, modes
    assert site.store.stat().st_mode & 0o777 == 0o700


@pytest.mark.quiet
@pytest.mark.parametrize(
    "change",
    ["PRAGMA user_version = 999", "PRAGMA application_id = 77", "UPDATE migrations SET checksum=1"],
)
def test_c20_newer_or_foreign_store_is_refused(
    site: FaultSite, rounds: Rounds, change: str
) -> None:
    if "user_version" not in change:
        rounds.only_full(f"C20 {change}", instead="tests/store/test_migrations.py")
    SqliteStore(site.store, durability="power").close()
    with sqlite3.connect(site.store / DATABASE) as database:
        database.execute(change)
    database.close()
    before = (site.store / DATABASE).read_bytes()
    plane, seconds = refused(site)
    assert plane.wait() == UNUSABLE, plane.log
    assert HINT.search(plane.log), plane.log
    assert seconds <= REFUSE_SECONDS * site.patience
    assert (site.store / DATABASE).read_bytes() == before


def _make_first_version(folder: Path) -> None:
    """A store as the first step of the migrations leaves it."""
    folder.mkdir(mode=0o700)
    with sqlite3.connect(folder / DATABASE) as database:
        database.execute("PRAGMA journal_mode = WAL")
        for statement in MIGRATIONS[0]:
            database.execute(statement)
        database.execute("INSERT INTO migrations VALUES (1, ?)", (checksum(1),))
        database.execute("INSERT INTO lanes VALUES (1, 't', 'q', 1, 'task')")
        database.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        database.execute("PRAGMA user_version = 1")
    database.close()


@pytest.mark.parametrize("old", [False, True], ids=["new store", "old store"])
def test_c20_killed_while_a_store_is_made_or_migrated(
    tmp_path: Path, seed: int, rounds: Rounds, old: bool
) -> None:
    require("C20", "strace")
    chooser = random.Random(seed)
    last = 90
    count = rounds.of("C20 kills during migration", ci=3, full=last)
    killed = 0
    for point in sorted(chooser.sample(range(1, last + 1), min(count, last))):
        folder = tmp_path / f"store{point}"
        if old:
            _make_first_version(folder)
        killed += _kill_while_opening(folder, point) == -signal.SIGKILL
        _check_old_or_new(folder, old=old)
        store = SqliteStore(folder, durability="power")
        lanes = store.load().lanes
        store.close()
        assert len(lanes) == int(old), "what was in the store is still there"
        assert _version(folder) == len(MIGRATIONS)
    assert killed or rounds.given != "full", "no call was hit"


def _kill_while_opening(folder: Path, point: int) -> int:
    program = (
        "import sys; from pathlib import Path; from fastworker.store.sqlite import SqliteStore\n"
        "import os; os.write(2, b'')\n"
        "SqliteStore(Path(sys.argv[1]), durability='power').close()"
    )
    kinds = (f"{SYNCS},{WRITES}", "rename,unlink,fdatasync", "pwrite64")
    prefix = injecting(kinds[point % len(kinds)], f"signal=KILL:when={1 + point // len(kinds)}")
    root = Path(__file__).parents[2]
    environment = {**os.environ, "PYTHONPATH": str(root)}
    return subprocess.run(
        (*prefix, sys.executable, "-c", program, folder), env=environment
    ).returncode


def _version(folder: Path) -> int:
    database = sqlite3.connect(folder / DATABASE)
    try:
        return int(database.execute("PRAGMA user_version").fetchone()[0])
    finally:
        database.close()


def _check_old_or_new(folder: Path, *, old: bool) -> None:
    if (folder / DATABASE).exists():
        assert _version(folder) in ({1, len(MIGRATIONS)} if old else {len(MIGRATIONS)})


def test_c21_backup_while_busy(site: FaultSite, rounds: Rounds) -> None:
    site.start_all("one")
    for number in range(rounds.of("C21 backups", ci=1, full=20)):
        told = Witness(site.address, site.token, site.random).run(10, wait_results=False)
        site.note_told(told)
        copy = site.folder / f"backup{number}.db"
        _back_up(site, copy)
        folder = site.folder / f"copy{number}"
        folder.mkdir()
        shutil.copy(copy, folder / DATABASE)
        kept = trio.run(_known, folder, [each.id for each in told])
        assert kept == {each.id for each in told}, "a backup lacks what was acknowledged before it"
    site.check_standing()


async def _known(folder: Path, ids: list[bytes]) -> set[bytes]:
    async with started_plane(folder) as plane:
        return {view.id for view in await plane.store.views(ids)}


def _back_up(site: FaultSite, copy: Path) -> None:
    ended = subprocess.run(
        (sys.executable, "-m", "fastworker", "store", "backup", copy, "--store", site.store),
        env=site.environment(),
        cwd=site.folder,
        capture_output=True,
        text=True,
    )
    assert ended.returncode == 0, ended
