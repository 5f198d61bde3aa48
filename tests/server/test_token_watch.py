"""A running control plane follows the file of issued tokens and the time."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
import trio

from fastworker.core.tenants import Tenants
from fastworker.errors import AuthenticationFailed, InvalidOption
from fastworker.server import token_watch
from fastworker.server.connections import Connection, Connections
from fastworker.server.identities import IssuedToken
from fastworker.server.identity import Identity, Role
from fastworker.server.settings import ControlPlaneSettings
from fastworker.server.token_file import change_tokens
from fastworker.server.token_watch import TokenWatch

pytestmark = pytest.mark.trio

SHARED = {"ops": "ops." + "o" * 40}
WEB = IssuedToken("web." + "w" * 40, Identity("web", "shop", frozenset({Role.SUBMIT})))
APP = IssuedToken("app." + "a" * 40, Identity("app", "shop", frozenset({Role.SUBMIT}), 1000.0))


@dataclass
class Site:
    """A watch on a file, with connections of three identities."""

    file: Path
    now: float = 0.0
    connections: Connections = field(default_factory=lambda: Connections(Tenants()))
    watch: TokenWatch = field(init=False)
    ended: dict[str, AuthenticationFailed] = field(default_factory=dict)
    _changed: trio.Event = field(default_factory=trio.Event)

    def __post_init__(self) -> None:
        settings = ControlPlaneSettings(tokens=SHARED, tokens_file=self.file)
        self.watch = TokenWatch(settings, lambda: self.now)

    async def hold(self, token_id: str) -> None:
        connection = Connection(self.watch.identities.identity(token_id), None)
        with self.connections.standing(connection), connection.scope:
            await trio.sleep_forever()
        assert isinstance(connection.ended_for, AuthenticationFailed)
        self.ended[token_id] = connection.ended_for
        self._changed.set()

    async def wait_ended(self, *names: str) -> None:
        with trio.fail_after(5):
            while set(self.ended) != set(names):
                self._changed = trio.Event()
                await self._changed.wait()


@pytest.fixture
async def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Site]:
    monkeypatch.setattr(token_watch, "LOOK_EVERY_SECONDS", 0.01)
    file = tmp_path / "tokens.json"
    change_tokens(file, lambda tokens: [WEB, APP])
    site = Site(file)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(site.watch.serve_forever, site.connections)
        for name in ("ops", "web", "app"):
            nursery.start_soon(site.hold, name)
        await trio.testing.wait_all_tasks_blocked()
        yield site
        nursery.cancel_scope.cancel()


async def looks(site: Site) -> None:
    """Until it has looked at least once more."""
    await trio.sleep(0.1)


async def test_a_revoked_token_ends_its_connections_and_no_others(site: Site) -> None:
    change_tokens(site.file, lambda tokens: [APP])
    await site.wait_ended("web")
    assert "was revoked" in str(site.ended["web"])
    assert site.watch.identities.key("web") is None and site.watch.identities.key("app")


async def test_an_expired_token_ends_its_connections(site: Site) -> None:
    site.now = 999.0
    await looks(site)
    assert not site.ended
    site.now = 1000.5
    await site.wait_ended("app")


async def test_a_file_that_was_removed_revokes_all_but_the_shared_token(site: Site) -> None:
    site.file.unlink()
    await site.wait_ended("web", "app")


async def test_other_roles_are_taken_up_with_the_next_connection(site: Site) -> None:
    identity = replace(WEB.identity, roles=frozenset({Role.READ}))
    change_tokens(site.file, lambda tokens: [APP, replace(WEB, identity=identity)])
    await site.wait_ended("web")
    assert site.watch.identities.identity("web").roles == {Role.READ}


async def test_a_file_that_breaks_is_said_once_and_changes_nothing(
    site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.ERROR, "fastworker.server"):
        site.file.write_text("{")
        await looks(site)
    assert not site.ended and site.watch.identities.key("web")
    (line,) = caplog.messages
    assert "is not JSON" in line and "stay as they are" in line
    change_tokens_anew(site.file)
    await site.wait_ended("web")


def change_tokens_anew(file: Path) -> None:
    file.unlink()
    change_tokens(file, lambda tokens: [APP])


async def test_an_issued_token_with_the_id_of_the_shared_one_is_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "tokens.json"
    twin = IssuedToken("ops." + "x" * 40, Identity("ops", "shop", frozenset({Role.SUBMIT})))
    change_tokens(file, lambda tokens: [twin])
    with caplog.at_level(logging.WARNING, "fastworker.server"):
        TokenWatch(ControlPlaneSettings(tokens=SHARED, tokens_file=file), lambda: 0.0)
    assert "has the id of the shared token" in caplog.text and "x" * 40 not in caplog.text


async def test_d47_a_file_that_others_can_read_keeps_it_from_starting(tmp_path: Path) -> None:
    file = tmp_path / "tokens.json"
    change_tokens(file, lambda tokens: [APP])
    file.chmod(0o644)
    with pytest.raises(InvalidOption, match="chmod 600"):
        TokenWatch(ControlPlaneSettings(tokens=SHARED, tokens_file=file), lambda: 0.0)
