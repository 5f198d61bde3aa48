"""``fastworker store``: answers and exit codes, beside a control plane and without one."""

from __future__ import annotations

import json
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from fastworker import BlockingClient, StorageFull
from fastworker.cli.main import main
from fastworker.core.records import BacklogRow, Saves
from fastworker.store.opening import open_store
from tests.store.builders import LANE, make_finish, make_job
from tests.support.cluster import Cluster
from tests.support.process import Member

TASKS = '''\
"""A task that ends when it is told to."""
import os
import time

from fastworker import task


@task
def hold(folder: str, number: int) -> int:
    open(os.path.join(folder, f"started-{number}"), "w").close()
    while not os.path.exists(os.path.join(folder, "go")):
        time.sleep(0.02)
    return number


@task
def keep(data: bytes) -> int:
    return len(data)
'''


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A closed store with a job that waits and one that has ended."""
    folder = tmp_path / "store"
    store = open_store(folder, "power")
    jobs = [make_job(1), make_job(2)]
    saves = Saves(lanes=[LANE], inserts=jobs, finishes=[make_finish(2)], key_ceiling=9)
    saves.token_ceiling = 9
    saves.backlogs = [BacklogRow("default", 1, 9)]
    store.save(saves)
    store.close()
    return folder


def run(folder: Path, *arguments: str | Path, code: int = 0) -> None:
    command = ["store", *map(str, arguments), "--store", str(folder)]
    assert main(command) == code


def test_info_is_a_table_or_json(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(folder, "info")
    out = capsys.readouterr().out
    assert "jobs        1 queued, 1 success" in out and "queues      1 default" in out
    run(folder, "info", "--json")
    record = json.loads(capsys.readouterr().out)
    assert record["jobs"]["queued"] == 1 and record["results"] == 1
    assert record["oldest_job"].endswith("+00:00")


def test_the_folder_comes_from_the_settings(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FASTWORKER_STORE", str(folder))
    assert main(["store", "check"]) == 0
    assert f"{folder} is sound" in capsys.readouterr().out


def test_check_exits_65_if_the_store_is_not_sound(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with (folder / "fastworker.db").open("r+b") as file:
        file.seek(3 * 4096)
        file.write(b"\xff" * 4096)
    run(folder, "check", code=65)
    assert "fastworker store restore" in capsys.readouterr().err
    run(folder / "none", "check", code=65)
    assert "there is no store" in capsys.readouterr().err


def test_backup_and_restore(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = tmp_path / "copy.db"
    run(folder, "backup", copy)
    assert f"{copy}: {copy.stat().st_size} bytes, verified" in capsys.readouterr().out
    run(folder, "backup", copy, code=73)
    assert "give --force" in capsys.readouterr().err
    run(folder, "backup", copy, "--force")
    run(folder, "backup", tmp_path / "none" / "copy.db", code=73)
    store = open_store(folder, "power")
    run(folder, "restore", copy, code=75)
    assert "held by process" in capsys.readouterr().err
    store.close()
    run(folder, "restore", copy)
    said = capsys.readouterr()
    assert f"{folder} is restored from {copy}" in said.out and "replaced-" in said.err
    run(folder, "check")


def test_prune_counts_and_removes(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(folder, "prune", "--older-than", "99999")
    assert capsys.readouterr().out.startswith("removed: 0 outcomes")
    run(folder, "prune", "--older-than", "1", "--dry-run", "--json")
    assert json.loads(capsys.readouterr().out) == {"outcomes": 1, "ids": 0}
    run(folder, "prune", "--older-than", "1", "--vacuum")
    assert "removed: 1 outcomes" in capsys.readouterr().out
    run(folder, "check")


# --- beside a control plane -------------------------------------------------------------------


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    with Cluster(tmp_path, tasks=TASKS) as cluster:
        yield cluster


def client_of(cluster: Cluster) -> BlockingClient:
    return BlockingClient(control_plane_address=cluster.address, token=cluster.token)


def take_away(store: Path, how: str) -> None:
    match how:
        case "rm":
            shutil.rmtree(store)
        case "mv":
            store.rename(store.with_name("elsewhere"))
        case _:
            other = store.with_name("other")
            open_store(other, "power").close()
            shutil.copyfile(other / "fastworker.db", store / "fastworker.db")


@pytest.mark.process
@pytest.mark.parametrize("how", ["rm", "mv", "cp over"])
def test_an_idle_control_plane_notices_that_its_store_is_taken_away(
    cluster: Cluster, how: str
) -> None:
    member = cluster.control_plane()
    take_away(cluster.folder / "store", how)
    assert member.wait(seconds=5) == 65
    assert "restore" in member.lines[-1] and "was " in member.lines[-1]


@pytest.mark.process
def test_a_store_in_use_is_read_and_copied_but_not_changed(
    cluster: Cluster, capsys: pytest.CaptureFixture[str]
) -> None:
    member = cluster.control_plane()
    assert any("durability power" in line for line in member.lines)
    store, copy = cluster.folder / "store", cluster.folder / "copy.db"
    with client_of(cluster) as client:
        for _ in range(3):
            client.apply("keep", (b"data",), {})
        run(store, "info", "--json")
        assert json.loads(capsys.readouterr().out)["queues"] == {"default": 3}
        run(store, "check")
        run(store, "backup", copy)
        capsys.readouterr()
        for command in (["restore", copy], ["prune"]):
            run(store, *command, code=75)
            assert f"held by process {member.pid}" in capsys.readouterr().err
    assert member.terminate() == 0
    run(store, "restore", copy)
    run(store, "info", "--json")


def mount(folder: Path) -> None:
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=40m", "tmpfs", str(folder)]
    mounted = subprocess.run(command, capture_output=True, text=True, check=False)
    if mounted.returncode:
        pytest.skip(f"a small disk cannot be mounted here: {mounted.stderr.strip()}")


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / "disk"
    mount(path)
    yield path
    subprocess.run(["umount", "--lazy", str(path)], check=True)


def fill(disk: Path) -> None:
    with (disk / "filler").open("wb", buffering=0) as filler, suppress(OSError):
        while filler.write(bytes(4096)):
            pass


def submit_until_full(client: BlockingClient) -> None:
    """Jobs for a queue that nobody serves, so that their arguments stay."""
    with pytest.raises(StorageFull):
        for _ in range(2000):
            client.apply("keep", (bytes(50_000),), {}, queue="nobody")


def wait_for_files(folder: Path, pattern: str, count: int) -> None:
    deadline = time.monotonic() + 20
    while len(list(folder.glob(pattern))) < count:
        assert time.monotonic() < deadline, f"{count} of {pattern}"
        time.sleep(0.02)


def seconds_until_accepted(client: BlockingClient) -> float:
    begun = time.monotonic()
    while time.monotonic() < begun + 20:
        with suppress(StorageFull):
            client.apply("keep", (b"",), {}, queue="nobody")
            return time.monotonic() - begun
        time.sleep(0.05)
    raise AssertionError("never accepted again")


def started(cluster: Cluster, disk: Path) -> Member:
    member = cluster.control_plane("--store", str(disk / "store"))
    cluster.subworker("sw1", "--queues", "default")
    return member


@pytest.mark.process
def test_a_full_disk_refuses_jobs_keeps_outcomes_and_is_over_when_freed(
    cluster: Cluster, disk: Path
) -> None:
    member = started(cluster, disk)
    with client_of(cluster) as client:
        running = [client.apply("hold", (str(cluster.folder), n), {}) for n in range(10)]
        wait_for_files(cluster.folder, "started-*", 10)
        fill(disk)
        submit_until_full(client)
        (cluster.folder / "go").touch()
        assert [job.result(timeout=20) for job in running] == list(range(10))
        (disk / "filler").unlink()
        assert seconds_until_accepted(client) <= 5
        run(disk / "store", "check")
    assert member.terminate() == 0
