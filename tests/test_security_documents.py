"""The threat model's claims each have a test that exists, and SECURITY.md leads to it."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parent.parent
MODEL = (ROOT / "docs" / "threat-model.md").read_text("utf-8")
REFERENCE = re.compile(r"`(tests/[\w/]+\.py)::(test_\w+)`")


def test_every_test_that_is_named_exists() -> None:
    named = REFERENCE.findall(MODEL)
    assert len(named) > 30
    missing = [
        f"{path}::{name}"
        for path, name in named
        if not (ROOT / path).is_file()
        or not re.search(rf"^(async )?def {name}\(", (ROOT / path).read_text("utf-8"), re.MULTILINE)
    ]
    assert missing == []


def test_every_claim_has_a_test() -> None:
    attacks = MODEL.partition("## Who might attack")[2].partition("## Defaults")[0]
    claims = re.split(r"^- ", attacks, flags=re.MULTILINE)[1:]
    bare = [claim for claim in claims if not (REFERENCE.search(claim) or "(above)" in claim)]
    assert bare == []


def test_the_way_to_report_and_the_model_are_found() -> None:
    text = (ROOT / "SECURITY.md").read_text("utf-8")
    assert "docs/threat-model.md" in text and "Report a vulnerability" in text
    assert "SECURITY.md" in (ROOT / "README.md").read_text("utf-8")
    (anchor,) = re.findall(r"threat-model\.md#([\w-]+)", text)
    headings = [title.lower().replace(" ", "-") for title in re.findall(r"^## (.+)$", MODEL, re.M)]
    assert anchor in headings
