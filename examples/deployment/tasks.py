"""The tasks of the example: what subworkers run, and what the web app submits."""

from __future__ import annotations

from collections import Counter

from fastworker import task

SHOWN_WORDS = 100
"""The most frequent ones; a result may have 1 MiB."""


@task
def count_words(text: str) -> dict[str, int]:
    """How often each word occurs, the most frequent first."""
    return dict(Counter(text.lower().split()).most_common(SHOWN_WORDS))
