"""Who belongs to whom, in the store in memory."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from fastworker.core.records import FamilyRow


class FamilyTable:
    """Rows of jobs that have not ended, by key, parent and owner."""

    def __init__(self) -> None:
        self._rows: dict[int, FamilyRow] = {}
        self._by_parent: dict[bytes, set[int]] = {}
        self._by_owner: dict[bytes, set[int]] = {}

    def add(self, rows: Iterable[FamilyRow]) -> None:
        """Take in new jobs."""
        for row in rows:
            self._rows[row.key] = row
            if row.parent is not None:
                self._by_parent.setdefault(row.parent, set()).add(row.key)
            if row.owner is not None:
                self._by_owner.setdefault(row.owner, set()).add(row.key)

    def remove(self, keys: Iterable[int]) -> None:
        """Jobs have ended; unknown ones are passed over."""
        for key in keys:
            row = self._rows.pop(key, None)
            if row is not None:
                _remove(self._by_parent, row.parent, key)
                _remove(self._by_owner, row.owner, key)

    def children(self, parents: Sequence[bytes], after_key: int, limit: int) -> list[FamilyRow]:
        """See `StoreReader.children`."""
        keys = [key for parent in set(parents) for key in self._by_parent.get(parent, ())]
        return [self._rows[key] for key in sorted(keys) if key > after_key][:limit]

    def owned(self, owner: bytes, at_most: float, after_key: int, limit: int) -> list[FamilyRow]:
        """See `StoreReader.owned`."""
        rows = (self._rows[key] for key in sorted(self._by_owner.get(owner, ())))
        return [row for row in rows if row.key > after_key and row.owned <= at_most][:limit]

    def owners(self) -> list[tuple[bytes, float]]:
        """See `StoreReader.owners`."""
        return sorted({(row.owner, row.owned) for row in self._rows.values() if row.owner})

    def parents(self) -> Iterator[bytes]:
        """Every job with children."""
        return iter(list(self._by_parent))


def _remove(index: dict[bytes, set[int]], name: bytes | None, key: int) -> None:
    if name is None:
        return
    keys = index[name]
    keys.discard(key)
    if not keys:
        del index[name]
