"""A text generator that only pretends: where a language model would be, there are a few words."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import AsyncIterator

from fastworker import task

TEXT = """
the a of to and in that it is was for on are with as his they be at one have this from or had by hot
but some what there we can out other were all your when up use word how said an
"""
WORDS = TEXT.split()

SECONDS_PER_TOKEN = 0.03
"""What a model takes for a token."""

logger = logging.getLogger("tokens")


@task
async def generate(prompt: str, length: int) -> AsyncIterator[str]:
    """Answer a prompt, token by token; the same prompt has the same answer."""
    words = random.Random(prompt)
    made = 0
    try:
        while made < length:
            await asyncio.sleep(SECONDS_PER_TOKEN)
            yield words.choice(WORDS) + " "
            made += 1
    finally:
        # Where a real one frees its place on the graphics card.
        logger.warning("%d of %d tokens were made", made, length)
