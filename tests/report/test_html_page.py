"""`report.html`: whole, loads nothing, has the numbers of the files, and any name as text."""

from __future__ import annotations

import base64
import csv
import hashlib
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.stats import binomtest

from tests.support.html_pages import Node, parse_page, table_after
from tests.support.report_runs import write_run
from ws_learner import UserError
from ws_learner.core import write_json
from ws_learner.report import write_html, write_report_file
from ws_learner.report.html.limits import thinned

HOSTILE = (
    "<script>alert(1)</script>.weight",
    "</style></title><img src=x onerror=y>.weight",
    '" onmouseover="x',
    "a|b.$x^2$.weight",
    "]]>--><!-- &lt;.weight",
    "new\nline\x1b[31m\u202e.weight",
    "{{ 7 * 7 }}{% raw %}",
    "x" * 5000,
)
FETCHES = ("src", "srcset", "data", "poster", "action", "formaction", "background", "ping")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_run(tmp_path_factory.mktemp("runs") / "one")


@pytest.fixture(scope="module")
def page(run: Path) -> Node:
    return page_of(run)


def page_of(run: Path) -> Node:
    write_html(run, run / "report.html")
    return parse_page((run / "report.html").read_text())


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def card(page: Node, label: str) -> str:
    """The text of a card."""
    cards = {one.having("class", "label")[0].text: one.text for one in page.having("class", "card")}
    found = next(text for name, text in cards.items() if name.startswith(label))
    return found.replace("\N{NO-BREAK SPACE}", " ")


def check_alone(page: Node) -> None:
    """Nothing is fetched, and only the page's own script runs."""
    for node in page.all():
        assert not set(FETCHES) & node.attributes.keys(), node
        assert not any(name.startswith("on") for name in node.attributes), node
        assert node.attributes.get("href", "#").startswith("#"), node
        assert node.tag not in ("link", "img", "iframe", "object", "embed", "base", "form"), node
        for found in re.findall(r"url\(([^)]*)", str(node.attributes)):
            assert found.startswith("#")
    style = "".join(node.text for node in page.all("style"))
    assert "url(" not in style
    assert "@import" not in style
    (script,) = page.all("script")
    (policy,) = (
        node.attributes["content"]
        for node in page.all("meta")
        if node.attributes.get("http-equiv") == "Content-Security-Policy"
    )
    digest = base64.b64encode(hashlib.sha256(script.text.encode()).digest()).decode()
    assert "default-src 'none'" in policy
    assert f"script-src 'sha256-{digest}'" in policy


def test_a_page_is_whole_and_loads_nothing(page: Node) -> None:
    check_alone(page)
    ids = [node.attributes["id"] for node in page.all() if "id" in node.attributes]
    assert len(set(ids)) == len(ids)
    links = [node.attributes["href"] for node in page.all() if "href" in node.attributes]
    assert links
    assert {link.removeprefix("#") for link in links} <= set(ids)
    assert len(page.all("h1")) == 1
    assert len(page.all("svg")) == 3  # protocols, search, training
    assert all(node.attributes["role"] == "img" for node in page.all("svg"))


def test_figures_have_the_colours_of_the_scheme(page: Node) -> None:
    style = page.all("style")[0].text
    light, dark = style.split("prefers-color-scheme: dark")
    used = set()
    for node in page.all("svg"):
        for part in node.all():
            own = part.attributes.get("style", "")
            assert "#" not in own, own  # no colour of its own
            used |= set(re.findall(r"var\(--(\w+)\)", own))
    assert {"ink", "blue", "orange"} <= used
    assert all(f"--{name}:" in light and f"--{name}:" in dark for name in used)


def test_the_numbers_of_layers_are_those_of_the_table(run: Path, page: Node) -> None:
    head, *body, total = table_after(page, "layers")
    assert head[:4] == ["layer", "achieved", "chosen", "weights"]
    rows = rows_of(run / "ratios.csv")
    assert [line[0] for line in body] == [f"{row['layer']}ff {row['shape']}" for row in rows]
    for line, row in zip(body, rows, strict=True):
        assert line[1:3] == [f"{float(row[name]):.4f}" for name in ("achieved", "prune_ratio")]
        assert line[3:] == [f"{int(row[name]):,}" for name in ("weights", "macs", "macs_kept")]
    sums = [sum(int(row[name]) for row in rows) for name in ("weights", "macs", "macs_kept")]
    assert total[3:] == [f"{value:,}" for value in sums]


