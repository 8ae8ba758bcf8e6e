"""The benchmark of movement: its plan, its tables, and a real run in a process of its own."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks import movement_proof
from benchmarks.movement_cells import KEPT, Start, grid, table_cells
from benchmarks.movement_table import write_tables
from experiments.cli.flags import parse
from ws_learner.compat.nncf.reader import parse_nncf

HERE = Start(Path("pretrained.safetensors"), Path("tuned.safetensors"))


def test_every_cell_is_a_command_line_of_its_own() -> None:
    cells = grid() + table_cells(movement="adam-0.001")
    names = {cell.name for cell in cells}
    assert len(names) == len(set(cells))  # what is the same has one name, else not
    assert all(set(name) <= set("abcdefghijklmnopqrstuvwxyz0123456789._-") for name in names)
    for cell in {(c.variant, c.pattern, c.note, c.fresh): c for c in cells}.values():
        if cell.variant.startswith("soft"):
            parse_nncf(json.dumps(cell.soft_config()), path=Path("soft.json"))
            continue
        command = parse(cell.words(HERE, Path("folder")))
        assert command.ws.ws_prune_ratio == pytest.approx(1 - cell.kept)
        assert (command.ws.ws_method == "movement") == (cell.variant != "gradual")
        assert command.run.dense_checkpoint == (HERE.pretrained if cell.fresh else HERE.tuned)


def test_the_table_pairs_movement_and_its_baseline_everywhere() -> None:
    cells = table_cells(movement="adam-0.001", seeds=2)
    pairs = list(zip(cells[::2], cells[1::2], strict=True))
    for one, other in pairs:
        assert one.variant != other.variant == "gradual"
        assert (one.task, one.kept, one.pattern, one.seed) == (
            *(other.task, other.kept),
            *(other.pattern, other.seed),
        )
    assert len(pairs) == 2 * len(KEPT) * 3 * 2  # seeds, kept, patterns, tasks


def test_tables_have_means_over_seeds(tmp_path: Path) -> None:
    cells = table_cells(movement="adam-0.001", seeds=3)[:12]
    for cell in cells:
        accuracy = 0.8 + 0.01 * cell.seed if cell.variant == "gradual" else 0.9
        facts = {
            "cell": cell.__dict__,
            **{"achieved_prune_ratio": 1 - cell.kept, "dense_accuracy": 0.95},
            **{"sparse_accuracy": accuracy, "validation": accuracy, "train_seconds": 1.0},
        }
        path = tmp_path / "runs" / f"{cell.name}.json"
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(facts))
    write_tables(tmp_path)
    table = (tmp_path / "table.md").read_text().splitlines()
    assert len(table) == 2 + 4  # tasks x methods
    rows = [line for line in table if "gradual" in line]
    assert all("81.00 ± 1.00" in row and "-14.00" in row for row in rows)
    assert len((tmp_path / "grid.md").read_text().splitlines()) == 2 + 12


@pytest.mark.slow
def test_a_run_leaves_its_numbers_and_is_not_made_twice(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["grid", "--most", "1", "--epochs", "0.5", "--dense_epochs", "0.1"]
    words += ["--out", str(tmp_path / "out"), "--scratch", str(tmp_path / "scratch")]
    assert movement_proof.main(words) == 0
    (file,) = (tmp_path / "out" / "runs").glob("*.json")
    found = json.loads(file.read_text())
    assert found["achieved_prune_ratio"] == pytest.approx(0.97, abs=1e-4)
    sizes = {"search": 300, "select": 400}
    right = sum(found[split] * size for split, size in sizes.items())
    assert found["validation"] == pytest.approx(right / 700)
    made = file.stat().st_mtime_ns
    capsys.readouterr()
    assert movement_proof.main(words) == 0
    assert file.stat().st_mtime_ns == made
    assert "gradual" in capsys.readouterr().out
