"""The two event loops of `async def` tasks, and how code for the wrong one is recognised."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from fastworker.tasks import Runtime

_TRIO_IN_ASYNCIO: Final = (
    "must be called from async context",
    "task got bad yield",
    "'runcontext' object has no attribute",
)
_ASYNCIO_IN_TRIO: Final = (
    "no running event loop",
    "no current event loop",
    "received unrecognized yield message",
    "trio got unexpected",
    "'nonetype' object has no attribute 'create_future'",
)

_TYPES: Final = (RuntimeError, TypeError, AttributeError)
"""What the loops raise, and what their insides run into where nothing checks."""


def trio_in_asyncio(error: BaseException) -> str:
    """A sentence with the way out if ``error`` comes from Trio code under asyncio, else ""."""
    if _says(error, _TRIO_IN_ASYNCIO):
        return _advice(ran="asyncio", needs="trio", name="Trio")
    return ""


def asyncio_in_trio(error: BaseException) -> str:
    """A sentence with the way out if ``error`` comes from asyncio code under Trio, else ""."""
    if _says(error, _ASYNCIO_IN_TRIO):
        return _advice(ran="Trio", needs="asyncio", name="asyncio")
    return ""


def _advice(*, ran: str, needs: Runtime, name: str) -> str:
    return (
        f"this task ran in {ran}, but its code is written for {name}: declare it with "
        f'@task(runtime="{needs}"), or start the worker with --async-runtime {needs}'
    )


def _says(error: BaseException, phrases: tuple[str, ...]) -> bool:
    for each in _leaves(error):
        if type(each) not in _TYPES and not _is_sniffio(each):
            continue
        text = str(each).lower()
        if any(phrase in text for phrase in phrases):
            return True
    return False


def _is_sniffio(error: BaseException) -> bool:
    return type(error).__name__ == "AsyncLibraryNotFoundError"


def _leaves(error: BaseException) -> Iterator[BaseException]:
    waiting = [error]
    while waiting:
        each = waiting.pop()
        if isinstance(each, BaseExceptionGroup):
            waiting += each.exceptions
        else:
            yield each
