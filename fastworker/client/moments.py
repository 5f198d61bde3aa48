"""Moments as applications see them: aware UTC, of the wall-clock seconds that travel."""

from __future__ import annotations

from datetime import UTC, datetime


def moment(wall: float | None) -> datetime | None:
    """None stays None: it has not come, or is not known."""
    return None if wall is None else datetime.fromtimestamp(wall, UTC)
