"""Frames: bytes to typed messages and back. A frame is a CBOR array of ``[kind, fields]``.

Decoding trusts nothing: any bytes give messages or `ProtocolError`, never another error, no tags,
no indefinite lengths, no duplicate or non-text keys, no trailing bytes. For every message class
one decoder and one encoder are built from its annotations, when this module is imported.
"""

from __future__ import annotations

import io
import operator
from collections.abc import Callable, Iterator, Sequence
from dataclasses import MISSING, dataclass, fields
from typing import Any, Final, NoReturn, get_args, get_type_hints

import cbor2

from fastworker.errors import InternalError, ProtocolError
from fastworker.wire import messages as _messages
from fastworker.wire.agreement import HOOKS
from fastworker.wire.fields import MAX_U32, MAX_U64, Check
from fastworker.wire.messages import Message, Piece

MAX_FRAME_BYTES: Final = 16 * 1024 * 1024
"""Of a whole frame, also when it travels in pieces: the largest group of a submission, twice."""

MAX_MESSAGE_BYTES: Final = 256 * 1024
"""Of one WebSocket message: urgent ones wait at most this long behind a large frame."""

PIECE_BYTES: Final = 240 * 1024
"""Of a piece's data: leaves room for its header inside `MAX_MESSAGE_BYTES`."""

MAX_FRAME_MESSAGES: Final = 4096
"""Of one frame: eight times what a writer puts into one."""

MAX_OPEN_TRANSFERS: Final = 4
"""Frames in pieces at one time; a writer needs one, its own frame and an urgent one two."""

MAX_DEPTH: Final = 16
"""Of nesting: the messages need seven, the rest is for fields to come."""

_TAGS_OF_CBOR2: Final = (*range(1100), 43000, 43001, 55799)
"""Covers every tag that cbor2 decodes by itself; all others reach the tag hook."""


_CBOR_ERRORS: Final = (
    cbor2.CBORError,
    ValueError,
    TypeError,
    OverflowError,
    RecursionError,
    MemoryError,
)
"""Everything that cbor2 raises for bytes or values it cannot handle."""


@dataclass(slots=True)
class UnknownMessage(Message):
    """A message of a kind that this version does not know; answered with `Problem`."""

    kind: int
    request: int | None = None


def _classes() -> Iterator[type[Message]]:
    for value in vars(_messages).values():
        if isinstance(value, type) and issubclass(value, Message) and value.KIND:
            yield value


MESSAGES: Final[dict[int, type[Message]]] = {message.KIND: message for message in _classes()}
"""Every message class by its number on the wire."""


# --- encoding ------------------------------------------------------------------------------

_Encoder = Callable[[Message], dict[str, object]]
_Decoder = Callable[[dict[str, object]], Message]


def _getter(names: tuple[str, ...]) -> Callable[[Message], tuple[object, ...]]:
    """Like `operator.attrgetter`, but always giving a tuple."""
    if len(names) > 1:
        return operator.attrgetter(*names)
    return lambda value: tuple(getattr(value, name) for name in names)


def _encoder(message: type[Message]) -> _Encoder:
    """What makes the map of fields of one class: no None, no defaults."""
    required = tuple(field.name for field in fields(message) if field.default is MISSING)
    optional = tuple(field.name for field in fields(message) if field.default is not MISSING)
    defaults = tuple(field.default for field in fields(message) if field.default is not MISSING)
    get_required, get_optional = _getter(required), _getter(optional)

    def fields_of(value: Message) -> dict[str, object]:
        found = dict(zip(required, get_required(value), strict=True))
        given = get_optional(value)
        if given != defaults:
            for name, item, default in zip(optional, given, defaults, strict=True):
                if item is not None and item != default:
                    found[name] = item
        return found

    return fields_of


_ENCODERS: Final = {message: _encoder(message) for message in MESSAGES.values()}


