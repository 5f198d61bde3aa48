"""Imports the modules that tasks live in, and says in one sentence why one cannot be imported."""

from __future__ import annotations

import importlib
import pkgutil
import sys
import traceback
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import ModuleType

from fastworker.errors import CallerError


def load_task_modules(names: Sequence[str]) -> None:
    """Import modules, and all submodules of packages, so that their tasks are registered.

    The current directory is put on the path first. A module that has been imported already is
    not imported again.

    Args:
        names: module names; each may hold several, separated by commas.

    Raises:
        CallerError: a module that is not there, or fails while it is imported; one sentence.
    """
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    importlib.invalidate_caches()
    for given in names:
        for name in given.split(","):
            if name.strip():
                _load(name.strip(), here)


def _load(name: str, here: str) -> None:
    if name.endswith(".py") or "/" in name:
        raise CallerError(
            f"task module {name!r} looks like a file; give the module's name, "
            f"such as {name.removesuffix('.py').strip('./').replace('/', '.')!r}"
        )
    module = _import(name, here)
    for submodule in _submodules(module):
        _import(submodule, here)


def _submodules(package: ModuleType) -> Iterator[str]:
    """Names of all modules below a package; each package is imported before its own are named."""
    path = getattr(package, "__path__", None)
    if path is None:
        return
    for found in pkgutil.iter_modules(path, f"{package.__name__}."):
        if found.name.rpartition(".")[2] == "__main__":
            continue
        yield found.name
        if found.ispkg:
            yield from _submodules(sys.modules[found.name])


def _import(name: str, here: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is not None and f"{name}.".startswith(f"{error.name}."):
            raise CallerError(
                f"there is no task module {name!r} in {here} or elsewhere on the path"
            ) from error
        raise _failed(name, error) from error
    except (Exception, SystemExit) as error:  # the user's code runs while it is imported
        raise _failed(name, error) from error


def _failed(name: str, error: BaseException) -> CallerError:
    what = "".join(traceback.format_exception_only(type(error), error)).strip().splitlines()[-1]
    return CallerError(f"task module {name!r} cannot be imported: {what} ({_place(error)})")


def _place(error: BaseException) -> str:
    if isinstance(error, SyntaxError) and error.filename is not None:
        return f"{error.filename}:{error.lineno}"
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if not frame.filename.startswith("<frozen") and "importlib" not in frame.filename
    ]
    own = [frame for frame in frames if frame.filename != __file__]
    return f"{own[-1].filename}:{own[-1].lineno}" if own else "in a compiled module"
