"""Fixtures for tests of applications that use fastworker. Loaded by pytest by itself.

``fastworker_cluster``  (async) everything in the process of the test
``fastworker_client``   (async) a connected client of it
``fastworker_runtime``  the same in a background thread, for tests of every kind
``fastworker_options``  override it to choose how they are set up

In a Trio test the cluster runs in the test's own loop and on its clock; with pytest-trio's
``autojump_clock`` an hour passes in milliseconds. In an asyncio test it runs in a thread. What
does the work is in `fastworker.testing` and is imported when a fixture is used, not before.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from fastworker.client.client import Client
    from fastworker.testing import Cluster, ClusterOptions, Runtime


@pytest.fixture
def fastworker_options() -> ClusterOptions:
    """How the other fixtures are set up; override it in a test module or conftest.py."""
    from fastworker.testing.options import ClusterOptions

    return ClusterOptions()


@pytest.fixture
async def fastworker_cluster(
    fastworker_options: ClusterOptions,
) -> AsyncIterator[Cluster | Runtime]:
    """A control plane and a subworker for one async test; see `Cluster` and `Runtime`."""
    import sniffio

    from fastworker.testing import open_cluster, open_runtime

    if sniffio.current_async_library() == "trio":
        async with open_cluster(fastworker_options) as cluster:
            yield cluster
    else:
        with open_runtime(fastworker_options) as runtime:
            yield runtime


@pytest.fixture
async def fastworker_client(fastworker_cluster: Cluster | Runtime) -> AsyncIterator[Client]:
    """A client that is connected to ``fastworker_cluster``."""
    async with fastworker_cluster.client() as client:
        await client.wait_connected()
        yield client


@pytest.fixture
def fastworker_runtime(fastworker_options: ClusterOptions) -> Iterator[Runtime]:
    """A control plane and a subworker in a thread, for tests without an async fixture."""
    from fastworker.testing import open_runtime

    with open_runtime(fastworker_options) as runtime:
        yield runtime
