"""The file of issued tokens: read whole, written whole, and never readable by anybody else.

It holds secrets: a proof needs the token on both sides. Who writes it (`fastworker token`) need
not be the control plane, which sees by itself that it has changed.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import stat
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, NamedTuple, TypeAlias

from fastworker.core.names import check_name
from fastworker.core.records import ALL_TENANTS, MAX_NAME_LENGTH
from fastworker.errors import CannotCreate, FastWorkerError, InvalidOption
from fastworker.server.identities import IssuedToken
from fastworker.server.identity import Identity, Role
from fastworker.wire.handshake import CERTIFICATE_ID, DEFAULT_TOKEN_ID, check_token

TOKENS_FILE: Final = "tokens.json"
"""Its name in the folder of the store."""

MAX_TOKENS: Final = 10_000
"""All of them are in memory, and read anew at every change."""

MAX_FILE_BYTES: Final = 8 * 1024 * 1024
"""Four times what so many tokens take."""

FORMAT: Final = 1
_TAKEN: Final = frozenset({DEFAULT_TOKEN_ID, CERTIFICATE_ID})
"""Token ids with a meaning of their own."""

_OTHERS: Final = 0o077
_FIELDS: Final = frozenset({"id", "tenant", "roles", "created", "expires"})
_PROOFS: Final = frozenset({"token", "certificate"})

Tokens: TypeAlias = tuple[IssuedToken, ...]


class Stamp(NamedTuple):
    """What changes when the file does."""

    inode: int
    modified_ns: int
    size: int
    mode: int


def stamp_of(path: Path) -> Stamp | None:
    """The file's stamp; None if it is not there."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return Stamp(found.st_ino, found.st_mtime_ns, found.st_size, found.st_mode)


def check_issued(token: IssuedToken) -> IssuedToken:
    """Return the token if there may be one like it.

    Raises:
        InvalidOption, InvalidName: what is wrong with it; never its text.
    """
    identity = token.identity
    name = check_name("token", identity.token_id)
    if "." in name or name in _TAKEN:
        raise InvalidOption(
            f"a token cannot be called {name!a}: a dot ends the id in a token, and "
            f"{' and '.join(sorted(_TAKEN))} are taken; choose another --name"
        )
    if not identity.roles:
        raise InvalidOption(f"token {name!a} has no role; give it --role {'|'.join(Role)}")
    if identity.tenant != ALL_TENANTS:
        check_name("tenant", identity.tenant)
    elif identity.roles - {Role.WORKER, Role.ADMIN}:
        raise InvalidOption(
            f"token {name!a} has the tenant '*' (all) and a role that belongs to one tenant; only "
            "worker and admin go with '*'"
        )
    if (token.text is None) is (token.certificate is None):
        raise InvalidOption(f"token {name!a} is either a secret or a certificate's name")
    if token.certificate is not None and not _is_certificate_name(token.certificate):
        raise InvalidOption(
            f"token {name!a}: the name of a certificate is up to {MAX_NAME_LENGTH} printable "
            "characters"
        )
    if token.text is not None and not check_token(token.text).startswith(f"{name}."):
        raise InvalidOption(f"the text of token {name!a} does not begin with its id and a dot")
    return token


def _is_certificate_name(name: str) -> bool:
    return 1 <= len(name) <= MAX_NAME_LENGTH and name.isprintable()


def read_tokens(path: Path) -> Tokens:
    """The tokens in a file; none if there is no such file.

    Raises:
        InvalidOption: it can be read by others, or is not what `fastworker token` writes.
    """
    try:
        number = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except (FileNotFoundError, NotADirectoryError):
        return ()  # that a store is no folder is said by the store
    except OSError as error:
        raise _unreadable(path, error) from error
    try:
        _check_private(path, os.fstat(number))
        with os.fdopen(number, "rb", closefd=False) as file:
            content = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise _unreadable(path, error) from error
    finally:
        os.close(number)
    if len(content) > MAX_FILE_BYTES:
        raise InvalidOption(f"{_named(path)} has more than {MAX_FILE_BYTES} bytes")
    return _parse(path, content)


def change_tokens(path: Path, change: Callable[[Tokens], Sequence[IssuedToken]]) -> None:
    """Read the tokens, have them changed, and write them; nobody else does so meanwhile.

    Raises:
        InvalidOption: see `read_tokens`, `check_issued`; or they are too many.
        CannotCreate: the file cannot be written.
    """
    with _turn(path):
        tokens = [check_issued(token) for token in change(read_tokens(path))]
        if len(tokens) > MAX_TOKENS:
            raise InvalidOption(
                f"{_named(path)} has {MAX_TOKENS} tokens, the most there can be; revoke some"
            )
        _write(path, tokens)


@contextlib.contextmanager
def _turn(path: Path) -> Iterator[None]:
    """Hold the folder of the file, so that two changes at once do not lose one."""
    try:
        folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise _unwritable(path, error) from error
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        yield
    finally:
        os.close(folder)