def test_the_cards_count_and_measure(run: Path, page: Node) -> None:
    rows = rows_of(run / "ratios.csv")
    zeros = sum(round(float(row["achieved"]) * int(row["weights"])) for row in rows)
    total = sum(int(row["weights"]) for row in rows)
    assert f"{zeros:,} of {total:,}" in card(page, "zero weights")
    metric = card(page, "accuracy")
    assert "92.37 % → 91.12 %" in metric
    assert "-1.25 points" in metric
    for hits in (9237, 9112):  # an independent implementation of Wilson's interval
        found = binomtest(hits, 10_000).proportion_ci(method="wilson")
        assert f"{100 * found.low:.2f} to {100 * found.high:.2f} %" in metric
    assert "12.3 kB" in card(page, "size on disk")
    assert "not measured" in card(page, "latency")
    assert "ws-learner export one --to deploy" in card(page, "latency").replace("s/", " ")
    assert "4 min 17 s" in card(page, "time")


def test_no_interval_where_scores_are_not_right_or_wrong(tmp_path: Path) -> None:
    graded = write_run(tmp_path / "graded", sparse_metric=0.91123)  # 9,112.3 of 10,000
    other = write_run(tmp_path / "error", metric_unit="K", metric="MAE", higher_is_better=False)
    for run, said in ((graded, "not right or wrong"), (other, "no share of examples")):
        text = card(page_of(run), "MAE" if run == other else "accuracy")
        assert said in text
        assert "95 %" not in text


