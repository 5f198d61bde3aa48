"""What a log line looks like, whatever is in it."""

from __future__ import annotations

import io
import json
import logging

from fastworker.logs import configure_logging, escape_controls

log = logging.getLogger("fastworker.test")


def logged(format: str, level: str = "info") -> io.StringIO:
    stream = io.StringIO()
    configure_logging(level, format, stream=stream)
    return stream


def test_text_is_one_line_with_moment_level_logger_message_and_fields() -> None:
    stream = logged("text")
    log.info("job %s done", 7, extra={"seconds": 1.5})
    moment, rest = stream.getvalue().split(" ", 1)
    assert moment.endswith("Z")
    assert len(moment) == len("2026-01-31T12:00:00.123Z")
    assert rest == "INFO fastworker.test job 7 done seconds=1.5\n"


def test_control_characters_cannot_break_a_line_or_drive_a_terminal() -> None:
    stream = logged("text")
    log.warning("a\nb\x1b[2J\u202e\x9b\ud800", extra={"task": "x\r\ny"})
    assert stream.getvalue().count("\n") == 1
    assert stream.getvalue().isprintable() is False  # the final newline only
    assert stream.getvalue().rstrip("\n").isprintable()
    assert escape_controls("é\n") == "é\\n"


def test_lines_of_a_traceback_are_marked() -> None:
    stream = logged("text")
    try:
        raise ValueError("first\n2026-01-01T00:00:00.000Z INFO forged")
    except ValueError:
        log.exception("failed")
    first, *rest = stream.getvalue().splitlines()
    assert first.endswith("failed")
    assert rest
    assert all(line.startswith("  | ") for line in rest)


def test_json_is_one_object_a_line_with_fields_kept_apart() -> None:
    stream = logged("json")
    try:
        raise ValueError("x")
    except ValueError:
        log.exception("a\nb", extra={"job": 1, "level": "mine", "raw": b"\x01"})
    body = json.loads(stream.getvalue())
    assert stream.getvalue().count("\n") == 1
    assert (body["level"], body["logger"], body["message"]) == ("error", "fastworker.test", "a\nb")
    assert (body["job"], body["level_"], body["raw"]) == (1, "mine", "01")
    assert "ValueError: x" in body["traceback"]
    assert body["timestamp"].endswith("Z")


def test_a_field_that_is_not_json_does_not_lose_the_record() -> None:
    class Broken:
        def __str__(self) -> str:
            raise RuntimeError

    loop: list[object] = []
    loop.append(loop)
    stream = logged("json")
    log.info("kept", extra={"broken": Broken(), "nan": float("nan"), "loop": loop})
    body = json.loads(stream.getvalue())
    assert (body["message"], body["nan"]) == ("kept", "nan")


def test_level_filters_and_a_second_call_replaces_the_first() -> None:
    first = logged("text", "debug")
    second = logged("text", "warning")
    log.info("no")
    log.warning("yes")
    assert first.getvalue() == ""
    assert second.getvalue().count("\n") == 1


def test_chatty_libraries_speak_from_warning_on() -> None:
    stream = logged("text", "debug")
    logging.getLogger("trio-websocket").info("no")
    log.debug("yes")
    assert "no" not in stream.getvalue()
    assert "yes" in stream.getvalue()
