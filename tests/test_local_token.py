"""The token file of a port: whose it is, who may read it, and who may have put it there."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from fastworker.errors import CannotCreate
from fastworker.local_token import (
    ensure_local_token,
    new_token,
    read_local_token,
    token_path,
    write_local_token,
)
from fastworker.wire.handshake import check_token, token_id_of


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "fastworker"


def test_a_new_token_is_random_and_long_enough() -> None:
    assert check_token(new_token()) != new_token()
    assert token_id_of(new_token(lambda size: bytes(size))) == "local"


def test_a_written_token_is_read_again_and_ours_alone(folder: Path) -> None:
    assert read_local_token(5555, folder=folder) is None
    token = new_token()
    path = write_local_token(5555, token, folder=folder)
    assert read_local_token(5555, folder=folder) == token
    assert read_local_token(5550, folder=folder) is None
    assert path.stat().st_mode & 0o777 == 0o600
    assert folder.stat().st_mode & 0o777 == 0o700
    assert os.listdir(folder) == [path.name]


def test_a_valid_token_is_used_again_and_each_port_has_its_own(folder: Path) -> None:
    first = ensure_local_token(5555, folder=folder)
    assert ensure_local_token(5555, folder=folder) == first
    other = ensure_local_token(5550, folder=folder)
    assert (token_id_of(first), token_id_of(other)) == ("local-5555", "local-5550")
    assert sorted(os.listdir(folder)) == ["5550.token", "5555.token"]


@pytest.mark.parametrize("content", [b"", b"short", b"\xff" * 50, b"x" * 5000, b"a" * 40 + b"\nb"])
def test_a_malformed_token_is_replaced(folder: Path, content: bytes) -> None:
    token = ensure_local_token(5555, folder=folder)
    token_path(5555, folder=folder).write_bytes(content)
    assert read_local_token(5555, folder=folder) is None
    assert ensure_local_token(5555, folder=folder) != token
    assert read_local_token(5555, folder=folder) is not None


def test_a_token_that_others_could_read_or_a_link_is_not_trusted(
    folder: Path, tmp_path: Path
) -> None:
    write_local_token(5555, new_token(), folder=folder).chmod(0o644)
    assert read_local_token(5555, folder=folder) is None
    elsewhere = tmp_path / "elsewhere"
    elsewhere.write_text(new_token())
    elsewhere.chmod(0o600)
    token_path(5550, folder=folder).symlink_to(elsewhere)
    assert read_local_token(5550, folder=folder) is None
    os.mkfifo(token_path(5551, folder=folder), 0o600)
    assert read_local_token(5551, folder=folder) is None


@pytest.mark.parametrize("kind", ["open", "link", "file"])
def test_a_folder_that_is_not_ours_alone_is_refused(
    folder: Path, tmp_path: Path, kind: str
) -> None:
    if kind == "open":
        folder.mkdir()
        folder.chmod(0o755)
    elif kind == "link":
        (tmp_path / "real").mkdir(mode=0o700)
        folder.symlink_to(tmp_path / "real")
    else:
        folder.write_text("")
    for attempt in (
        lambda: read_local_token(5555, folder=folder),
        lambda: write_local_token(5555, new_token(), folder=folder),
        lambda: ensure_local_token(5555, folder=folder),
    ):
        with pytest.raises(CannotCreate, match="not a folder of yours alone"):
            attempt()


def test_an_unwritable_place_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(CannotCreate, match="cannot write the local token"):
        ensure_local_token(5555, folder=tmp_path / "missing" / "fastworker")