def test_latency_that_was_measured_is_shown(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run")
    write_json(
        run / "deploy" / "deploy.json",
        {
            "engine": "wsr",
            "threads": 1,
            "batch": 1,
            "bytes": 5120,
            "measured_ms": {"median": 3.217},
        },
    )
    page = page_of(run)
    assert "3.22 ms" in card(page, "latency")
    assert "5.1 kB" in card(page, "size on disk")
    part = {"budget": "latency=0.4@wsr", "unit": "latency@wsr", "most": 2.0, "finished": 2.5}
    page = page_of(write_run(tmp_path / "missed", budget_parts=[part]))
    assert "2.5 ms of 2 ms (125.0%)" in card(page, "latency")
    assert "budget latency=0.4@wsr is missed" in page.having("class", "notices")[0].text


def test_the_search_is_that_of_the_rollouts(run: Path, page: Node) -> None:
    rows = [row for row in rows_of(run / "rollouts.csv") if row["kind"] != "select"]
    _, *kinds = table_after(page, "search-section")
    good = {
        kind: [float(row["reward"]) for row in rows if row["kind"] == kind and not row["failed"]]
        for kind in dict.fromkeys(row["kind"] for row in rows)
    }
    counts = {kind: sum(row["kind"] == kind for row in rows) for kind in good}
    assert kinds == [
        [kind, str(counts[kind]), f"{sum(own) / len(own):.4f}", f"{max(own):.4f}"]
        for kind, own in good.items()
    ]
    finals = [
        node for node in page.all("table") if "proposer" in node.text and "select" in node.text
    ]
    lines = [[cell.text for cell in row.all("td")] for row in finals[0].all("tr")[1:]]
    first = [f"{float(rows[number]['reward']):.4f}" for number in (1, 2)]
    assert lines == [
        ["1", "prior", first[0], "0.6100", "chosen"],
        ["2", "prior", first[1], "0.4000", ""],
    ]
    assert "1 rollouts could not be scored" in page.having("class", "notices")[0].text


def test_the_protocols_are_those_that_the_run_kept(run: Path, page: Node) -> None:
    kept, ratios = rows_of(run / "protocols.csv"), rows_of(run / "ratios.csv")
    _, *lines = table_after(page, "protocols-section")
    shown = {line[0]: line[1:] for line in lines}
    own = [round(float(row["prune_ratio"]) * int(row["weights"])) for row in ratios]
    first = rows_of(run / "rollouts.csv")[0]
    assert shown["divergence"][0] == f"{float(first['reward']):.4f}"
    assert shown["uniform"][0] == "not scored"
    for name in ("divergence", "erk", "uniform"):
        zeros = [int(row[name]) for row in kept]
        macs = [7 * (int(row["weights"]) - count) for row, count in zip(kept, zeros, strict=True)]
        whole = sum(7 * int(row["weights"]) for row in kept)
        moved = sum(abs(a - b) for a, b in zip(zeros, own, strict=True)) / 2 / sum(own)
        assert shown[name][1:] == [f"{100 * sum(macs) / whole:.2f} %", f"{100 * moved:.1f} %"]


def test_settings_messages_and_what_stays_dense(page: Node) -> None:
    changed = table_after(page, "settings")[1:]
    assert sorted(changed) == [["seed", "3", "0"], ["ws_prune_ratio", "0.9", "0.75"]]
    notices = [item.text for item in page.having("class", "notices")[0].all("li")]
    assert notices[1:] == [
        "warningUserWarning: conv1.weight stays dense",
        "adjusted: --ws_nb_rlouts_min 20 -> 4: --num_rollouts is 8",
    ]
    assert "run directory: runs/one" in page.having("class", "plain")[0].text
    assert ["biases", "17", "few weights"] in table_after(page, "dense")


def test_the_same_files_give_the_same_bytes(run: Path, tmp_path: Path) -> None:
    first = tmp_path / "first.html"
    write_html(run, first)
    copy = shutil.copytree(run, tmp_path / "elsewhere" / "runs" / run.name)
    moved = shutil.copytree(run, tmp_path / "runs" / run.name)
    for one in (copy, moved):
        write_html(one, one / "again.html")
    assert (copy / "again.html").read_bytes() == (moved / "again.html").read_bytes()
    write_html(run, tmp_path / "second.html")
    assert first.read_bytes() == (tmp_path / "second.html").read_bytes()
    assert not re.search(rb"20\d\d-\d\d-\d\d", first.read_bytes())  # no dates
    assert str(tmp_path).encode() not in (moved / "again.html").read_bytes()


def test_names_of_any_origin_are_text(tmp_path: Path) -> None:
    evil = HOSTILE[0]
    run = write_run(
        tmp_path / "run",
        names=HOSTILE,
        kind=HOSTILE[1],
        experiment=evil,
        metric=HOSTILE[1],
        metric_unit=evil,
        measured_on=HOSTILE[2],
        command=evil + "\n" + HOSTILE[5],
        versions={evil: HOSTILE[1]},
        hardware=evil,
        budget_parts=[{"budget": evil, "unit": evil, "most": 1, "finished": 2}],
        critic={"rounds": evil, "rollouts": evil, "rmse": 0.1, "within_1": 0.5, "within_2": 0.5},
    )
    settings = {evil: HOSTILE[1], "b": [HOSTILE[6]]}
    (run / "config.yaml").write_text(json.dumps(settings))
    (run / "defaults.yaml").write_text(json.dumps(dict.fromkeys(settings, evil)))
    page = page_of(run)
    check_alone(page)
    raw = (run / "report.html").read_text()
    assert "\x1b" not in raw
    assert "\u202e" not in raw
    assert "49" not in [cell.text for cell in page.all("td")]
    assert len(raw) < 400_000  # a name of 5,000 characters is shortened
    layers = [line[0] for line in table_after(page, "layers")]
    assert any(line.startswith(evil) for line in layers)
    assert any("{{ 7 * 7 }}{% raw %}" in line for line in layers)
    assert evil in page.all("h1")[0].text
    assert evil in page.all("pre")[0].text
    assert evil in "".join(table_after(page, "versions")[1])


def test_files_that_are_no_results_may_be_damaged(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run")
    for name, content in (
        ("protocols.csv", b"layer,weights,erk\nconv1.weight,x,y\n"),
        ("dense.csv", b"\xff\xfe"),
        ("config.yaml", b"a: [1"),
        ("defaults.yaml", b"- 1"),
        ("identity.json", b"[]"),
        ("messages.jsonl", b'{"text": 3}\n[\n"x"\n'),
    ):
        (run / name).write_bytes(content)
    page = page_of(run)
    lines = [item.text for item in page.having("class", "notices")[0].all("li")]
    for name in ("protocols.csv", "dense.csv", "config.yaml", "defaults.yaml", "identity.json"):
        assert len([line for line in lines if line.startswith(name)]) == 1, (name, lines)
    assert "uniform" in [line[0] for line in table_after(page, "protocols-section")]


def test_a_run_without_the_files_of_today(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run")
    for name in ("protocols.csv", "dense.csv", "defaults.yaml", "messages.jsonl", "identity.json"):
        (run / name).unlink()
    (run / "model.safetensors").unlink()
    page = page_of(run)
    for said in ("kept no protocols.csv", "kept no defaults", "none of its messages"):
        assert said in page.text
    assert "not in this folder" in card(page, "size on disk")
    for name in ("rollouts.csv", "metrics.csv", "config.yaml"):
        (run / name).unlink()
    page = page_of(run)
    assert [node.attributes["id"] for node in page.all("h2")][:2] == ["layers", "protocols-section"]


def test_a_dense_run_has_a_page(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", learner="full-prec", sparse_metric=None)
    for name in ("ratios.csv", "rollouts.csv", "protocols.csv", "dense.csv"):
        (run / name).unlink()
    page = page_of(run)
    assert "dense training" in page.all("h1")[0].text
    assert "92.37 %" in card(page, "accuracy")


@pytest.mark.parametrize("name", ["summary.json", "ratios.csv", "rollouts.csv", "metrics.csv"])
def test_a_damaged_result_is_one_line(name: str, tmp_path: Path) -> None:
    run = write_run(tmp_path / "run")
    (run / name).write_text("{x\n1,2,3\n4")
    with pytest.raises(UserError) as caught:
        write_html(run, run / "report.html")
    assert name in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (run / "report.html").exists()


@pytest.mark.parametrize(
    "entry",
    [
        {"sparse_metric": "high"},
        {"split_sizes": 3},
        {"budget_parts": [3]},
        {"versions": [1]},
        {"critic": 1},
        {"search_seconds": [2]},
        {"chosen_rollout": "x"},
        {"failed_rollouts": "many"},
        {"command": {"a": 1}},
        {"dense_macs": 0},
    ],
)
def test_a_wrong_entry_is_one_line_or_left_out(entry: dict[str, object], tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", **entry)
    said = ""
    try:
        check_alone(page_of(run))
    except UserError as error:
        said = str(error)
    assert "\n" not in said
    assert said.startswith(str(run)) or not said


def test_an_unfinished_run_is_refused(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run")
    (run / "summary.json").unlink()
    with pytest.raises(UserError, match="no finished run"):
        write_html(run, tmp_path / "page.html")


def test_the_ending_says_which_report(run: Path, tmp_path: Path) -> None:
    assert write_report_file(run, tmp_path / "a.HTML").read_text().startswith("<!doctype html>")
    assert write_report_file(run, tmp_path / "a.md").read_text().startswith("# net_at_data")
    with pytest.raises(UserError, match="ends in"):
        write_report_file(run, tmp_path / "a.pdf")


@pytest.mark.long
def test_a_large_run_fits_into_an_attachment(tmp_path: Path) -> None:
    names = [f"encoder.layers.{n // 4}.self_attention.proj{n % 4}.weight" for n in range(200)]
    run = write_run(tmp_path / "run", names=names, rollouts=2000)
    page = page_of(run)
    assert (run / "report.html").stat().st_size < 1_000_000
    assert len(table_after(page, "layers")) == 202
    assert table_after(page, "search-section")[2][:2] == ["agent", "1,997"]


@pytest.mark.long
def test_what_is_longer_is_cut_and_counted(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", names=[f"layer{n}.weight" for n in range(700)], rollouts=20)
    lines = [json.dumps({"level": "status", "text": f"layer {n} is odd"}) for n in range(5000)]
    (run / "messages.jsonl").write_text("\n".join(lines) + "\n")
    log = "".join(f"{n},sparse,{n % 7},0.5\n" for n in range(1, 50_000))
    (run / "metrics.csv").write_text("step,phase,train/loss,select/accuracy\n" + log)
    (run / "metrics.csv").write_text(
        (run / "metrics.csv")
        .read_text()
        .replace("step,", "step,epoch,")
        .replace(",sparse", ",1,sparse")
    )
    page = page_of(run)
    assert (run / "report.html").stat().st_size < 1_000_000
    assert len(table_after(page, "layers")) == 502
    weights = sum(int(row["weights"]) for row in rows_of(run / "ratios.csv"))
    assert table_after(page, "layers")[-1][3] == f"{weights:,}"
    for said in ("200 more layers", "4,800 more messages", "49,999 rows"):
        assert said in page.text


def test_a_thinned_search_keeps_its_best_and_its_chosen_rollout() -> None:
    rewards = np.random.default_rng(0).random(9000)
    frame = pd.DataFrame({"rollout": range(9000), "reward": rewards})
    matters = frame["reward"].ge(frame["reward"].cummax()) | frame["rollout"].eq(4321)
    few = thinned(frame, matters, most=1000)
    assert 1000 <= len(few) <= 2000
    assert few["rollout"].is_monotonic_increasing
    assert {4321, int(rewards.argmax()), 0, 8999} <= set(few["rollout"])
    assert few["reward"].cummax().max() == rewards.max()
    assert thinned(frame[:1000], matters[:1000], most=1000).equals(frame[:1000])
