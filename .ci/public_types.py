"""Fails if a type checker would have to guess a type of the public API.

Reads what `basedpyright --verifytypes fastworker --outputjson` writes to stdout. It looks at all
modules; public are the names that `fastworker` gives out, and what belongs to their classes. What
is only reached through them (a private attribute that is inferred) may be inferred.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from typing import Any

import fastworker

COMMAND = ("basedpyright", "--verifytypes", "fastworker", "--ignoreexternal", "--outputjson")


def public_names() -> set[str]:
    """Where the public classes and functions are defined, as full names."""
    given_out = [getattr(fastworker, name) for name in fastworker.__all__]
    return {
        f"{value.__module__}.{value.__qualname__}"
        for value in given_out
        if hasattr(value, "__qualname__") and hasattr(value, "__module__")
    }


def guesses(report: dict[str, Any], public: set[str]) -> Iterator[str]:
    """A sentence for each public symbol that has no annotation of its own."""
    for symbol in report["typeCompleteness"]["symbols"]:
        name = symbol["name"]
        if name in public or name.rpartition(".")[0] in public:
            messages = [entry["message"] for entry in symbol["diagnostics"]]
            if any("missing" in message for message in messages):
                yield f"{name}: {'; '.join(messages)}"


def main() -> None:
    """Exit status 1 if anything has to be guessed."""
    answer = subprocess.run(COMMAND, capture_output=True, text=True)
    report = json.loads(answer.stdout)
    public = public_names()
    found = list(guesses(report, public))
    for line in found:
        print(line)
    score = report["typeCompleteness"]["completenessScore"]
    print(f"{len(public)} public names, {len(found)} types to guess; whole package {score:.1%}")
    raise SystemExit(bool(found) or not public)


if __name__ == "__main__":
    main()
