"""Files of any content, to every reader: a result or one `UserError`, and nothing else.

A reader of a file with a checksum gives what was written, or refuses. The others accept what
`ACCEPTED` lists, with the reason. No reader leaves a file behind.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from torch import nn

from experiments.cli.dense_weights import load_dense_state
from experiments.cli.flags import parse
from experiments.cli.ray.sweep_plan import read_plan
from experiments.cli.ray.sweep_trial import read_answer
from experiments.cli.rebuild_experiment import load_experiment
from experiments.models.resnet_cifar import resnet_cifar
from tests.support.dead_channels import with_random_norms, zero_channels
from tests.support.hostile_files import (
    any_bytes,
    any_json,
    any_text,
    damaged,
    flat,
    forged,
    spliced,
)
from tests.support.layer_rows import layer_rows
from tests.support.policies import a_policy
from ws_learner import UserError
from ws_learner.compat import parse_lpot, parse_nncf, parse_timm_nm
from ws_learner.compat.yaml_with_lines import read_yaml
from ws_learner.core import (
    RunDir,
    load_state,
    load_state_file,
    ratios_from,
    read_json,
    read_metadata,
    read_yaml_file,
    save_model,
    save_state_file,
    write_json,
)
from ws_learner.deploy import compile_sparse, load_shrunk, load_sparse, save_shrunk, shrink
from ws_learner.deploy.runtime import read_wsr
from ws_learner.deploy.shrinking.cropped_file import read_kept
from ws_learner.report import (
    last_progress,
    read_frontier,
    read_label,
    read_progress,
    read_rollouts,
    read_row,
    read_table,
)
from ws_learner.report.html.side_files import read_dense, read_messages, read_protocols
from ws_learner.report.metrics import MetricsLog, read_metrics
from ws_learner.search.allocation import Decision, load_decision, save_decision
from ws_learner.search.policy_file import read_policy, write_policy
from ws_learner.search.rollout.tensor_file import TensorFile
from ws_learner.search.saved_search import SavedSearch, load_search, save_search

ROOT = Path(__file__).parents[1]
CONFIGS = ROOT / "experiments" / "configs"
LAYERS = layer_rows([100, 400])
LONGEST = 5.0  # processor seconds of one file
QUICK, SLOW = 1500, 100_000  # cases of all readers together


@dataclass(frozen=True, kw_only=True)
class Case:
    """A reader and the files that it is given.

    Attributes:
        name: Of the file.
        whole: What a save of ours writes there.
        files: Strategy of its contents.
        read: Reads the file.
        weight: Share of the cases, relative to other readers.
    """

    name: str
    whole: Callable[[], bytes]
    files: Callable[[bytes], st.SearchStrategy[bytes]]
    read: Callable[[Path], Any]
    weight: float = 1.0


@cache
def saved(write: Callable[[Path], object], name: str) -> bytes:
    """The bytes that a writer leaves in a file."""
    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder) / name)
        return (Path(folder) / name).read_bytes()


def written(write: Callable[[Path], object], name: str) -> Callable[[], bytes]:
    return lambda: saved(write, name)


def text_of(content: str) -> Callable[[], bytes]:
    return lambda: content.encode()


def as_text(whole: bytes) -> st.SearchStrategy[bytes]:
    lines = spliced(whole.decode()).map(lambda text: text.encode(errors="replace"))
    return st.one_of(lines, lines, damaged(whole), any_bytes())


def as_json(whole: bytes) -> st.SearchStrategy[bytes]:
    changed = forged(json.loads(whole)).map(lambda value: json.dumps(value).encode())
    other = any_json().map(lambda value: json.dumps(value).encode())
    return st.one_of(changed, changed, damaged(whole), other, any_bytes())


def _state(path: Path) -> None:
    save_state_file(path, {"model": {"w": torch.arange(6.0)}, "step": 3, "text": "a"})


def _decision(path: Path) -> None:
    save_decision(path, Decision(zeros=np.array([50, 7]), rollouts=3, stopped="time", chosen=1))


def _search(path: Path) -> None:
    saved_search = SavedSearch(proposer={"a": "b"}, history=[], rounds=[0], seconds=1.5)
    save_search(path, saved_search, rewarded="")


def _summary(path: Path) -> None:
    RunDir(path.parent).finish({"learner": "weight-sparse", "sparse_accuracy": 0.5, "seed": 1})


def _weights(path: Path) -> None:
    save_model(path, {"w": torch.arange(6.0).reshape(2, 3), "b": torch.zeros(2)}, {"format": "pt"})


def _compiled(path: Path) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(24, 16), nn.ReLU(), nn.Linear(16, 5))
    with torch.no_grad():
        model[0].weight[:, 4:] = 0
    compile_sparse(model, torch.randn(4, 24), dtype="int8").save(path)


def _shrunk(path: Path) -> None:
    torch.manual_seed(0)
    model = with_random_norms(resnet_cifar(8))
    zero_channels(model, "layer1.0.conv1", slice(0, 7))
    save_shrunk(shrink(model, torch.randn(2, 3, 8, 8)), path)


def _spilled(path: Path) -> None:
    file = TensorFile.create(path, {"gram.0": ("F32", (1, 2, 2)), "errors": ("F64", (1, 3))})
    file.tensor("gram.0", write=True).fill_(2.0)
    file.seal()


def _read_spilled(path: Path) -> Any:
    try:
        file = TensorFile.open(path)
        if file.metadata.get("sha256") != file.digest():
            raise ValueError("damaged")
        found = {name: file.tensor(name).clone() for name in ("gram.0", "errors")}
    except (OSError, ValueError, KeyError, TypeError) as error:  # as `read_spilled` has it
        raise UserError(str(error)) from error
    return found


def _resealed(whole: bytes) -> st.SearchStrategy[bytes]:
    """A .wsr file of forged facts with a right checksum."""
    length = int.from_bytes(whole[8:16], "little")
    header, data = json.loads(whole[16 : 16 + length]), whole[16 + length : -32]

    def sealed(value: Any) -> bytes:
        text = json.dumps(value).encode()
        body = whole[:8] + len(text).to_bytes(8, "little") + text + data
        return body + hashlib.sha256(body).digest()

    return st.one_of(forged(header), forged(header), any_json()).map(sealed)


def _damaged_or_any(whole: bytes) -> st.SearchStrategy[bytes]:
    return st.one_of(damaged(whole), damaged(whole), damaged(whole), any_bytes())


def _forged_policy(whole: bytes) -> st.SearchStrategy[bytes]:
    length = int.from_bytes(whole[:8], "little")
    header = json.loads(whole[8 : 8 + length])
    facts = json.loads(header["__metadata__"]["policy"])
    facts = {name: value for name, value in facts.items() if not name.startswith("sha256")}

    def built(value: Any) -> bytes:
        header["__metadata__"]["policy"] = json.dumps(value)
        text = json.dumps(header).encode()
        return len(text).to_bytes(8, "little") + text + whole[8 + length :]

    return forged(facts).map(built)


def _policy(path: Path) -> None:
    write_policy(path, a_policy())


def _opened_run(path: Path) -> Any:
    write_json(path.parent / "summary.json", {})
    return load_experiment(RunDir(path.parent))


def _claimed(path: Path) -> Any:
    RunDir(path.parent).claim(None, {"seed": 1, "recipe": {"lrn_rate": 0.1}})


def _own_config(path: Path) -> Any:
    return parse(["--config", str(path)]).settings()


def _log(path: Path) -> Any:
    log = MetricsLog(path)
    log.truncate_after(3, phase="sparse")
    return log.frame()


RATIOS = "layer,prune_ratio\nconv1.weight,0.5\n'fc',0.25\n"
TABLE = (ROOT / "tests/support/before_the_move/finished/ratios.csv").read_text()
DENSE = "layer,weights,reason\nembed.weight,64,an embedding\n"
PROFILES = "layer,weights,erk,uniform\na,100,50,75\nb,9,7,6\n"
SAID = '{"level": "warning", "text": "a"}\n{"level": "status", "text": "b"}\n'
PROGRESS = """\
{"time": 1.5, "event": "phase", "state": "running", "phase": "search", "number": 1, "phases": 2, \
"description": "search", "done": 1.0, "total": 4.0, "elapsed_s": 0.5, "left_s": null, \
"command_left_s": null, "note": "", "values": {"reward": 0.5}}
{"time": 2.5, "event": "state", "state": "stopped", "phase": null, "number": null, "phases": null, \
"description": "", "done": 0, "total": 0, "elapsed_s": 0, "left_s": null, \
"command_left_s": null, "note": "", "values": {}}
"""

METRICS = "step,epoch,phase,train/loss\n1,0.5,sparse,0.25\n2,1.0,sparse,\n"
ROLLOUTS = "rollout,kind,reward,failed,zeros/a\n0,prior,0.5,,10\n1,select,,why,12\n"
FRONTIER = "target,supplier,predicted_reward,reward,accuracy\n0.5,actor,0.4,0.3,0.9\n"
OWN = "experiment: resnet_at_cifar10\nws_prune_ratio: 0.9\nws_exempt: [fc*]\nseed: 3\n"
SWEEP = (CONFIGS / "sweep_schedule.yaml").read_text()
KEPT = {
    "version": 1,
    "kept": [
        {
            "group": {
                "name": "",
                "kind": "neurons",
                "units": 8,
                "members": [{"weight": "fc1.weight", "axis": "outputs"}],
            },
            "units": [0, 3, 4],
        }
    ],
}

PLAIN = "other values of the right kind are another file of the same format"
SEALED = ""

ACCEPTED = {
    "yaml": PLAIN,
    "yaml with lines": PLAIN,
    "own config": PLAIN,
    "lpot": PLAIN,
    "nncf": PLAIN,
    "timm": PLAIN,
    "sweep": PLAIN,
    "ratios csv": PLAIN,
    "ratios json": PLAIN,
    "ratios yaml": PLAIN,
    "run config": PLAIN + "; it may be edited, as when data have moved",
    "identity": "the same settings in another order or spacing; others are refused by name",
    "json": PLAIN,
    "rung": PLAIN + "; a sweep's table, not a network, comes from it",
    "table": PLAIN + "; in a finished run summary.json has its checksum",
    "rollouts": PLAIN + "; in a finished run summary.json has its checksum",
    "frontier": PLAIN + "; in a finished run summary.json has its checksum",
    "metrics": PLAIN + "; in a finished run summary.json has its checksum",
    "dense": PLAIN + "; in a finished run summary.json has its checksum",
    "protocols": PLAIN + "; in a finished run summary.json has its checksum",
    "messages": PLAIN + "; only a report reads it, and leaves out what is no line",
    "label": "names and tags, which decide nothing; what is none is left out",
    "progress": "no result; what is no line is left out",
    "listed run": "a damaged run is listed as unknown",
    "metrics log": PLAIN + "; a last line without an end is dropped, as after a crash",
    "weights": PLAIN + "; in a finished run summary.json has the checksum",
    "state_dict": PLAIN + "; a file of the user's, which has no checksum",
    "forged json of a decision": "a right checksum, or none: an older run's; then values count",
    "forged summary": "no checksum: an older run's",
    "forged wsr": PLAIN + ", with a right checksum",
    "forged wsr of a network": PLAIN + ", with a right checksum",
    "forged policy": "no checksum of the facts: an older run's; then values count",
    "kept units": PLAIN,
    # With a checksum: what was written, or nothing.
    "state": SEALED,
    "search": SEALED,
    "decision": SEALED,
    "summary": SEALED,
    "policy": SEALED,
    "wsr": SEALED,
    "shrunk": SEALED,
    "layer database": SEALED,
}

CASES = {
    "yaml": Case(
        name="a.yaml",
        whole=text_of(OWN),
        files=as_text,
        read=lambda path: read_yaml_file(path, where="a.yaml", remedy="go"),
        weight=2,
    ),
    "yaml with lines": Case(
        name="a.yaml",
        whole=text_of(OWN),
        files=as_text,
        read=lambda path: read_yaml(path.read_text(errors="replace"), name="a.yaml"),
    ),
    "own config": Case(name="a.yaml", whole=text_of(OWN), files=as_text, read=_own_config),
    "lpot": Case(
        name="a.yaml",
        whole=lambda: (CONFIGS / "conf.yaml").read_bytes(),
        files=as_text,
        read=lambda path: parse_lpot(path.read_text(errors="replace")),
    ),
    "nncf": Case(
        name="a.json",
        whole=lambda: (CONFIGS / "movement.json").read_bytes(),
        files=as_text,
        read=lambda path: parse_nncf(path.read_text(errors="replace")),
    ),
    "timm": Case(
        name="a.yaml",
        whole=lambda: (CONFIGS / "vit_base_training.yaml").read_bytes(),
        files=as_text,
        read=lambda path: parse_timm_nm(path.read_text(errors="replace")),
    ),
    "sweep": Case(name="a.yaml", whole=text_of(SWEEP), files=as_text, read=read_plan),
    "ratios csv": Case(
        name="a.csv",
        whole=text_of(RATIOS),
        files=as_text,
        read=lambda path: ratios_from(path, setting="ws_ratios"),
        weight=2,
    ),
    "ratios json": Case(
        name="a.json",
        whole=text_of('{"conv1.weight": 0.5, "fc": 0.25}'),
        files=as_json,
        read=lambda path: ratios_from(path, setting="ws_ratios"),
    ),
    "ratios yaml": Case(
        name="a.yaml",
        whole=text_of("conv1.weight: 0.5\nfc: 0.25\n"),
        files=as_text,
        read=lambda path: ratios_from(path, setting="ws_ratios"),
    ),
    "run config": Case(
        name="config.yaml",
        whole=text_of("experiment: mine/e.py\nseed: 0\ndata_dir: null\n"),
        files=as_text,
        read=_opened_run,
    ),
    "identity": Case(
        name="identity.json",
        whole=text_of('{"seed": 1, "recipe": {"lrn_rate": 0.1}}'),
        files=as_json,
        read=_claimed,
    ),
    "json": Case(name="a.json", whole=text_of('{"a": [1, 2]}'), files=as_json, read=read_json),
    "rung": Case(
        name="a.json", whole=text_of('{"score": 0.5, "budget": 1}'), files=as_json, read=read_answer
    ),
    "table": Case(name="a.csv", whole=text_of(TABLE), files=as_text, read=read_table),
    "rollouts": Case(name="a.csv", whole=text_of(ROLLOUTS), files=as_text, read=read_rollouts),
    "frontier": Case(name="a.csv", whole=text_of(FRONTIER), files=as_text, read=read_frontier),
    "metrics": Case(name="a.csv", whole=text_of(METRICS), files=as_text, read=read_metrics),
    "dense": Case(name="a.csv", whole=text_of(DENSE), files=as_text, read=read_dense),
    "protocols": Case(name="a.csv", whole=text_of(PROFILES), files=as_text, read=read_protocols),
    "messages": Case(name="a.jsonl", whole=text_of(SAID), files=as_text, read=read_messages),
    "label": Case(
        name="label.json",
        whole=text_of('{"name": "first", "tags": ["a", "b"]}'),
        files=as_json,
        read=lambda path: read_label(path.parent),
    ),
    "progress": Case(
        name="progress.jsonl",
        whole=text_of(PROGRESS),
        files=as_text,
        read=lambda path: (read_progress(path), last_progress(path)),
    ),
    "listed run": Case(
        name="summary.json",
        whole=written(_summary, "summary.json"),
        files=as_json,
        read=lambda path: read_row(path.parent),
    ),
    "metrics log": Case(name="a.csv", whole=text_of(METRICS), files=as_text, read=_log),
    "weights": Case(
        name="a.safetensors",
        whole=written(_weights, "a.safetensors"),
        files=_damaged_or_any,
        read=lambda path: (load_state(path), read_metadata(path)),
    ),
    "state_dict": Case(
        name="a.pt",
        whole=written(lambda path: torch.save({"w": torch.arange(6.0)}, path), "a.pt"),
        files=_damaged_or_any,
        read=load_dense_state,
    ),
    "forged json of a decision": Case(
        name="a.json",
        whole=text_of('{"zeros": [50, 7], "rollouts": 3, "seconds": 1.0, "failed": 0}'),
        files=as_json,
        read=lambda path: load_decision(path, LAYERS),
    ),
    "forged summary": Case(
        name="summary.json",
        whole=text_of('{"learner": "weight-sparse", "files_sha256": {"model.safetensors": "a"}}'),
        files=as_json,
        read=lambda path: RunDir(path.parent).read_summary(),
    ),
    "forged wsr": Case(
        name="a.wsr", whole=written(_compiled, "a.wsr"), files=_resealed, read=read_wsr, weight=2
    ),
    "forged wsr of a network": Case(
        name="a.wsr",
        whole=written(_compiled, "a.wsr"),
        files=_resealed,
        read=lambda path: load_sparse(path).dtype,
    ),
    "forged policy": Case(
        name="policy.safetensors",
        whole=written(_policy, "policy.safetensors"),
        files=_forged_policy,
        read=read_policy,
    ),
    "kept units": Case(
        name="cropped.json",
        whole=text_of(json.dumps(KEPT)),
        files=as_json,
        read=lambda path: read_kept(path.parent),
    ),
    "state": Case(
        name="a.pt", whole=written(_state, "a.pt"), files=_damaged_or_any, read=load_state_file
    ),
    "search": Case(
        name="a.pt",
        whole=written(_search, "a.pt"),
        files=_damaged_or_any,
        read=lambda path: load_search(path, rewarded=""),
    ),
    "decision": Case(
        name="a.json",
        whole=written(_decision, "a.json"),
        files=damaged,
        read=lambda path: load_decision(path, LAYERS),
    ),
    "summary": Case(
        name="summary.json",
        whole=written(_summary, "summary.json"),
        files=damaged,
        read=lambda path: RunDir(path.parent).read_summary(),
    ),
    "policy": Case(
        name="policy.safetensors",
        whole=written(_policy, "policy.safetensors"),
        files=_damaged_or_any,
        read=read_policy,
    ),
    "wsr": Case(
        name="a.wsr", whole=written(_compiled, "a.wsr"), files=_damaged_or_any, read=read_wsr
    ),
    "shrunk": Case(
        name="a.safetensors",
        whole=written(_shrunk, "a.safetensors"),
        files=_damaged_or_any,
        read=lambda path: load_shrunk(resnet_cifar(8), path).state_dict(),
        weight=0.3,
    ),
    "layer database": Case(
        name="a.safetensors",
        whole=written(_spilled, "a.safetensors"),
        files=_damaged_or_any,
        read=_read_spilled,
    ),
}


def check(case: Case, content: bytes, *, sealed: bool) -> None:
    """One file to one reader."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        path = folder / case.name
        path.write_bytes(content)
        found, said = None, ""
        begun = time.process_time()
        try:
            found = case.read(path)
        except UserError as error:
            said = str(error) or "\0"
        assert time.process_time() - begun < LONGEST
        assert all(line.isprintable() for line in said.split("\n"))
        if sealed and not said:
            path.write_bytes(case.whole())
            assert flat(found) == flat(case.read(path))
        made = {one.name for one in folder.iterdir()} - {case.name, "summary.json"}
        assert not made  # no temporary file is left


