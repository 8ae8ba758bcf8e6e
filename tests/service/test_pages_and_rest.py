"""What pages and REST show of runs of any content, finished and not."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.service import (
    RecordingStarter,
    client,
    made_run,
    phase_lines,
    progress_line,
    service_of,
)
from ws_learner.core import write_bytes, write_text

MARKUP = "<img src=x onerror=alert(1)>&\"'{{1234*1111}}{%x%}"


def test_the_list_is_an_array_newest_first(tmp_path: Path) -> None:
    import os

    for age, name in ((300, "old"), (100, "new"), (200, "middle")):
        run = made_run(tmp_path, name)
        when = run.stat().st_mtime - age
        os.utime(run / "identity.json", (when, when))
    asked = client(tmp_path)
    listed = asked.get("/runs").json()
    assert [row["id"] for row in listed] == ["new", "middle", "old"]
    assert {row["state"] for row in listed} == {"finished"}
    assert (listed[0]["dense"], listed[0]["sparse"]) == (0.9, 0.85)
    page = asked.get("/").text
    assert page.index("new") < page.index("middle") < page.index("/view/old")
    assert "-5.00 points" in page


def test_an_empty_and_a_missing_folder_are_fine(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "none"):
        asked = client(folder)
        assert asked.get("/runs").json() == []
        assert "No runs" in asked.get("/").text


def test_names_with_markup_stand_for_themselves(tmp_path: Path) -> None:
    run = made_run(tmp_path, experiment=MARKUP, metric=MARKUP, protocol=MARKUP, pattern=MARKUP)
    bad = "a,kind,reward,accuracy,failed,zeros/<script>alert(1)</script>\n"
    (run / "rollouts.csv").write_text(f"rollout{bad[1:]}0,{MARKUP},0.5,0.5,,3\n")
    (run / "ratios.csv").write_text("layer,achieved\n<script>alert(2)</script>,0.5\n")
    place = {"phase": MARKUP, "number": 1, "phases": 2, "description": MARKUP, "note": MARKUP}
    (run / "progress.jsonl").write_text(progress_line("phase", total=1.0, **place))
    write_text(run / "label.json", json.dumps({"name": MARKUP, "tags": [MARKUP]}))
    other = made_run(tmp_path, "other", experiment=MARKUP)
    service = service_of(tmp_path, starter=RecordingStarter())
    asked = client(service, accept="text/html", origin="http://127.0.0.1:8400")
    pages = ["/", "/rows", "/view/run", "/view/run/live", f"/compare?run=run&run={other.name}"]
    texts = [asked.get(page) for page in pages]
    texts.append(
        asked.post("/new", data={"experiment": MARKUP, "budget": MARKUP, "pattern": "4x1"})
    )
    texts.append(asked.get(f"/view/{MARKUP}"))
    for answer in texts:
        assert "<img" not in answer.text
        assert "<script>" not in answer.text
        assert str(1234 * 1111) not in answer.text
    assert "&lt;img" in texts[2].text


@pytest.mark.parametrize("name", ["ratios.csv", "rollouts.csv", "metrics.csv"])
def test_an_edited_table_is_shown_with_a_line(tmp_path: Path, name: str) -> None:
    run = made_run(tmp_path)
    assert client(tmp_path).get("/runs/run").json()["run"]["reason"] == ""
    table = run / name
    table.write_text(table.read_text().replace("0.8", "0.9"))
    asked = client(tmp_path)
    said = f"{name}: damaged or changed"
    assert said in asked.get("/runs/run").json()["run"]["reason"]
    for page in ("/", "/rows", "/view/run", "/view/run/live"):
        answer = asked.get(page)
        assert (answer.status_code, said in answer.text) == (200, True)


def _flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize("name", ["model.safetensors", "summary.json"])
@pytest.mark.parametrize("damage", [_flip, Path.unlink])
def test_weights_that_are_not_those_of_the_run_are_not_sent(
    tmp_path: Path, name: str, damage: Callable[[Path], None]
) -> None:
    run = made_run(tmp_path)
    whole = (run / "model.safetensors").read_bytes()
    assert client(tmp_path).get("/runs/run/model").content == whole
    damage(run / name)
    answer = client(tmp_path).get("/runs/run/model")
    unfinished = name == "summary.json" and damage is Path.unlink
    assert answer.status_code == (404 if unfinished else 422)
    assert unfinished or answer.json()["detail"].startswith(f"{name}: ")
    assert str(tmp_path) not in answer.text


@pytest.mark.parametrize("value", ["1e308", "-1e308", "1.7e308", "5e-324", "nan", "inf"])
def test_numbers_of_any_size_in_tables_break_no_page(tmp_path: Path, value: str) -> None:
    run = made_run(tmp_path)
    for name in ("rollouts.csv", "metrics.csv", "ratios.csv"):
        table = run / name
        table.write_text(table.read_text().replace(",0.5,", f",{value},"))
        if name == "rollouts.csv":
            table.write_text(table.read_text().replace("0.6,0.9,0.9", "-1e308,0.9,0.9"))
    asked = client(tmp_path)
    for page in ("/view/run", "/view/run/live", "/runs/run"):
        assert asked.get(page).status_code == 200


def test_a_page_shows_curves_profile_phases_and_files(tmp_path: Path) -> None:
    run = made_run(tmp_path)
    (run / "progress.jsonl").write_text("".join(phase_lines(["dense", "search", "training"])))
    text = client(tmp_path).get("/view/run").text
    assert text.count('<svg class="chart"') == 3  # rewards, loss, accuracy and zeros
    assert "rollout 1 by model" in text
    assert "0.875" in text
    assert "3 of 3" in text
    assert 'href="/runs/run/model"' in text
    assert 'action="/view/run/stop"' not in text


def test_details_are_those_of_the_files(tmp_path: Path) -> None:
    run = made_run(tmp_path)
    (run / "progress.jsonl").write_text("".join(phase_lines(["search", "training"], advances=2)))
    found = client(tmp_path).get("/runs/run").json()
    assert found["best"] == {
        "rollout": 1, "kind": "model", "reward": 0.7, "accuracy": 0.7, "rollouts": 3
    }  # fmt: skip
    assert [one["phase"] for one in found["phases"]] == ["search", "training"]
    assert all(one["done"] == one["total"] == 2 for one in found["phases"])
    assert {"name": "ratios.csv", "size": (run / "ratios.csv").stat().st_size} in found["files"]


def test_weights_are_there_once_the_run_has_finished(tmp_path: Path) -> None:
    made_run(tmp_path)
    early = made_run(tmp_path, "early", finished=False)
    (early / "model.safetensors").write_bytes(b"half")
    asked = client(tmp_path)
    given = asked.get("/runs/run/model")
    assert given.content == b"\x00" * 100
    assert 'filename="run.safetensors"' in given.headers["content-disposition"]
    assert asked.get("/runs/early/model").status_code == 404
    assert asked.get("/runs/run/report.html").status_code == 404  # it has none


def test_damaged_files_break_no_page(tmp_path: Path) -> None:
    names = ["summary.json", "identity.json", "rollouts.csv", "metrics.csv", "ratios.csv"]
    names += ["config.yaml", "progress.jsonl"]
    for name in names:
        for number, data in enumerate((b"\xff\x00{", b"[" * 9999, b'{"a": NaN}\n')):
            run = made_run(tmp_path, f"{name}-{number}", finished=name == "summary.json")
            (run / name).write_bytes(data)
    for number, data in enumerate((b"\xff", b"[" * 9999, b"{}", b'{"words": [3], "started": 1.0}')):
        write_bytes(tmp_path / ".service" / f"job{number}" / "command.json", data)
    asked = client(tmp_path)
    assert len(asked.get("/runs").json()) == 21
    for run in sorted(path.name for path in tmp_path.iterdir() if path.name != ".service"):
        assert asked.get(f"/view/{run}").status_code == 200, run
        assert asked.get(f"/runs/{run}").status_code == 200, run
    answer = asked.get("/compare", params={"run": [f"{name}-1" for name in names]})
    assert answer.status_code == 200


def test_stop_needs_a_process_and_resume_a_starter(tmp_path: Path) -> None:
    made_run(tmp_path, finished=False)
    service = service_of(tmp_path)
    assert "no process" in client(service).post("/runs/run/stop").json()["detail"]
    answer = client(service).post("/runs/run/resume")
    assert answer.status_code == 409
    assert "`experiment`" in answer.json()["detail"]
    assert client(service).get("/experiments").status_code in (409, 422)
    starter = RecordingStarter()
    assert client(tmp_path, starter=starter).post("/runs/run/resume").status_code == 200
    assert starter.resumed == ["run"]


def test_a_new_run_is_checked_before_it_starts(tmp_path: Path) -> None:
    made_run(tmp_path)
    refusing = RecordingStarter(problems=["--prune_ratio 0.99: too much"])
    answer = client(tmp_path, starter=refusing).post("/runs", json={"experiment": "one"})
    assert answer.status_code == 422
    assert answer.json()["detail"]["problems"] == ["--prune_ratio 0.99: too much"]
    assert refusing.started == []
    starter = RecordingStarter()
    asked = client(tmp_path, starter=starter, origin="http://127.0.0.1:8400")
    dry = asked.post("/runs?dry_run=true", json={"experiment": "one", "prune_ratio": 0.5})
    assert (dry.status_code, dry.json()["command"]) == (200, "prune one")
    shown = asked.post("/new", data={"experiment": "one", "action": "check"})
    assert "prune one" in shown.text
    assert "unknown" in shown.text  # no earlier run of it has finished
    assert starter.started == []
    started = asked.post("/runs", json={"experiment": "one", "budget": "macs=0.3"})
    assert (started.status_code, started.headers["location"]) == (201, "/runs/planned")
    assert starter.started == ["planned"]


def test_fields_that_exclude_each_other_are_refused(tmp_path: Path) -> None:
    asked = client(tmp_path, starter=RecordingStarter())
    for fields in (
        {"prune_ratio": 0.5, "budget": "macs=0.3"},
        {"rollouts": 8, "minutes": 2},
        {"prune_ratio": 75},
        {"budget": "--config=/etc/passwd"},
        {"pattern": "a\nb"},
        {"workers": -1},
    ):
        answer = asked.post("/runs", json={"experiment": "one"} | fields)
        assert answer.status_code == 422, fields


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        (
            {"prune_ratio": 75},
            "prune_ratio 75: must be a share above 0 and below 1; did you mean 0.75?",
        ),
        (
            {"prune_ration": 0.8},
            "prune_ration: no such setting; did you mean prune_ratio? Allowed: ",
        ),
        ({"workers": -1}, "workers -1: must be at least 0"),
        ({"rollouts": "many"}, "rollouts: must be a whole number"),
        ({"prune_ratio": "x%"}, "prune_ratio: must be a number"),
        ({"experiment": None}, "experiment: must be text"),
    ],
)
def test_fields_are_refused_in_the_words_of_the_command_line(
    tmp_path: Path, fields: dict[str, object], said: str
) -> None:
    asked = client(tmp_path, starter=RecordingStarter())
    answer = asked.post("/runs", json={"experiment": "one"} | fields)
    assert answer.status_code == 422
    (problem,) = answer.json()["detail"]["problems"]
    assert problem.startswith(said)
    half = {"experiment": "one", "prune_ratio": "50%"}
    assert asked.post("/runs?dry_run=true", json=half).status_code == 200


def test_a_run_that_is_not_there_is_named(tmp_path: Path) -> None:
    asked = client(tmp_path)
    for answer in (asked.get("/runs/nope"), asked.post("/runs/nope/stop")):
        assert answer.status_code == 404
        assert answer.json()["detail"] == "nope: no run is called so"


def test_openapi_names_every_route(tmp_path: Path) -> None:
    paths = client(tmp_path).get("/openapi.json").json()["paths"]
    assert set(paths) == {
        *("/runs", "/experiments", "/runs/{run}", "/runs/{run}/events", "/runs/{run}/stop"),
        *("/runs/{run}/resume", "/runs/{run}/report.html", "/runs/{run}/model"),
        "/runs/{run}/files/{name}",
    }
    assert set(paths["/runs"]) == {"get", "post"}
