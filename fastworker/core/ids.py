"""Job ids: UUID version 7 (RFC 9562, section 5.7), 16 bytes inside, canonical text outside."""

from __future__ import annotations

import uuid

from fastworker.errors import InvalidOption

ID_BYTES = 16


def new_id(*, wall: float, random: bytes) -> bytes:
    """A UUIDv7 from a moment and ten random bytes, so that ids sort by the time they were made."""
    milliseconds = int(wall * 1000) & 0xFFFF_FFFF_FFFF
    return (
        milliseconds.to_bytes(6, "big")
        + bytes((0x70 | (random[0] & 0x0F), random[1], 0x80 | (random[2] & 0x3F)))
        + random[3:10]
    )


def id_text(job_id: bytes) -> str:
    """The canonical text of an id: what users see as ``task_id``."""
    digits = job_id.hex()
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"


def id_bytes(text: str) -> bytes:
    """Read a ``task_id`` back.

    Raises:
        InvalidOption: not a UUID in canonical text.
    """
    try:
        value = uuid.UUID(text)
    except (ValueError, AttributeError, TypeError):
        value = None
    if value is None or str(value) != text:
        raise InvalidOption(
            f"task_id {text!r:.80} is not a UUID in canonical text; "
            "use the id that delay() or submit() returned"
        )
    return value.bytes


def split_ids(packed: bytes) -> list[bytes]:
    """Packed ids, 16 bytes each, as a list."""
    return [packed[at : at + ID_BYTES] for at in range(0, len(packed), ID_BYTES)]