def _write(path: Path, tokens: Sequence[IssuedToken]) -> None:
    document = {"format": FORMAT, "tokens": [_to_json(token) for token in tokens]}
    # Written whole under a name of its own, then moved: nobody ever reads half of it.
    draft = path.with_name(f".{path.name}.{os.urandom(4).hex()}")
    try:
        number = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            with os.fdopen(number, "wb") as file:
                file.write(json.dumps(document, indent=1).encode("ascii") + b"\n")
                file.flush()
                os.fsync(file.fileno())
            os.replace(draft, path)
        finally:
            draft.unlink(missing_ok=True)
        _sync_folder(path.parent)
    except OSError as error:
        raise _unwritable(path, error) from error


def _sync_folder(path: Path) -> None:
    folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _to_json(token: IssuedToken) -> dict[str, object]:
    identity = token.identity
    proof = {"token": token.text} if token.certificate is None else {}
    return {
        "id": identity.token_id,
        **(proof or {"certificate": token.certificate}),
        "tenant": identity.tenant,
        "roles": sorted(identity.roles),
        "created": _moment_text(token.created_at),
        "expires": None if identity.expires_at is None else _moment_text(identity.expires_at),
    }


def _parse(path: Path, content: bytes) -> Tokens:
    try:
        document = json.loads(content)
    except (ValueError, RecursionError):
        # Not chained: the error holds the whole content.
        raise InvalidOption(f"{_named(path)} is not JSON; restore a copy of it") from None
    if not isinstance(document, dict) or document.keys() != {"format", "tokens"}:
        raise InvalidOption(f"{_named(path)} is no file of `fastworker token`")
    if document["format"] != FORMAT:
        raise InvalidOption(
            f"{_named(path)} has the format {document['format']!r:.20}; this version knows {FORMAT}"
        )
    rows = document["tokens"]
    if not isinstance(rows, list) or len(rows) > MAX_TOKENS:
        raise InvalidOption(f"{_named(path)}: tokens is a list of at most {MAX_TOKENS}")
    found: dict[str, IssuedToken] = {}
    for number, row in enumerate(rows, 1):
        try:
            token = check_issued(_from_json(row))
        except (FastWorkerError, ValueError, TypeError) as error:
            raise InvalidOption(f"{_named(path)}, token {number}: {error}") from None
        if token.identity.token_id in found:
            raise InvalidOption(f"{_named(path)}: two tokens are called {token.identity.token_id}")
        found[token.identity.token_id] = token
    return tuple(found.values())


def _from_json(row: object) -> IssuedToken:
    """One token; ``ValueError`` or `InvalidOption` without any value that could be a secret."""
    if not isinstance(row, dict):
        raise ValueError("it is not an object")
    if row.keys() - _PROOFS != _FIELDS or len(row.keys() & _PROOFS) != 1:
        wanted = ", ".join(sorted(_FIELDS))
        raise ValueError(f"it has {wanted}, and either token or certificate")
    roles = row["roles"]
    if not isinstance(roles, list) or not all(role in list(Role) for role in roles):
        raise ValueError(f"roles is a list of some of {', '.join(Role)}")
    expires = row["expires"]
    identity = Identity(
        token_id=_text(row, "id"),
        tenant=_text(row, "tenant"),
        roles=frozenset(map(Role, roles)),
        expires_at=None if expires is None else _moment(row, "expires"),
    )
    text = _text(row, "token") if "token" in row else None
    certificate = _text(row, "certificate") if "certificate" in row else None
    return IssuedToken(text, identity, certificate, _moment(row, "created"))


def _text(row: dict[str, object], name: str) -> str:
    value = row[name]
    if not isinstance(value, str) or not value:
        raise ValueError(f"{name} is a text")
    return value


def _moment(row: dict[str, object], name: str) -> float:
    try:
        moment = datetime.fromisoformat(_text(row, name))
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo is None:
        raise ValueError(f"{name} is a moment such as 2030-12-31T00:00:00+00:00")
    return moment.timestamp()


def _moment_text(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")


def _check_private(path: Path, found: os.stat_result) -> None:
    if not stat.S_ISREG(found.st_mode):
        raise InvalidOption(f"{_named(path)} is not a file")
    if found.st_uid not in (os.getuid(), 0):
        raise InvalidOption(
            f"{_named(path)} belongs to user {found.st_uid}, who could let anybody in; "
            f"make it yours: chown {os.getuid()} {str(path)!a}"
        )
    if found.st_mode & _OTHERS:
        raise InvalidOption(
            f"{_named(path)} can be read or written by other users (mode "
            f"{stat.S_IMODE(found.st_mode):04o}); make it yours alone: chmod 600 {str(path)!a}"
        )


def _named(path: Path) -> str:
    return f"tokens file {str(path)!a}"


def _unreadable(path: Path, error: OSError) -> InvalidOption:
    return InvalidOption(f"cannot read {_named(path)}: {error.strerror or error}")


def _unwritable(path: Path, error: OSError) -> CannotCreate:
    return CannotCreate(
        f"cannot write {_named(path)}: {error.strerror or error}; check the owner and mode of its "
        "folder, or choose another file with --tokens-file"
    )
