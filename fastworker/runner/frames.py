"""Stacks as text, taken by another thread than the one that runs: of threads, of what tasks await.

What is looked at goes on meanwhile, so a stack may be a mixture of two moments; it never raises
for that. Nothing here calls user code: no ``repr``, no attributes of the user's objects.
"""

from __future__ import annotations

import gc
import traceback
from collections.abc import Iterable, Iterator
from types import AsyncGeneratorType, CodeType, CoroutineType, FrameType, GeneratorType
from typing import Final

MAX_FRAMES: Final = 100
"""Of one stack, the innermost ones: enough for any framework, and a recursion is recognised."""

MAX_STACK_CHARACTERS: Final = 65_536
"""Of one job's text: what a text on the wire may have."""

Frames = list[tuple[FrameType, int]]
"""Frames with their current lines, outermost first."""


def thread_frames(innermost: FrameType | None) -> Frames:
    """What a thread runs, from its innermost frame."""
    found: Frames = []
    while innermost is not None:
        found.append((innermost, _line(innermost, innermost.f_lineno)))
        innermost = innermost.f_back
    found.reverse()
    return found


def awaited_frames(awaitable: object) -> Frames:
    """Where a suspended coroutine waits: its own frame, that of what it awaits, and so on."""
    found: Frames = []
    for each in await_chain(awaitable):
        frame = _frame_of(each)
        if frame is not None:
            found.append((frame, _line(frame, frame.f_lineno)))
    return found


def await_chain(awaitable: object) -> Iterator[object]:
    """A coroutine, what it awaits, what that awaits, down to what no Python code runs in."""
    seen = 0
    current: object | None = awaitable
    # Wrappers without frames are steps, too; a chain that goes on for ever is a mixture.
    while current is not None and seen < 10 * MAX_FRAMES:
        seen += 1
        yield current
        current = _awaited_by(current)


def _awaited_by(awaitable: object) -> object | None:
    if isinstance(awaitable, CoroutineType):
        return awaitable.cr_await
    if isinstance(awaitable, GeneratorType):
        return awaitable.gi_yieldfrom
    if isinstance(awaitable, AsyncGeneratorType):
        return awaitable.ag_await
    # What steps an asynchronous generator, or wraps a coroutine, keeps it where only the garbage
    # collector sees it.
    if type(awaitable).__name__ in _WRAPPERS and type(awaitable).__module__ == "builtins":
        for inner in gc.get_referents(awaitable):
            if isinstance(inner, CoroutineType | GeneratorType | AsyncGeneratorType):
                return inner
    return None


_WRAPPERS: Final = frozenset(
    {"async_generator_asend", "async_generator_athrow", "coroutine_wrapper", "anext_awaitable"}
)


def _frame_of(awaitable: object) -> FrameType | None:
    if isinstance(awaitable, CoroutineType):
        return awaitable.cr_frame
    if isinstance(awaitable, GeneratorType):
        return awaitable.gi_frame
    if isinstance(awaitable, AsyncGeneratorType):
        return awaitable.ag_frame
    return None


def _line(frame: FrameType, line: int | None) -> int:
    # A frame that has just begun, or just ended, is on no line.
    return frame.f_code.co_firstlineno if line is None else line


def after(frames: Frames, codes: Iterable[CodeType]) -> Frames:
    """The frames inside the innermost one of these codes; all, if none is among them."""
    wanted = set(codes)
    for position in reversed(range(len(frames))):
        if frames[position][0].f_code in wanted:
            return frames[position + 1 :]
    return frames


def as_text(frames: Frames) -> str:
    """As tracebacks show it, innermost last; "" for no frames."""
    shown = frames[-MAX_FRAMES:]
    lines = traceback.StackSummary.extract(iter(shown), lookup_lines=True).format()
    left_out = len(frames) - len(shown)
    if left_out:
        lines.insert(0, f"  … {left_out} outer frames are left out\n")
    return "".join(lines).rstrip("\n")


def place_of(frames: Frames) -> str:
    """File and line of the innermost frame; "" for none."""
    if not frames:
        return ""
    frame, line = frames[-1]
    return bounded(f"{frame.f_code.co_filename}:{line}")


def bounded(text: str) -> str:
    """The text, without its middle if it is too long for a message, and fit for the wire."""
    text = text.encode("utf-8", "replace").decode("utf-8")
    if len(text) <= MAX_STACK_CHARACTERS:
        return text
    half = MAX_STACK_CHARACTERS // 2 - 20
    return f"{text[:half]}\n  … left out …\n{text[-half:]}"