def encode(messages: Sequence[Message]) -> bytes:
    """One frame with these messages. Fields that are None or their default are left out.

    Raises:
        InternalError: a field holds what CBOR cannot carry (text that is not UTF-8, an object).
    """
    try:
        return cbor2.dumps(
            [[message.KIND, _ENCODERS[type(message)](message)] for message in messages]
        )
    except (*_CBOR_ERRORS, KeyError) as error:
        names = ", ".join(sorted({type(message).__name__ for message in messages}))
        raise InternalError(f"a message among {names} cannot be encoded: {error!s:.200}") from error


def split(frame: bytes, *, transfer: int) -> list[bytes]:
    """The frame as frames of at most `MAX_MESSAGE_BYTES`: itself, or `Piece` frames in order.

    Args:
        transfer: a number that no other unfinished transfer of this connection has.

    Raises:
        InternalError: the frame is larger than a peer takes (`MAX_FRAME_BYTES`).
    """
    if len(frame) <= MAX_MESSAGE_BYTES:
        return [frame]
    if len(frame) > MAX_FRAME_BYTES:
        raise InternalError(
            f"a frame of {len(frame)} bytes is larger than {MAX_FRAME_BYTES}; send fewer at once"
        )
    starts = range(0, len(frame), PIECE_BYTES)
    return [
        encode([Piece(transfer, index, start == starts[-1], frame[start : start + PIECE_BYTES])])
        for index, start in enumerate(starts)
    ]


def pack(messages: Sequence[Message], *, transfers: Iterator[int]) -> list[bytes]:
    """These messages, in order, in few frames of at most `MAX_MESSAGE_BYTES`, ready to send.

    None has more than `MAX_FRAME_MESSAGES` messages, which is what a peer takes.

    Only a single message that is larger travels in pieces, each with a number of ``transfers``.

    Raises:
        InternalError: as `encode` and `split`.
    """
    if len(messages) <= MAX_FRAME_MESSAGES:
        frame = encode(messages)
        if len(frame) <= MAX_MESSAGE_BYTES:
            return [frame]
        if len(messages) == 1:
            return split(frame, transfer=next(transfers))
    middle = len(messages) // 2
    return pack(messages[:middle], transfers=transfers) + pack(
        messages[middle:], transfers=transfers
    )


# --- decoding ------------------------------------------------------------------------------


def _check_in(hint: object) -> Check | None:
    """The `Check` of an annotation, also inside ``… | None``."""
    for found in getattr(hint, "__metadata__", ()):
        if isinstance(found, Check):
            return found
    return next(filter(None, map(_check_in, get_args(hint))), None)


def _plan(message: type[Message]) -> Iterator[tuple[str, Check, object]]:
    """Name, check and default of every field; `MISSING` stands for none."""
    hints = get_type_hints(message, include_extras=True)
    for field in fields(message):
        check = _check_in(hints[field.name])
        if check is None:
            raise InternalError(f"field {field.name} of {message.__name__} has no check")
        yield field.name, check, field.default


def _decoder(message: type[Message]) -> _Decoder:
    """What makes one class from a decoded map, checking every field."""
    plan = tuple(_plan(message))
    accepts = {name: check.accept for name, check, _ in plan}
    expected = {name: check.expected for name, check, _ in plan}
    required = frozenset(name for name, _, default in plan if default is MISSING)
    hook = HOOKS.get(message)
    title = f"message {message.__name__}"

    def build(found: dict[str, object]) -> Message:
        if not required <= found.keys():
            name = min(required - found.keys())
            raise ProtocolError(f"{title}, field {name}: expected {expected[name]}, got nothing")
        arguments = {}
        try:
            for name, value in found.items():
                if name in accepts:
                    arguments[name] = accepts[name](value)
        except ValueError as error:
            raise ProtocolError(
                f"{title}, field {name}: expected {expected[name]}, {error}"
            ) from None
        decoded = message(**arguments)
        if hook is not None:
            try:
                hook(decoded)
            except ValueError as error:
                raise ProtocolError(f"{title}, {error}") from None
        return decoded

    return build


_DECODERS: Final = {kind: _decoder(message) for kind, message in MESSAGES.items()}


def _refuse_tag(*_: object) -> NoReturn:
    raise ValueError("tags are not allowed")


_REFUSED_TAGS: Final[dict[int, Callable[..., Any]]] = dict.fromkeys(_TAGS_OF_CBOR2, _refuse_tag)


