"""Which source wins for each option, and what to say of one that is wrong."""

from __future__ import annotations

import difflib
import os
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from fastworker.config.kinds import Raw, read_kind
from fastworker.config.settings import DEFAULTS, OPTIONS, Settings, flag_name, variable_name
from fastworker.errors import InvalidOption

SETTINGS_FILE: Final = "fastworker.toml"
PROJECT_FILE: Final = "pyproject.toml"
CONFIG_VARIABLE: Final = "FASTWORKER_CONFIG"
DEFAULT_ORIGIN: Final = "default"

LARGEST_FILE_BYTES: Final = 1_048_576
"""A settings file beyond 1 MiB is some other file, named by mistake."""

LONGEST_SHOWN: Final = 60
"""Characters of a wrong value that an error repeats."""


@dataclass(frozen=True, slots=True)
class Resolved:
    """The settings, and for each option where its value came from."""

    settings: Settings
    origins: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class _Found:
    raw: Raw
    origin: str


def environment() -> dict[str, str]:
    """Return this process's environment."""
    return dict(os.environ)


def withhold_token() -> None:
    """Take the token out of this process's environment, once the settings are known.

    What it starts from then on, the runners with the code of tasks above all, does not inherit it.
    """
    os.environ.pop(variable_name("token"), None)


def resolve(
    flags: Mapping[str, object] | None = None,
    environ: Mapping[str, str] | None = None,
    cwd: Path | None = None,
) -> Resolved:
    """Find every option's value and origin.

    Args:
        flags: option name to value; None is "not given". ``config`` names a settings file.
        environ: the environment; None: this process's.
        cwd: the current folder; None: this process's.

    Raises:
        InvalidOption: an unknown key, a wrong value or an unreadable file, in one sentence.
    """
    environ = environment() if environ is None else environ
    cwd = Path.cwd() if cwd is None else cwd
    given = {key: value for key, value in (flags or {}).items() if value is not None}
    config = given.pop("config", None)
    sources = [
        _from_flags(given, cwd),
        _from_environment(environ, cwd),
        *_from_files(config, environ, cwd),
    ]
    found = {key: hit for source in reversed(sources) for key, hit in source.items()}
    # A token file that outranks the token itself hides it, and the other way round.
    rank = {key: n for n, source in reversed(list(enumerate(sources))) for key in source}
    if "token" in rank and "token_file" in rank:
        del found["token" if rank["token_file"] < rank["token"] else "token_file"]
    values = {key: _read(key, hit) for key, hit in found.items()}
    settings = Settings(**values)  # type: ignore[arg-type]  # each kind returns its field's type
    origins = {key: found[key].origin if key in found else DEFAULT_ORIGIN for key in DEFAULTS}
    _check_together(settings, origins)
    return Resolved(settings, origins)


def _from_flags(flags: Mapping[str, object], cwd: Path) -> dict[str, _Found]:
    _refuse_unknown(flags, OPTIONS, "the flags")
    return {
        key: _Found(Raw(value, True, cwd), flag_name(key))
        for key, value in flags.items()
        if value not in ((), [])
    }


def _from_environment(environ: Mapping[str, str], cwd: Path) -> dict[str, _Found]:
    # An empty variable is what `${UNSET}` of a compose file leaves: not given.
    return {
        key: _Found(Raw(environ[variable], True, cwd), variable)
        for key in OPTIONS
        if environ.get(variable := variable_name(key), "").strip()
    }


def _from_files(
    config: object, environ: Mapping[str, str], cwd: Path
) -> Iterable[dict[str, _Found]]:
    named = config if config is not None else environ.get(CONFIG_VARIABLE, "").strip() or None
    if named is not None:
        path = cwd / _expanded(str(named))
        yield _from_table(_load(path), str(path), path.parent)
    elif (path := cwd / SETTINGS_FILE).is_file():
        yield _from_table(_load(path), SETTINGS_FILE, cwd)
    if (path := cwd / PROJECT_FILE).is_file():
        tool = _load(path).get("tool")
        table = tool.get("fastworker", {}) if isinstance(tool, dict) else {}
        yield _from_table(table, f"{PROJECT_FILE} [tool.fastworker]", cwd)


def _expanded(text: str) -> Path:
    try:
        return Path(text).expanduser()
    except RuntimeError:  # no home folder for that user
        return Path(text)


def _from_table(table: object, origin: str, folder: Path) -> dict[str, _Found]:
    if not isinstance(table, dict):
        raise InvalidOption(f"{origin} is not a table of settings")
    secret = [key for key in table if key in OPTIONS and not OPTIONS[key].in_files]
    if secret:
        raise InvalidOption(
            f"{origin}: {secret[0]} is not read from settings files, which others can read; "
            "put it into a file of its own with mode 0600 and name that with token_file"
        )
    known = [key for key, option in OPTIONS.items() if option.in_files]
    _refuse_unknown(table, known, origin)
    return {key: _Found(Raw(value, False, folder), origin) for key, value in table.items()}


def _load(path: Path) -> dict[str, object]:
    try:
        with path.open("rb") as file:
            content = file.read(LARGEST_FILE_BYTES + 1)
    except (OSError, ValueError) as error:  # a path with a zero byte is a ValueError
        reason = getattr(error, "strerror", None) or error
        raise InvalidOption(f"cannot read settings file {str(path)!a}: {reason}") from error
    if len(content) > LARGEST_FILE_BYTES:
        raise InvalidOption(f"{str(path)!a} is too large to be a settings file")
    try:
        return tomllib.loads(content.decode("utf-8"))
    except (ValueError, RecursionError) as error:  # one is not TOML, UTF-8 or a number of ours
        raise InvalidOption(f"{str(path)!a} is not valid TOML: {error}") from error


def _refuse_unknown(given: Iterable[str], known: Iterable[str], origin: str) -> None:
    names = list(known)
    for key in given:
        if key in names:
            continue
        close = difflib.get_close_matches(key.replace("-", "_").lower(), names, n=1)
        hint = f"did you mean {close[0]!r}?" if close else "`fastworker config show` lists all"
        raise InvalidOption(f"{origin}: unknown setting {_shown(key)}; {hint}")


def _read(key: str, found: _Found) -> object:
    kind = OPTIONS[key].kind
    try:
        return read_kind(kind, found.raw)
    except ValueError as error:
        detail = f": {error}" if str(error) else f", not {_shown_value(key, found.raw.value)}"
        # A flag or a variable names the key by itself, a file does not.
        where = found.origin if found.raw.is_text else f"{found.origin}: {key}"
        raise InvalidOption(f"{where} expects {kind.expects}{detail}") from error


def _check_together(settings: Settings, origins: Mapping[str, str]) -> None:
    if (settings.tls_cert is None) != (settings.tls_key is None):
        there, missing = (
            ("tls_cert", "tls_key") if settings.tls_key is None else ("tls_key", "tls_cert")
        )
        raise InvalidOption(f"{there} ({origins[there]}) needs {missing} too; give both or neither")


def _shown_value(key: str, value: object) -> str:
    if not OPTIONS[key].in_files:
        return "this value"
    return _shown(value)


def _shown(value: object) -> str:
    try:
        text = ascii(value)
    except ValueError:  # Python refuses to write very long integers out
        text = f"a {type(value).__name__} that is too long to show"
    return text if len(text) <= LONGEST_SHOWN else f"{text[:LONGEST_SHOWN]}…"
