"""Seeds, and changes to them: by chance, by the schema, and to the smallest that still fails."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import cbor2

from fastworker.wire.codec import encode
from tests.bad_input.mutations import mutated
from tests.fuzzing.cddl import Generator
from tests.fuzzing.dispatching import CLOCK, LEAVE, Step, bytes_of, steps_of
from tests.fuzzing.targets import TARGETS, Target
from tests.fuzzing.wrong import SCHEMA
from tests.wire.examples import EXAMPLES

CORPUS: Final = Path(__file__).parent / "corpus"
"""Small inputs that are worth being tried again: they broke something once, or reach far."""

MAX_BYTES: Final = 16_384
MAX_CHANGES: Final = 6
MINIMISE_SECONDS: Final = 20.0
INPUT_SECONDS: Final = 5.0
"""Of the processor, for one input: most take milliseconds."""

Mutator = Callable[[bytes, random.Random], bytes]


def seeds(name: str) -> Iterator[bytes]:
    """What a target's fuzzing starts with: its corpus, and for frames the examples of the wire."""
    folder = CORPUS / name
    if folder.is_dir():
        yield from (path.read_bytes() for path in sorted(folder.iterdir()))
    if name == "frames":
        yield from (encode([example]) for example in EXAMPLES.values())
    yield b""


def by_chance(data: bytes, chance: random.Random, target: Target) -> bytes:
    """A few bytes changed, put in, left out or repeated."""
    changed = bytearray(data)
    for _ in range(chance.randrange(1, MAX_CHANGES)):
        at = chance.randrange(len(changed) + 1)
        length = chance.choice([1, 1, 2, 4, 30])
        fresh = bytes(chance.choice(target.alphabet) for _ in range(length))
        match chance.randrange(5):
            case 0:
                changed[at : at + 1] = chance.randbytes(1)
            case 1:
                changed[at : at + length] = fresh
            case 2:
                changed[at:at] = fresh
            case 3:
                del changed[at : at + length]
            case _:
                changed[at:at] = changed[max(at - length, 0) : at] * chance.choice([1, 2, 50])
    return bytes(changed[:MAX_BYTES])


def frame_by_schema(chance: random.Random) -> bytes:
    """A frame of generated messages, or of examples with something wrong in them."""
    if chance.random() < 0.3:
        return mutated(chance)
    generator = Generator(SCHEMA, chance)
    return cbor2.dumps([generator.message() for _ in range(chance.choice([1, 1, 1, 2, 3]))])


def steps_by_schema(data: bytes, chance: random.Random) -> bytes:
    """Steps of peers with one put in, taken out, moved or sent twice."""
    steps = list(steps_of(data))
    at = chance.randrange(len(steps) + 1)
    match chance.randrange(6):
        case 0 if steps:
            del steps[min(at, len(steps) - 1)]
        case 1 if steps:
            steps.insert(at, chance.choice(steps))
        case 2:
            steps.insert(at, Step(CLOCK, chance.randbytes(chance.choice([1, 8, 64]))))
        case 3:
            steps.insert(at, Step(LEAVE, b""))
        case _:
            steps.insert(at, Step(chance.randrange(8), frame_by_schema(chance)))
    return bytes_of(steps)


def mutate(name: str, data: bytes, chance: random.Random) -> bytes:
    """A changed input for this target."""
    if name == "frames" and chance.random() < 0.3:
        return frame_by_schema(chance)
    if name in ("clients", "dispatch", "tenants") and chance.random() < 0.7:
        return steps_by_schema(data, chance)
    return by_chance(data, chance, TARGETS[name])


def failure(target: Target, data: bytes) -> Exception | None:
    """What a target raises for an input; None if all is well."""
    started = time.process_time()
    try:
        target.check(data)
    except Exception as error:  # whatever it is, it is what is looked for
        return error
    took = time.process_time() - started
    return TimeoutError(f"it took {took:.1f} s") if took > INPUT_SECONDS else None


def minimised(target: Target, data: bytes) -> bytes:
    """A shorter input that fails in the same way."""
    wanted = type(failure(target, data))
    size, ends_at = len(data) // 2, time.monotonic() + MINIMISE_SECONDS
    while size and time.monotonic() < ends_at:
        at = 0
        while at < len(data) and time.monotonic() < ends_at:
            shorter = data[:at] + data[at + size :]
            if type(failure(target, shorter)) is wanted:
                data = shorter
            else:
                at += size
        size //= 2
    return data