def _load(frame: bytes) -> object:
    """The one CBOR item that the frame consists of."""
    stream = io.BytesIO(frame)
    try:
        item: object = cbor2.CBORDecoder(
            stream,
            read_size=max(len(frame), 1),
            max_depth=MAX_DEPTH,
            allow_indefinite=False,
            allow_duplicate_keys=False,
            strict_hashable_types=True,
            semantic_decoders=_REFUSED_TAGS,
            tag_hook=_refuse_tag,
        ).decode()
    except _CBOR_ERRORS as error:
        raise ProtocolError(
            f"frame of {len(frame)} bytes is not valid CBOR: {error!s:.200}"
        ) from error
    # The decoder puts back what it read beyond the item.
    if stream.tell() != len(frame):
        raise ProtocolError(
            f"frame of {len(frame)} bytes has {len(frame) - stream.tell()} after its end"
        )
    return item


def _message(item: object) -> Message:
    if type(item) is not list or len(item) != 2:
        raise ProtocolError("a message is not an array of a kind and a map")
    kind, found = item
    if type(kind) is not int or not 0 <= kind <= MAX_U32:
        raise ProtocolError("the kind of a message is not an integer from 0 to 2^32-1")
    if type(found) is not dict or not set(map(type, found)) <= {str}:
        raise ProtocolError(f"the fields of a message of kind {kind} are not a map of text keys")
    build = _DECODERS.get(kind)
    if build is None:
        request = found.get("request")
        known = type(request) is int and 0 <= request <= MAX_U64
        return UnknownMessage(kind, request if known else None)
    return build(found)


def decode(frame: bytes, *, limit_bytes: int = MAX_FRAME_BYTES) -> list[Message]:
    """The messages of one frame, every field checked. Unknown fields are ignored.

    An unknown kind gives an `UnknownMessage`.

    Raises:
        ProtocolError: it is no frame; the message names the message and the field.
    """
    if len(frame) > limit_bytes:
        raise ProtocolError(f"frame of {len(frame)} bytes is larger than {limit_bytes}")
    items = _load(frame)
    if type(items) is not list or len(items) > MAX_FRAME_MESSAGES:
        raise ProtocolError(f"a frame is not an array of at most {MAX_FRAME_MESSAGES} messages")
    return [_message(item) for item in items]


@dataclass(slots=True)
class _Transfer:
    pieces: list[bytes]
    size: int = 0


class Assembler:
    """Puts frames that came in pieces together again, for one connection."""

    def __init__(self) -> None:
        self._open: dict[int, _Transfer] = {}

    def feed(self, messages: Sequence[Message]) -> bytes | None:
        """Take the one `Piece` of a frame; returns the whole frame with the last one.

        Raises:
            ProtocolError: not a piece alone, out of order, too large, or too many at once.
        """
        if len(messages) != 1 or not isinstance(messages[0], Piece):
            raise ProtocolError("message Piece: expected it alone in its frame")
        piece = messages[0]
        transfer = self._transfer_of(piece)
        transfer.size += len(piece.data)
        if sum(each.size for each in self._open.values()) > MAX_FRAME_BYTES:
            raise ProtocolError(f"frames in pieces are larger than {MAX_FRAME_BYTES} bytes")
        transfer.pieces.append(piece.data)
        if not piece.last:
            return None
        del self._open[piece.transfer]
        return b"".join(transfer.pieces)

    def _transfer_of(self, piece: Piece) -> _Transfer:
        transfer = self._open.get(piece.transfer)
        if transfer is None:
            if len(self._open) >= MAX_OPEN_TRANSFERS:
                raise ProtocolError(f"more than {MAX_OPEN_TRANSFERS} frames in pieces at once")
            transfer = self._open[piece.transfer] = _Transfer([])
        if piece.index != len(transfer.pieces):
            raise ProtocolError(
                f"message Piece, field index: expected {len(transfer.pieces)}, got {piece.index}"
            )
        if not piece.data:
            # Endless empty pieces would never reach the limit of bytes.
            raise ProtocolError("message Piece, field data: expected bytes, got none")
        return transfer
