"""Write docs/what_works.md from the rows in tests/test_what_works.py, which CI runs.

    python docs/build_what_works.py            writes the page
    python docs/build_what_works.py --check    exit code 1 if the page is not current

The rows say what happens; the tests check that it does.
"""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "what_works.md"
sys.path.insert(0, str(ROOT))

HEAD = """# What works

Networks, data, losses, training loops and files that people bring, each tried by the tests: \
`pytest tests/test_what_works.py`. A row either works unmodified, or is refused with this line \
before work starts.
"""


def page() -> str:
    """The page's text."""
    from tests.support.what_works.row import AREAS, rows

    found = list(rows())
    lines = [HEAD]
    for area in AREAS:
        here = [row for row in found if row.area == area]
        if here:
            lines += [f"## {area.capitalize()}", "", "| you bring | what happens |", "|---|---|"]
            lines += [f"| {row.what} | {_outcome(row.refused)} |" for row in here]
            lines += [""]
    return "\n".join(lines)


def _outcome(refused: str | None) -> str:
    if refused is None:
        return "works unmodified"
    line = refused.replace("|", "\\|")
    return f"refused: ``{line}``" if "`" in line else f"refused: `{line}`"


def main() -> int:
    """Write or check the page; return the exit code."""
    text = page()
    if "--check" not in sys.argv[1:]:
        PAGE.write_text(text)
        return 0
    if PAGE.read_text() == text:
        return 0
    print(f"{PAGE.name} is not current: run `python docs/build_what_works.py`")
    return 1


if __name__ == "__main__":
    sys.exit(main())
