"""The context variables that travel with a job, as the client seals them."""

from __future__ import annotations

from typing import Any

from fastworker.errors import InvalidOption
from fastworker.tasks.propagation import propagated_values
from fastworker.wire.options import MAX_CONTEXT_BYTES
from fastworker.wire.values import seal_value


def sealed_context() -> bytes | None:
    """What the context variables that travel are set to here; None: none is set.

    Raises:
        NotSerializable: a value cannot travel; the variable is named.
        InvalidOption: they are too big together; the biggest is named.
    """
    values = propagated_values()
    if not values:
        return None
    sealed = seal_value(values, what="the context variables")
    if len(sealed) > MAX_CONTEXT_BYTES:
        biggest = max(values, key=lambda name: _size(values[name]))
        raise InvalidOption(
            f"the context variables take {len(sealed)} bytes, of which {biggest!r} takes "
            f"{_size(values[biggest])}, and at most {MAX_CONTEXT_BYTES} travel with a job; give "
            "big values as arguments"
        )
    return sealed


def _size(value: Any) -> int:
    return len(seal_value(value, what="a context variable"))
