"""`ws-learner report`: a page from a run's folder, or one line."""

from __future__ import annotations

from pathlib import Path

import pytest

from experiments.cli.console import main
from tests.support.html_pages import parse_page
from tests.support.report_runs import write_run


def test_it_writes_the_page(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = write_run(tmp_path / "runs" / "one")
    assert main(["report", str(run)]) == 0
    page = parse_page((run / "report.html").read_text())
    assert "ws-learner export runs/one --to deploy" in [pre.text for pre in page.all("pre")]
    out = tmp_path / "for anna.html"
    assert main(["report", str(run), "--out", str(out)]) == 0
    assert out.read_bytes() == (run / "report.html").read_bytes()
    said = capsys.readouterr().err
    assert f"wrote {out}, {out.stat().st_size:,} bytes" in said


def test_it_draws_the_picture_alone(tmp_path: Path) -> None:
    run = write_run(tmp_path / "runs" / "one")
    picture = tmp_path / "pictures" / "one.svg"
    picture.parent.mkdir()
    assert main(["report", str(run), "--picture", str(picture)]) == 0
    assert picture.read_text().rstrip().endswith("</svg>")
    assert not (run / "report.html").exists()
    png = tmp_path / "one.png"
    assert main(["report", str(run), "--picture", str(png), "--out", str(tmp_path / "a.html")]) == 0
    assert png.read_bytes()[:4] == b"\x89PNG"
    assert (tmp_path / "a.html").exists()


def test_what_it_refuses_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = write_run(tmp_path / "one")
    (tmp_path / "unfinished").mkdir()
    for words, said in (
        ([str(tmp_path / "none")], "/none: no such folder or name of a run"),
        ([str(tmp_path / "unfinished")], "no finished run"),
        ([str(run), "--out", "page.pdf"], "--out page.pdf: give a file that ends in .html or .md"),
        (
            [str(run), "--picture", "a.gif"],
            "--picture a.gif: give a file that ends in .svg or .png",
        ),
        ([str(run), "--picture", str(run / "summary.json" / "a.svg")], "summary.json is no folder"),
        (
            [str(run), "--out", str(tmp_path / "one" / "summary.json" / "a.html")],
            "summary.json is no folder",
        ),
    ):
        assert main(["report", *words]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith("error: ")
        assert said in line
