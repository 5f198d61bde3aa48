"""What a webhook's receiver may ask for."""

from __future__ import annotations

import pytest

from fastworker.server.webhooks import read_retry_after


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        *(("0", 0.0), (" 7 ", 7.0), ("7200", 3600.0), ("-1", None), ("nan", None), ("", None)),
        *(("9" * 400, None), ("Thu, 01 Jan 1970 00:02:00 GMT", 20.0), ("x" * 9000, None)),
        *(("Thu, 01 Jan 1960 00:00:00 GMT", 0.0), ("Fri, 31 Dec 9999 23:59:59 GMT", 3600.0)),
    ],
)
def test_retry_after_is_a_number_or_a_date(text: str, seconds: float | None) -> None:
    assert read_retry_after(text, 100.0) == seconds
