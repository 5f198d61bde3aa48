"""What the control plane said last of the tasks that subworkers offer, to check calls by name."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from fastworker.tasks.signatures import Parameters, parameters_of_text
from fastworker.wire.messages import Roster

Offered: TypeAlias = Callable[[str], "Parameters | None"]
"""The parameters of the task of this name; None: not known, or not the same everywhere."""


class Offers:
    """Signatures by task, of tasks on which all connected subworkers agree."""

    def __init__(self) -> None:
        self._signatures: dict[str, str] = {}

    def learn(self, roster: Roster) -> None:
        """Replace what is known."""
        self._signatures = {
            name: signature
            for row in roster.tasks
            if row.get("signatures_agree") is True
            and isinstance(name := row.get("name"), str)
            and isinstance(signature := row.get("signature"), str)
        }

    def forget(self) -> None:
        """The connection is lost: whoever comes back may have changed."""
        self._signatures = {}

    def parameters(self, name: str) -> Parameters | None:
        """See `Offered`."""
        signature = self._signatures.get(name)
        return None if signature is None else parameters_of_text(signature)
