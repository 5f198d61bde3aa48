"""Closes a run of the checks: adds up pytest's reports into one line, `N passed, M failed`."""

from __future__ import annotations

import sys
import xml.etree.ElementTree as ET
from pathlib import Path


def count(folder: Path) -> tuple[int, int, int]:
    """Passed, failed and skipped tests over all reports in ``folder``."""
    passed = failed = skipped = 0
    for report in sorted(folder.glob("*.xml")):
        for suite in ET.parse(report).getroot().iter("testsuite"):
            bad = int(suite.get("failures", 0)) + int(suite.get("errors", 0))
            left_out = int(suite.get("skipped", 0))
            passed += int(suite.get("tests", 0)) - bad - left_out
            failed += bad
            skipped += left_out
    return passed, failed, skipped


def main() -> None:
    """Arguments: nox's exit status, the folder of reports."""
    status = int(sys.argv[1])
    passed, failed, skipped = count(Path(sys.argv[2]))
    if status and not failed:
        print("no test failed, but another check did, or the tests could not run: see above")
    print(f"{passed} passed, {failed} failed, {skipped} skipped")


if __name__ == "__main__":
    main()
