"""Enters lifespan hooks before a loop serves, and leaves them afterwards.

All hooks of a loop are entered and left in one task, so that they may hold nurseries, task groups
and cancel scopes open while the loop serves.
"""

from __future__ import annotations

import logging
import os
import threading
import traceback
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import AbstractContextManager, AsyncExitStack, contextmanager
from typing import Any, Final

from fastworker.tasks.lifespans import Lifespan

LEAVE_SECONDS: Final = 10.0
"""For the hooks of one loop to be left. All jobs have ended by then; only the hooks themselves may
lose something, and the subworker waits for this runner's end."""

EXIT_HUNG: Final = 71
"""The hooks were not left in time."""

LimitLeaving = Callable[[], AbstractContextManager[object]]

_log = logging.getLogger("fastworker.runner")


@contextmanager
def end_if_it_hangs() -> Iterator[None]:
    """End this process if the block takes longer than `LEAVE_SECONDS`, whatever holds it up."""
    timer = threading.Timer(LEAVE_SECONDS, _end_hung)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _end_hung() -> None:
    _log.error("the lifespan hooks were not left within %g s; this runner ends", LEAVE_SECONDS)
    logging.shutdown()
    os._exit(EXIT_HUNG)


async def serve_within(
    hooks: Sequence[Lifespan[Any]],
    serve: Callable[[], Awaitable[None]],
    *,
    limit_leaving: LimitLeaving = end_if_it_hangs,
) -> str | None:
    """Enter the hooks one after another, serve, and leave them, the last one first.

    A hook that fails when it is left is logged; the others are left all the same.

    Args:
        limit_leaving: a block that hooks are left in.

    Returns:
        None; or, without having served, a sentence about the hook that could not be entered.
    """
    failure: str | None = None
    is_served = False
    try:
        async with AsyncExitStack() as limit, AsyncExitStack() as stack:
            for hook in hooks:
                try:
                    await _enter(stack, hook)
                except (Exception, SystemExit) as error:  # the user's code
                    failure = _sentence(hook, error)
                    raise
            await serve()
            is_served = True
            if hooks:
                limit.enter_context(limit_leaving())
    except (Exception, SystemExit):
        if failure is None and not is_served:
            raise
        if is_served:
            _log.exception("a lifespan hook failed when it was left")
        else:
            _log.debug("a lifespan hook failed", exc_info=True)
    return failure


async def _enter(stack: AsyncExitStack, hook: Lifespan[Any]) -> None:
    opening = hook.open()
    if hook.is_async:
        value = await stack.enter_async_context(opening)
    else:
        value = stack.enter_context(opening)
    hook.opened(value)
    stack.callback(hook.closing, value)


def _sentence(hook: Lifespan[Any], error: BaseException) -> str:
    what = "".join(traceback.format_exception_only(type(error), error)).strip().splitlines()[-1]
    own = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if frame.filename != __file__ and "contextlib" not in frame.filename
    ]
    place = f" ({own[-1].filename}:{own[-1].lineno})" if own else ""
    return f"lifespan {hook.name!r} of {hook.module} cannot be opened: {what}{place}"
