"""The file of issued tokens: what is in it, who may read it, and what is no such file."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path

import pytest

from fastworker.errors import CannotCreate, FastWorkerError, InvalidOption
from fastworker.server.identities import IssuedToken
from fastworker.server.identity import Identity, Role
from fastworker.server.token_file import (
    change_tokens,
    check_issued,
    read_tokens,
    stamp_of,
)

SECRET = "s" * 40
SUBMIT = frozenset({Role.SUBMIT})


def token(
    name: str = "web", *, tenant: str = "shop", roles: frozenset[Role] = SUBMIT
) -> IssuedToken:
    return IssuedToken(f"{name}.{SECRET}", Identity(name, tenant, roles), created_at=1e9)


CERTIFICATE = IssuedToken(
    None, Identity("gpu", "*", frozenset({Role.WORKER}), 2e9), certificate="gpu.example"
)


def test_what_is_written_is_read_and_is_nobody_elses(tmp_path: Path) -> None:
    path = tmp_path / "tokens.json"
    assert read_tokens(path) == () and stamp_of(path) is None
    change_tokens(path, lambda tokens: (*tokens, token()))
    before = stamp_of(path)
    change_tokens(path, lambda tokens: (*tokens, CERTIFICATE))
    assert read_tokens(path) == (token(), CERTIFICATE)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stamp_of(path) != before
    assert list(tmp_path.iterdir()) == [path]


def test_a_change_that_is_refused_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "tokens.json"
    change_tokens(path, lambda tokens: [token()])
    with pytest.raises(FastWorkerError):
        change_tokens(path, lambda tokens: [*tokens, token("a b")])
    assert read_tokens(path) == (token(),)
    with pytest.raises(CannotCreate, match="--tokens-file"):
        change_tokens(tmp_path / "none" / "tokens.json", lambda tokens: [token()])


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620])
def test_d47_a_file_that_others_can_open_is_refused(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "tokens.json"
    change_tokens(path, lambda tokens: [token()])
    path.chmod(mode)
    with pytest.raises(InvalidOption, match=r"chmod 600") as caught:
        read_tokens(path)
    assert SECRET not in str(caught.value)


def _row(**changes: object) -> dict[str, object]:
    row: dict[str, object] = {
        "id": "web",
        "token": f"web.{SECRET}",
        "tenant": "shop",
        "roles": ["submit"],
        "created": "2026-01-01T00:00:00+00:00",
        "expires": None,
    }
    return {name: value for name, value in {**row, **changes}.items() if value != "left out"}


@pytest.mark.parametrize(
    "changes",
    [
        {"id": 7},
        {"id": "a.b"},
        {"id": "default", "token": f"default.{SECRET}"},
        {"token": "web.short"},
        {"token": SECRET},
        {"token": "left out"},
        {"certificate": "both"},
        {"certificate": "c\n", "token": "left out"},
        {"tenant": "*"},
        {"tenant": "a/b"},
        {"roles": []},
        {"roles": ["root"]},
        {"roles": [["submit"]]},
        {"roles": "submit"},
        {"expires": "2026-01-01"},
        {"expires": 5},
        {"created": "yesterday"},
        {"surprise": 1},
    ],
)
def test_an_entry_that_cannot_be_is_named_without_its_secret(
    tmp_path: Path, changes: dict[str, object]
) -> None:
    path = tmp_path / "tokens.json"
    path.touch(mode=0o600)
    path.write_text(json.dumps({"format": 1, "tokens": [_row(**changes)]}))
    with pytest.raises(InvalidOption, match=r"tokens\.json', token 1: ") as caught:
        read_tokens(path)
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[" * 100_000,
        "[]",
        "\xff",
        '{"format": 2, "tokens": []}',
        '{"format": 1, "tokens": {}}',
        json.dumps({"format": 1, "tokens": [_row(), _row()]}),
    ],
)
def test_any_other_content_is_one_sentence(tmp_path: Path, text: str) -> None:
    path = tmp_path / "tokens.json"
    path.touch(mode=0o600)
    path.write_text(text, "latin-1")
    with pytest.raises(InvalidOption, match=r"tokens\.json'") as caught:
        read_tokens(path)
    assert SECRET not in str(caught.value)


def test_a_folder_or_a_pipe_is_no_tokens_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe", 0o600)
    for path in (tmp_path, tmp_path / "pipe"):
        with pytest.raises(InvalidOption, match="is not a file"):
            read_tokens(path)


def test_every_tenant_is_for_workers_and_administrators_only() -> None:
    for role in (Role.WORKER, Role.ADMIN):
        assert check_issued(token(tenant="*", roles=frozenset({role})))
    for role in (Role.SUBMIT, Role.READ):
        with pytest.raises(InvalidOption, match="belongs to one tenant"):
            check_issued(token(tenant="*", roles=frozenset({role, Role.WORKER})))


def test_no_representation_shows_the_secret() -> None:
    assert SECRET not in repr(token()) and SECRET not in str(token())
