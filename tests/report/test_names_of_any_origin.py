"""Names with marks of Markdown, HTML, formulas and terminals stand for themselves in reports."""

from __future__ import annotations

import re
from pathlib import Path
from xml.etree import ElementTree

import pandas as pd
import pytest

from ws_learner.core import folder_name, write_json
from ws_learner.report import draw_all, read_table, write_report
from ws_learner.report.markdown_table import fenced, markdown_table, plain_markdown
from ws_learner.report.table import COLUMNS, to_csv
from ws_learner.report.terminal import print_summary

NAMES = [
    "a|b.weight",
    "<img src=x onerror=y>.weight",
    "[text](http://x).weight",
    "`code` **bold** _it_.weight",
    "&lt;.weight",
    "$x^2$ $.weight",
    "new\nline.weight",
    "\x1b[31mred\u202e.weight",
    '"quoted", with comma.weight',
    "=1+1.weight",
]


def table() -> pd.DataFrame:
    rows = [(name, "linear", "ff", "2x2", 4, 0.5, 0.5, 4, 2) for name in NAMES]
    return pd.DataFrame(rows, columns=list(COLUMNS))


@pytest.fixture
def run(tmp_path: Path) -> Path:
    write_json(
        tmp_path / "summary.json",
        {"experiment": "a<b>`c`", "metric": "x|<i>", "sparse_metric": 0.5, "command": "x ``` y"},
    )
    (tmp_path / "config.yaml").write_text("a: |\n  ```\n  </details><script>\n")
    (tmp_path / "ratios.csv").write_text(to_csv(table()))
    rollouts = [(0, "<b>$k$", 0.5, ""), (1, "a`b`", 0.4, "")]
    frame = pd.DataFrame(rollouts, columns=["rollout", "kind", "reward", "failed"])
    (tmp_path / "rollouts.csv").write_text(frame.to_csv(index=False))
    return tmp_path


def outside_code(text: str) -> str:
    """Markdown without blocks of code and marks that a backslash precedes."""
    text = re.sub(r"(?ms)^(`{3,})\w*\n.*?\n\1$", "", text)
    return re.sub(r"`[^`\n]*`", "", re.sub(r"\\.", "", text))


def test_a_report_shows_names_as_they_are(run: Path) -> None:
    text = write_report(run).read_text()
    shown = outside_code(text)
    own = ("<details>", "</details>", "<summary>", "</summary>", "<code>", "</code>")
    for tag in own:
        shown = shown.replace(tag, "")
    assert "<" not in shown.replace("](<", "")
    assert "](http" not in shown
    assert "\x1b" not in text
    assert "\u202e" not in text
    layers = text.split("## Layers")[1].split("\n## ")[0]
    rows = [line for line in layers.splitlines() if line.startswith("|")]
    assert len(rows) == 2 + len(NAMES) + 1
    columns = {len(re.findall(r"(?<!\\)\|", row)) for row in rows}
    assert columns == {9}


def test_a_table_comes_back(run: Path) -> None:
    assert read_table(run / "ratios.csv")["layer"].tolist() == NAMES


def test_figures_draw_any_name(run: Path) -> None:
    drawn = draw_all(run)
    assert {path.name for path in drawn} >= {"ratios.svg", "search.svg"}
    for path in drawn:
        ElementTree.parse(path)  # XML allows no control characters


def test_the_terminal_is_given_no_control_characters(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    print_summary({"experiment": "a\x1b[31m"}, table())
    printed = capsys.readouterr().out
    assert "\x1b" not in printed
    assert len(printed.splitlines()) < 20
    assert "new\\nline" in printed


@pytest.mark.parametrize(
    "name", ["layer1.0.conv1.weight", "blocks.0.attn.q_proj.weight", "conv2d_1", "4x3", "x-y z"]
)
def test_ordinary_names_stay(name: str) -> None:
    assert plain_markdown(name) == name
    assert folder_name(name) == name


def test_marks_are_escaped() -> None:
    assert plain_markdown("_a_ b*") == r"\_a\_ b\*"
    assert markdown_table([("h",), ("a|b",)], ("left",)).count(r"a\|b") == 1
    assert fenced("a\n````\nb", "yaml") == "`````yaml\na\n````\nb\n`````"


@pytest.mark.parametrize(
    "name", ["../up", "/abs", "..", ".", "", ".hidden", "a/../../b", "a\\b", "a\0b", "x" * 999, "~"]
)
def test_a_name_is_one_folder(name: str, tmp_path: Path) -> None:
    folder = folder_name(name)
    place = (tmp_path / folder).resolve()
    assert place.parent == tmp_path.resolve()
    place.mkdir()
