"""`schema.cddl` and the code say the same, and frames stored by version 1 stay readable."""

from __future__ import annotations

import re
from dataclasses import MISSING, fields
from pathlib import Path

import cbor2
import pycddl  # type: ignore[import-untyped]
import pytest

import fastworker.wire
from fastworker.errors import ProtocolError
from fastworker.wire import messages as m
from fastworker.wire.codec import MESSAGES, decode, encode
from fastworker.wire.options import map_to_options, options_to_map
from tests.wire.examples import EXAMPLES, A

SCHEMA_TEXT = (Path(fastworker.wire.__file__).parent / "schema.cddl").read_text(encoding="utf-8")
SCHEMA = pycddl.Schema(SCHEMA_TEXT)
FRAMES = Path(__file__).parent / "frames_v1"


@pytest.mark.parametrize("name", EXAMPLES)
def test_encoded_example_satisfies_the_schema(name: str) -> None:
    SCHEMA.validate_cbor(encode([EXAMPLES[name]]))


@pytest.mark.parametrize("name", EXAMPLES)
def test_example_survives_the_round_trip(name: str) -> None:
    assert decode(encode([EXAMPLES[name]])) == [EXAMPLES[name]]


@pytest.mark.parametrize("name", EXAMPLES)
def test_frame_stored_by_version_1_still_decodes(name: str) -> None:
    stored = bytes.fromhex((FRAMES / f"{name}.hex").read_text(encoding="ascii"))
    SCHEMA.validate_cbor(stored)
    assert decode(stored) == [EXAMPLES[name]]


def test_every_kind_has_an_example_and_every_stored_frame_too() -> None:
    assert {example.KIND for example in EXAMPLES.values()} == set(MESSAGES)
    assert {path.stem for path in FRAMES.glob("*.hex")} == set(EXAMPLES)


def test_kinds_are_unique() -> None:
    classes = [
        value
        for value in vars(m).values()
        if isinstance(value, type) and issubclass(value, m.Message) and value is not m.Message
    ]
    assert len(classes) == len(MESSAGES) == len({message.KIND for message in classes})


def test_schema_names_the_fields_of_every_message() -> None:
    rules = re.findall(r"^[a-z-]+ = \[(\d+), \{(.*?)\}\]$", SCHEMA_TEXT, re.DOTALL | re.MULTILINE)
    in_schema = {
        int(kind): {key: bool(mark) for mark, key in re.findall(r'(\? )?"(\w+)":', body)}
        for kind, body in rules
    }
    in_code = {
        kind: {field.name: field.default is not MISSING for field in fields(message)}
        for kind, message in MESSAGES.items()
    }
    assert in_schema == in_code


@pytest.mark.parametrize(
    "message",
    [
        [6, {"number": -1}],
        [6, {"number": 2**63}],
        [6, {"number": "1"}],
        [6, {}],
        [16, {"client": A, "roster": 1}],
        [17, {"request": 1, "specs": [["t", "q", 4, {}]], "ids": A, "payloads": [b""]}],
        [17, {"request": 1, "specs": [["t", "q", 1]], "ids": A, "payloads": [b""]}],
        [51, {"ids": A, "tokens": [1], "statuses": b"1", "values": [1]}],
    ],
)
def test_schema_and_codec_refuse_what_is_wrong(message: object) -> None:
    frame = cbor2.dumps([message])
    with pytest.raises(pycddl.ValidationError):
        SCHEMA.validate_cbor(frame)
    with pytest.raises(ProtocolError):
        decode(frame)


def test_job_options_satisfy_their_rule() -> None:
    schema = pycddl.Schema("root = job-options\n" + SCHEMA_TEXT)
    found = {
        "keep_result": False,
        "on_lost": "fail",
        "callback": "client:" + "0f" * 16,
        "callback_data": b"sealed",
        "callback_token": "default",
        "parent": A,
    }
    schema.validate_cbor(cbor2.dumps(options_to_map(map_to_options(found))))
