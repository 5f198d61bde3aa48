"""Flags made from the table of options, so that flag, variable and file key never differ."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Annotated, Final

import typer

from fastworker.config import Resolved, resolve
from fastworker.config.kinds import Switch, Texts
from fastworker.config.settings import DEFAULTS, OPTIONS, flag_name
from fastworker.config.tenants import TenantTable
from fastworker.core.tenants import Tenants

TLS: Final = ("tls_cert", "tls_key", "tls_ca")
CONNECTION: Final = (
    *("control_plane_address", "discovery_address", "token_file"),
    *(*TLS, "insecure"),
)
"""What a command needs that talks to a control plane."""

AsJson = Annotated[bool, typer.Option("--json", help="print JSON")]


def with_settings(*names: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command a flag for each named setting, and ``--config``.

    The command's first parameter ``resolved`` receives the settings with their origins; its other
    parameters are its own.
    """

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        signature = inspect.signature(command, eval_str=True)
        own = [one for one in signature.parameters.values() if one.name != "resolved"]
        settings = [_parameter(name) for name in names] + [_CONFIG]

        @functools.wraps(command)
        def run(**given: object) -> None:
            flags = {one.name: given.pop(one.name) for one in settings}
            command(_resolve(flags), **given)

        parameters = [one.replace(kind=inspect.Parameter.KEYWORD_ONLY) for one in (*own, *settings)]
        run.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
        run.__annotations__ = {one.name: one.annotation for one in parameters}
        return run

    return decorate


def _resolve(flags: dict[str, object]) -> Resolved:
    return resolve(flags)


def _parameter(name: str) -> inspect.Parameter:
    option = OPTIONS[name]
    kind: object = str | None
    if isinstance(option.kind, Switch):
        kind = bool | None
    elif isinstance(option.kind, Texts | TenantTable):
        kind = list[str] | None
    default = DEFAULTS[name]
    unsaid = default in (None, (), Tenants()) or isinstance(default, bool)
    shown = "" if unsaid or "default" in option.help else _shown(default)
    flag = flag_name(name)
    if default is True:
        flag = f"{flag}/{flag_name(f'no_{name}')}"
    about = typer.Option(flag, help=option.help + shown, metavar=option.metavar or None)
    return inspect.Parameter(
        name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=Annotated[kind, about]
    )


def _shown(default: object) -> str:
    text = ", ".join(default) if isinstance(default, tuple) else str(default).removesuffix(".0")
    return f" ({text})"


_CONFIG: Final = inspect.Parameter(
    "config",
    inspect.Parameter.KEYWORD_ONLY,
    default=None,
    annotation=Annotated[
        str | None,
        typer.Option("--config", metavar="FILE", help="settings file (./fastworker.toml)"),
    ],
)
