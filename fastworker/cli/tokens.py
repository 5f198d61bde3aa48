"""``fastworker token``: create, list and revoke. None of them needs a control plane.

They work on the file of issued tokens, so they run where it is; a running control plane sees what
has changed within a second.
"""

from __future__ import annotations

import math
import re
import secrets
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from fastworker.cli.exits import NOT_FOUND
from fastworker.cli.flags import AsJson, with_settings
from fastworker.cli.output import say, show, show_json, show_table
from fastworker.config import Resolved
from fastworker.core.records import DEFAULT_TENANT
from fastworker.errors import InvalidOption
from fastworker.local_token import new_token

if TYPE_CHECKING:
    from fastworker.server.identities import IssuedToken
    from fastworker.server.identity import Role
    from fastworker.server.token_file import Tokens

_WHERE: Final = ("store", "tokens_file")

_LENGTH: Final = re.compile(r"(\d{1,9})\s*(s|m|h|d|w)", re.ASCII)
_SECONDS: Final = {"s": 1, "m": 60, "h": 3_600, "d": 86_400, "w": 604_800}

LONGEST_LIFE_SECONDS: Final = 100 * 366 * 86_400
"""A century: longer is the same as never."""

_RANDOM_ID_BYTES: Final = 4

token = typer.Typer(
    name="token", help="Tokens for others: make, list, revoke.", no_args_is_help=True
)


@token.command("create")
@with_settings(*_WHERE)
def create(
    resolved: Resolved,
    roles: Annotated[
        list[str],
        typer.Option("--role", metavar="ROLE", help="submit, read, worker or admin; repeatable"),
    ],
    tenant: Annotated[
        str,
        typer.Option(metavar="NAME", help="whose jobs; '*': everybody's, for worker and admin"),
    ] = DEFAULT_TENANT,
    expires: Annotated[
        str | None,
        typer.Option(metavar="LENGTH", help="such as 30d, 12h or 45m (default: never)"),
    ] = None,
    name: Annotated[
        str | None,
        typer.Option("--name", metavar="ID", help="the public part (default: role and random)"),
    ] = None,
    certificate: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="no secret: the client certificate of this name"),
    ] = None,
) -> None:
    """Make a token and print it, this once."""
    path = _path(resolved)
    from fastworker.server.token_file import change_tokens

    made = _made(name, roles, tenant, _life_seconds(expires), certificate)
    _make_folder(path)
    change_tokens(path, lambda tokens: (*tokens, _unused(tokens, made)))
    who = made.identity
    until = "" if who.expires_at is None else f", until {_moment(who.expires_at)}"
    say(f"token {who.token_id}: {_words(made)} in tenant {who.tenant}{until}; kept in {path}")
    if made.text is None:
        say(f"the client certificate named {certificate!a} opens the control plane now")
    else:
        say("a running control plane knows it within a second; it is shown only once:")
        show(made.text)


@token.command("list")
@with_settings(*_WHERE)
def list_tokens(resolved: Resolved, as_json: AsJson = False) -> None:
    """List the tokens, without their secrets."""
    from fastworker.server.token_file import read_tokens

    now = time.time()
    path = _path(resolved)
    rows = [_row(each, now) for each in read_tokens(path)]
    if as_json:
        show_json({"tokens": rows})
        return
    if not rows:
        say(f"no tokens in {path}")
        return
    headers = ("id", "tenant", "roles", "created", "expires", "expired", "certificate")
    show_table(headers, [[row[name] for name in headers] for row in rows])


@token.command("revoke")
@with_settings(*_WHERE)
def revoke(
    resolved: Resolved,
    token_id: Annotated[str, typer.Argument(metavar="ID", help="as `token list` shows it")],
) -> None:
    """Remove a token: its connections end within five seconds."""
    path = _path(resolved)
    from fastworker.server.token_file import change_tokens, read_tokens

    # Only the id, should somebody give the whole token.
    token_id = token_id.partition(".")[0]
    if all(each.identity.token_id != token_id for each in read_tokens(path)):
        say(f"there is no token {token_id!a:.80} in {path}; see: fastworker token list")
        raise typer.Exit(NOT_FOUND)
    change_tokens(path, lambda tokens: [t for t in tokens if t.identity.token_id != token_id])
    show(f"{token_id} is revoked")


def _path(resolved: Resolved) -> Path:
    if sys.platform == "win32":
        raise InvalidOption("tokens are made on Linux or macOS, where the control plane runs")
    from fastworker.server.token_file import TOKENS_FILE

    settings = resolved.settings
    if settings.tokens_file is not None:
        return settings.tokens_file
    return settings.state_folder(Path.cwd()) / TOKENS_FILE


def _make_folder(path: Path) -> None:
    """Of the store, which need not have been used yet; other folders are not ours to make."""
    from fastworker.server.token_file import TOKENS_FILE
    from fastworker.store.folder import cannot_write, make_folder

    if path.name == TOKENS_FILE and not path.parent.exists():
        try:
            make_folder(path.parent)
        except OSError as error:
            raise cannot_write(path.parent, error) from error


def _made(
    name: str | None,
    roles: list[str],
    tenant: str,
    life_seconds: float | None,
    certificate: str | None,
) -> IssuedToken:
    from fastworker.server.identities import IssuedToken
    from fastworker.server.identity import Identity
    from fastworker.server.token_file import check_issued

    now = float(math.floor(time.time()))
    found = _roles(roles)
    token_id = name or f"{min(found)}-{secrets.token_hex(_RANDOM_ID_BYTES)}"
    identity = Identity(
        token_id, tenant, found, None if life_seconds is None else now + life_seconds
    )
    text = None if certificate is not None else new_token(name=token_id)
    return check_issued(IssuedToken(text, identity, certificate, now))


def _roles(words: list[str]) -> frozenset[Role]:
    from fastworker.server.identity import Role

    given = {word.strip().lower() for each in words for word in each.split(",")}
    for word in sorted(given - set(Role)):
        raise InvalidOption(f"--role {word!a:.40} is not one of {', '.join(Role)}")
    return frozenset(map(Role, given))


def _life_seconds(text: str | None) -> float | None:
    if text is None or text.strip().lower() == "never":
        return None
    found = _LENGTH.fullmatch(text.strip().lower())
    seconds = 0 if found is None else int(found[1]) * _SECONDS[found[2]]
    if not 0 < seconds <= LONGEST_LIFE_SECONDS:
        raise InvalidOption(
            f"--expires {text!a:.40} is not a length of time; write 30d, 12h, 45m or never"
        )
    return float(seconds)


def _unused(tokens: Tokens, made: IssuedToken) -> IssuedToken:
    name = made.identity.token_id
    for other in tokens:
        if other.identity.token_id == name:
            raise InvalidOption(
                f"there is a token {name!a} already; choose another --name, or revoke that one"
            )
        if made.certificate is not None and other.certificate == made.certificate:
            raise InvalidOption(
                f"the certificate {made.certificate!a:.80} stands for token "
                f"{other.identity.token_id!a} already; revoke that one first"
            )
    return made


def _row(issued: IssuedToken, now: float) -> dict[str, object]:
    who = issued.identity
    return {
        "id": who.token_id,
        "tenant": who.tenant,
        "roles": sorted(who.roles),
        "created": _moment(issued.created_at),
        "expires": None if who.expires_at is None else _moment(who.expires_at),
        "expired": who.expires_at is not None and who.expires_at <= now,
        "certificate": issued.certificate,
    }


def _words(issued: IssuedToken) -> str:
    return ", ".join(sorted(issued.identity.roles))


def _moment(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")
