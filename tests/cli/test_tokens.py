"""``fastworker token``: create, list, revoke, on the file alone."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from fastworker.cli.main import main
from fastworker.server.identity import Role
from fastworker.server.token_file import read_tokens


class Tokens:
    """The command, on a store's folder that nothing has used yet."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.folder = folder
        self.file = folder / "tokens.json"
        self._capsys = capsys

    def __call__(self, *arguments: str, code: int = 0) -> tuple[str, str]:
        assert main(["token", *arguments, "--store", str(self.folder)]) == code
        printed = self._capsys.readouterr()
        return printed.out.strip(), printed.err


@pytest.fixture
def token(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Tokens:
    return Tokens(tmp_path / "store", capsys)


def test_a_token_is_printed_once_and_kept(token: Tokens) -> None:
    text, said = token("create", "--role", "submit", "--tenant", "shop", "--name", "web")
    assert text.startswith("web.") and len(text) > 40
    assert f"submit in tenant shop; kept in {token.file}\n" in said and text not in said
    (kept,) = read_tokens(token.file)
    assert kept.text == text
    assert (kept.identity.tenant, kept.identity.roles) == ("shop", {Role.SUBMIT})
    assert kept.identity.expires_at is None
    assert (token.folder / ".gitignore").read_text() == "*\n"
    assert token.folder.stat().st_mode & 0o077 == 0


def test_roles_repeat_and_a_name_is_made_up(token: Tokens) -> None:
    text, _ = token("create", "--role", "worker", "--role", "admin", "--tenant", "*")
    assert text.startswith("admin-")
    (kept,) = read_tokens(token.file)
    assert kept.identity.roles == {Role.WORKER, Role.ADMIN} and kept.identity.tenant == "*"


def test_where_no_tokens_are_is_said(token: Tokens) -> None:
    assert token("list") == ("", f"no tokens in {token.file}\n")
    assert json.loads(token("list", "--json")[0]) == {"tokens": []}


@pytest.mark.parametrize(("length", "seconds"), [("30d", 2_592_000), ("12h", 43_200), ("5s", 5)])
def test_a_token_expires(token: Tokens, length: str, seconds: int) -> None:
    token("create", "--role", "read", "--expires", length)
    (kept,) = read_tokens(token.file)
    assert kept.identity.expires_at == pytest.approx(time.time() + seconds, abs=5)


def test_lists_show_everything_but_the_secret(token: Tokens) -> None:
    secret, _ = token("create", "--role", "submit", "--name", "web", "--expires", "1d")
    token("create", "--role", "worker", "--name", "gpu", "--certificate", "gpu.example")
    table, _ = token("list")
    assert "web" in table and "gpu.example" in table
    shown, _ = token("list", "--json")
    assert secret.partition(".")[2] not in table + shown
    web, gpu = json.loads(shown)["tokens"]
    assert (web["id"], web["roles"], web["tenant"], web["expired"]) == (
        *("web", ["submit"]),
        *("default", False),
    )
    assert gpu["certificate"] == "gpu.example" and gpu["expires"] is None


def test_a_certificate_has_no_secret_to_print(token: Tokens) -> None:
    printed, said = token("create", "--role", "worker", "--certificate", "gpu.example")
    assert printed == "" and "gpu.example" in said
    _, said = token("create", "--role", "read", "--certificate", "gpu.example", code=2)
    assert "revoke that one first" in said


def test_a_revoked_token_is_gone_and_an_unknown_one_is_exit_4(token: Tokens) -> None:
    text, _ = token("create", "--role", "submit", "--name", "web")
    assert token("revoke", text)[0] == "web is revoked"  # only its id is used, and shown
    assert read_tokens(token.file) == ()
    _, said = token("revoke", "web", code=4)
    assert "there is no token 'web'" in said and "fastworker token list" in said


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--role", "root"], "--role 'root' is not one of submit, read, worker, admin"),
        (["--role", "submit", "--tenant", "*"], "only worker and admin go with '*'"),
        (["--role", "submit", "--name", "a.b"], "choose another --name"),
        (["--role", "submit", "--name", "default"], "choose another --name"),
        (["--role", "submit", "--name", "certificate"], "choose another --name"),
        (["--role", "submit", "--name", "a b"], "not allowed"),
        (["--role", "submit", "--expires", "soon"], "write 30d, 12h, 45m or never"),
        (["--role", "submit", "--expires", "0d"], "write 30d, 12h, 45m or never"),
    ],
)
def test_what_cannot_be_is_exit_2_and_leaves_nothing(
    token: Tokens, arguments: list[str], sentence: str
) -> None:
    _, said = token("create", *arguments, code=2)
    assert sentence in said
    assert not token.file.exists()


def test_two_tokens_cannot_share_an_id(token: Tokens) -> None:
    token("create", "--role", "submit", "--name", "web")
    _, said = token("create", "--role", "read", "--name", "web", code=2)
    assert "there is a token 'web' already" in said
    assert len(read_tokens(token.file)) == 1


def test_d47_a_file_that_others_can_read_is_exit_2(token: Tokens) -> None:
    secret, _ = token("create", "--role", "submit", "--name", "web")
    token.file.chmod(0o644)
    for command in (["list"], ["revoke", "web"], ["create", "--role", "read"]):
        _, said = token(*command, code=2)
        assert "chmod 600" in said and secret not in said


def test_the_file_can_be_elsewhere(token: Tokens, tmp_path: Path) -> None:
    file = tmp_path / "mine.json"
    token("create", "--role", "read", "--tokens-file", str(file))
    assert len(read_tokens(file)) == 1 and not token.folder.exists()