def run(name: str, cases: int, *, derandomized: bool) -> None:
    case = CASES[name]
    total = sum(one.weight for one in CASES.values())
    limits = settings(
        max_examples=max(1, round(cases * case.weight / total)),
        derandomize=derandomized,
        database=None,
        deadline=None,
        phases=[Phase.generate, Phase.shrink],
        suppress_health_check=list(HealthCheck),
    )

    @limits
    @given(case.files(case.whole()))
    def fuzz(content: bytes) -> None:
        check(case, content, sealed=not ACCEPTED[name])

    fuzz()


@pytest.mark.long
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", CASES)
def test_a_result_or_one_line(name: str) -> None:
    check(CASES[name], CASES[name].whole(), sealed=not ACCEPTED[name])
    run(name, QUICK, derandomized=True)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", CASES)
def test_a_result_or_one_line_for_long(name: str) -> None:
    run(name, SLOW, derandomized=False)


def test_every_reader_says_what_it_accepts() -> None:
    assert CASES.keys() == ACCEPTED.keys()


@settings(max_examples=50, derandomize=True, database=None, deadline=None)
@given(any_text())
def test_ratios_as_text(text: str) -> None:
    with suppress(UserError):
        found = ratios_from(text + "=0.5", setting="ws_ratios")
        assert all(0 <= ratio <= 1 for ratio in found.values())
