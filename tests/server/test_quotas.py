"""Quotas with real processes, as tenants and operators meet them."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import trio

from fastworker import Client, ControlPlaneUnavailable, Overloaded, Rejected, TenantState
from fastworker.cli.main import main
from fastworker.store.care import check
from tests.support.cluster import COMMAND, Cluster

pytestmark = [pytest.mark.process, pytest.mark.slow, pytest.mark.trio]

PATIENCE_SECONDS = 20.0


class Shop:
    """A cluster with a tenant ``shop``, and its operator."""

    def __init__(self, cluster: Cluster, capsys: pytest.CaptureFixture[str], quota: str) -> None:
        self.cluster = cluster
        self._tokens = cluster.folder / "issued.json"
        named = ("--name", "shop", "--role", "submit", "--tenant", "shop")
        assert main(["token", "create", *named, "--tokens-file", str(self._tokens)]) == 0
        self.token = capsys.readouterr().out.strip()
        self._quota = quota
        self.plane = self.start()

    def start(self) -> Any:
        flags = ("--tokens-file", str(self._tokens), "--tenants", self._quota)
        self.plane = self.cluster.control_plane(*flags)
        return self.plane

    def client(self, **arguments: Any) -> Client:
        return Client(control_plane_address=self.cluster.address, token=self.token, **arguments)

    async def tenants(self) -> dict[str, dict[str, Any]]:
        """What the operator sees."""
        ended = await trio.run_process(
            [*COMMAND, "tenants", "--json"],
            env=self.cluster.client_environment(),
            cwd=self.cluster.folder,
            capture_stdout=True,
        )
        return {row["tenant"]: row for row in json.loads(ended.stdout)}


def operator_of(shop: Shop) -> Client:
    return Client(control_plane_address=shop.cluster.address, token=shop.cluster.token)


@pytest.fixture
def open_shop(cluster: Cluster, capsys: pytest.CaptureFixture[str]) -> Callable[[str], Shop]:
    return lambda quota: Shop(cluster, capsys, quota)


async def test_a_full_quota_refuses_and_is_exact_after_a_kill(
    open_shop: Callable[[str], Shop], tmp_path: Path
) -> None:
    shop = open_shop("shop:max-queued-jobs=20,max-queued-bytes=1MiB")
    async with shop.client(submit_timeout=0.5) as client:
        with pytest.raises(Rejected, match="these are 21 jobs, and tenant 'shop' may let 20 wait"):
            await client.submit_many("add", [(n, n) for n in range(21)])
        handles = await client.submit_many("add", [(n, n) for n in range(20)])
        with pytest.raises(Overloaded, match="20 jobs of tenant 'shop' wait already"):
            await client.delay("add", 1, 1)
        # Nobody else is held up.
        async with operator_of(shop) as operator:
            await operator.submit_many("add", [(n, n) for n in range(30)])
        before = await shop.tenants()
        assert (before["shop"]["queued"], before["default"]["queued"]) == (20, 30)
        shop.plane.kill()
        shop.start()
        after = await shop.tenants()
        assert [after[name]["queued_bytes"] for name in ("shop", "default")] == [
            before[name]["queued_bytes"] for name in ("shop", "default")
        ]
        shop.cluster.subworker("sw1")
        with trio.fail_after(PATIENCE_SECONDS):
            assert [await handle.result() for handle in handles] == [2 * n for n in range(20)]
        assert await client.tenants() == [
            TenantState("shop", 0, 0, 1, 1, 20, 1024**2, None, None),
        ]
    shop.cluster.close()
    assert check(tmp_path / "store").problems == []


async def test_who_submits_too_fast_waits_and_succeeds(open_shop: Callable[[str], Shop]) -> None:
    shop = open_shop("shop:max-submissions-per-second=20")
    async with shop.client() as client:
        began = time.monotonic()
        async with trio.open_nursery() as nursery:
            for number in range(40):
                nursery.start_soon(client.delay, "add", number, number)
        took = time.monotonic() - began
        assert took + 0.05 >= 1.0 and took < PATIENCE_SECONDS
        with trio.fail_after(PATIENCE_SECONDS):
            await client.submit_many("add", [(n, n) for n in range(20)])
    assert (await shop.tenants())["shop"]["queued"] == 60


async def test_connections_beyond_the_quota_are_refused_until_one_closes(
    open_shop: Callable[[str], Shop],
) -> None:
    shop = open_shop("shop:max-connections=2")
    third = shop.client(submit_timeout=PATIENCE_SECONDS)
    async with shop.client() as first:
        async with shop.client() as second:
            await second.delay("add", 1, 1)
            with pytest.raises(ControlPlaneUnavailable, match="has 2 connections and may have 2"):
                async with shop.client(submit_timeout=0.5) as refused:
                    await refused.delay("add", 2, 2)
            assert (await shop.tenants())["shop"]["connections"] == 2
            async with trio.open_nursery() as nursery:

                @nursery.start_soon
                async def come_later() -> None:
                    async with third:
                        await third.delay("add", 3, 3)

                await trio.sleep(0.5)
                await second.stop()
        await first.delay("add", 4, 4)
    assert (await shop.tenants())["shop"]["queued"] == 3
    # It backed off: a few tries, and a line or two about them.
    assert shop.plane.log.count("may have 2") <= 4
