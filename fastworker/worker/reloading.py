"""``--reload``: which files the task code is in, and what to do when they change.

The subworker never imports task code, so it watches where that is: the current folder's own files,
and everything in the packages of the task modules.
"""

from __future__ import annotations

import importlib
import logging
import os
import sys
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from importlib.machinery import PathFinder
from pathlib import Path
from typing import Final

import trio

from fastworker.errors import InvalidOption

LOOK_MILLISECONDS: Final = 1000
"""How often the watching thread looks whether it is still wanted; changes come at once."""

_log = logging.getLogger("fastworker.worker")


@dataclass(frozen=True, slots=True)
class CodeFolders:
    """Where task code is. Of ``alone`` only the files directly in them, of ``whole`` everything."""

    alone: frozenset[Path]
    whole: frozenset[Path]


def check_reload_possible() -> None:
    """Raise `InvalidOption` if the library that watches files is missing."""
    try:
        importlib.import_module("watchfiles")
    except ImportError as error:
        raise InvalidOption(
            "reload needs the package watchfiles; install it with: pip install fastworker[reload]"
        ) from error


def code_folders(task_modules: Sequence[str], here: Path) -> CodeFolders:
    """The folders of these modules, without importing anything.

    Args:
        here: the current folder, which is searched first.
    """
    alone: set[Path] = {here}
    whole: set[Path] = set()
    for top in {name.partition(".")[0] for name in task_modules}:
        found = PathFinder.find_spec(top, [str(here), *sys.path])
        if found is None:
            continue
        if found.submodule_search_locations is not None:
            whole.update(map(Path, found.submodule_search_locations))
        elif found.origin is not None:
            alone.add(Path(found.origin).parent)
    return CodeFolders(frozenset(alone), frozenset(whole))


async def watch_code(folders: CodeFolders, on_change: Callable[[list[Path]], None]) -> None:
    """Call ``on_change`` with the Python files that have changed, for ever."""
    async with trio.open_nursery() as nursery:
        for paths, recursive in ((folders.alone, False), (folders.whole, True)):
            if paths:
                nursery.start_soon(_watch, sorted(paths), recursive, on_change)


async def _watch(
    paths: Sequence[Path], recursive: bool, on_change: Callable[[list[Path]], None]
) -> None:
    import watchfiles

    logging.getLogger("watchfiles").setLevel(logging.WARNING)  # we say what has changed
    token = trio.lowlevel.current_trio_token()
    stop = threading.Event()

    def watch() -> None:
        for changes in watchfiles.watch(
            *paths,
            watch_filter=watchfiles.PythonFilter(),
            stop_event=stop,
            rust_timeout=LOOK_MILLISECONDS,
            recursive=recursive,
            raise_interrupt=False,
        ):
            files = sorted({Path(path) for _, path in changes})
            with suppress(trio.RunFinishedError):
                token.run_sync_soon(on_change, files)

    try:
        await trio.to_thread.run_sync(watch, abandon_on_cancel=True)
    finally:
        stop.set()


class Reloader:
    """Has runners started anew when the code changes.

    Args:
        reload: starts them.
    """

    def __init__(self, task_modules: Sequence[str], reload: Callable[[], None]) -> None:
        self._task_modules = task_modules
        self._reload = reload

    async def serve_forever(self) -> None:
        """Watch, and reload."""
        here = Path.cwd()
        folders = code_folders(self._task_modules, here)
        watched = sorted(map(str, folders.alone | folders.whole))
        _log.info("reload: watching the Python files of %s", ", ".join(watched))
        await watch_code(folders, partial(self._changed, here))

    def _changed(self, here: Path, files: list[Path]) -> None:
        names = ", ".join(os.path.relpath(each, here) for each in files)
        _log.info("%s changed: starting new runners", names)
        self._reload()
