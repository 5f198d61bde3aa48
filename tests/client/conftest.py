"""Every test of the client runs in asyncio, in asyncio on uvloop, and in Trio."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest

from fastworker.client import ambient
from fastworker.client.client import Client
from tests.client.fake_control_plane import TOKEN, FakeControlPlane, open_fake_control_plane
from tests.client.sample_tasks import diary


@pytest.fixture(
    params=[
        pytest.param(("asyncio", {}), id="asyncio"),
        pytest.param(("asyncio", {"use_uvloop": True}), id="uvloop"),
        pytest.param(("trio", {}), id="trio"),
    ]
)
def anyio_backend(request: pytest.FixtureRequest) -> object:
    return request.param


@pytest.fixture(autouse=True)
def _clean_diary() -> None:
    diary.clear()


@pytest.fixture
async def plane(anyio_backend: object) -> AsyncIterator[FakeControlPlane]:
    async with open_fake_control_plane() as plane:
        yield plane


@pytest.fixture
async def client(plane: FakeControlPlane) -> AsyncIterator[Client]:
    async with Client(control_plane_address=plane.address, token=TOKEN, submit_timeout=5) as client:
        yield client


@pytest.fixture
def no_ambient() -> Iterator[None]:
    yield
    ambient.set_transport_opener(None)
    ambient.set_job_context(None)
    ambient.set_wait_hooks(None, None)
