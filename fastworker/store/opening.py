"""Which store a location and a durability ask for."""

from __future__ import annotations

from pathlib import Path

from fastworker.errors import InvalidOption
from fastworker.store.contract import Store


def open_store(location: Path | None, durability: str) -> Store:
    """Open the store, making it if there is none; the caller closes it.

    Args:
        location: its folder; not used for ``memory``.
        durability: ``power`` (survives power loss), ``process`` (survives the death of the
            process, not power loss) or ``memory`` (survives nothing).

    Raises:
        InvalidOption: an unknown durability, or no location for one that needs it.
        CannotCreate: the folder or a file cannot be made or written.
        StoreLocked: another process holds the store.
        StoreUnusable: the store is damaged, newer, foreign or has vanished.
    """
    if durability == "memory":
        from fastworker.store.memory import MemoryStore

        return MemoryStore()
    if durability not in ("power", "process"):
        raise InvalidOption(f"durability is power, process or memory, not {durability!r:.40}")
    if location is None:
        raise InvalidOption(f"durability {durability} needs a folder for the store (--store)")
    from fastworker.store.sqlite import SqliteStore

    return SqliteStore(location, durability=durability)
