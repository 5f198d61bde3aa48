"""Having functions called in the thread of an event loop, from any thread."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import sniffio

Post = Callable[[Callable[[], object]], object]


def post_to_this_loop() -> Post:
    """What has functions called in the loop that runs here."""
    if sniffio.current_async_library() == "trio":
        import trio

        return trio.lowlevel.current_trio_token().run_sync_soon
    return asyncio.get_running_loop().call_soon_threadsafe
