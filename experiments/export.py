"""Export a finished run's network: `python -m experiments.export runs/<run> --to onnx`.

    safetensors   plain weights under the network's own names, zeros in place
    wsr           the same without the zeros: `ws_learner.deploy.runtime.read_wsr`
    hf            a folder for transformers' from_pretrained, zeros in place, of its networks
    onnx          float32, run in ONNX Runtime and compared; heads, neurons and channels that are
                  zero are cut out first. With --int8, bytes around each product (chains of linear
                  layers or convolutions only); also in OpenVINO where it is installed
    deploy        a folder: the engine's file, load.py (no training code), an example with its
                  outputs, deploy.json (promised and measured milliseconds, bytes, accuracy,
                  versions, machine). It is tried in a fresh process; docs/runtime.md says more

Only removed channels, neurons and heads make other engines faster (docs/runtime.md).
"""

from __future__ import annotations

import sys
from pathlib import Path

if __name__ == "__main__" and not __package__:  # started as a file: import from the root
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from experiments.cli.deploy_export import DEPLOY_ENGINES, export_deploy_folder
from experiments.cli.verb_parser import VerbParser
from ws_learner.core import RunDir, UserError, as_path, refuse_unwritable, say
from ws_learner.report import find_run

if TYPE_CHECKING:
    from experiments.experiment import Experiment

__all__ = ["main"]

_FORMATS = ("onnx", "safetensors", "wsr", "hf", "deploy")
_WRONG = 1e-3  # relative difference of outputs beyond which an export is refused
_CALIBRATION = 8


def main(argv: Sequence[str] | None = None, *, prog: str = "python -m experiments.export") -> int:
    """Export; return 0, or 2 after bad input."""
    raw = argparse.RawDescriptionHelpFormatter
    parser = VerbParser(
        prog=prog,
        description=__doc__,
        formatter_class=raw,
        example="ws-learner export last --to deploy",
    )
    parser.add_argument("run", type=as_path, help="finished run: its folder, its name, or last")
    parser.add_argument("--to", required=True, choices=_FORMATS, help="format")
    parser.add_argument(
        "--out",
        type=as_path,
        help="file (default: model.<format> in the run; safetensors needs one, as the run's own "
        "model.safetensors is that); hf, deploy: a folder (default: hf or "
        "deploy in the run)",
    )
    parser.add_argument("--int8", action="store_true", help="onnx: bytes, calibrated on train data")
    parser.add_argument("--bf16", action="store_true", help="wsr: round matrices to bfloat16")
    parser.add_argument("--no_shrink", action="store_true", help="onnx, deploy: keep dead channels")
    parser.add_argument(
        "--engine",
        choices=DEPLOY_ENGINES,
        help="deploy: what runs the network (default: the engine of the run's budget, or wsr)",
    )
    parser.add_argument(
        "--dtype",
        choices=("fp32", "int8", "auto"),
        help="deploy: number format (default: each layer's, as the run chose it, or fp32)",
    )
    own = "(default: as in the run's latency budget, or 1)"
    parser.add_argument("--batch", type=int, help=f"deploy: examples at once {own}")
    parser.add_argument("--threads", type=int, help=f"deploy: threads of the engine {own}")
    parser.add_argument(
        "--experiment",
        metavar="FILE",
        help="onnx, hf, deploy: the run's experiment file, if it is none of the project's",
    )
    parser.add_argument(
        "--include", nargs="+", type=as_path, default=[], help="folders that it imports from"
    )
    given = parser.parse_args(argv)
    from ws_learner.language import is_language_run

    folders = ("hf", "deploy")
    try:
        _check(given)
        given.run = find_run(given.run)
        target = given.out or given.run / (given.to if given.to in folders else f"model.{given.to}")
        run = RunDir(given.run)
        if given.out is not None and given.to not in folders:
            refuse_unwritable(given.out, setting="out", makes_folders=False)
        _refuse_without_weights(run)
        run.read_summary()
        if is_language_run(run):
            _language(run, target, kind=given.to, replace=given.out is None)
        elif given.to == "onnx":
            experiment = _experiment(run, given)
            _onnx(experiment, target, int8=given.int8, shrinking=not given.no_shrink)
        elif given.to == "deploy":
            export_deploy_folder(
                run,
                target,
                engine=given.engine,
                dtype=given.dtype,
                batch=given.batch,
                threads=given.threads,
                shrinks=not given.no_shrink,
                experiment=_experiment(run, given),
            )
        elif given.to == "hf":
            _folder(_experiment(run, given), target, replace=given.out is None)
        else:
            _weights(run, target, kind=given.to, bf16=given.bf16)
    except UserError as error:
        say(f"error: {parser.spell(str(error))}")
        return 2
    files = [target] if target.is_file() else list(target.iterdir())
    say(f"wrote {target}, {sum(file.stat().st_size for file in files):,} bytes")
    return 0


def _check(given: argparse.Namespace) -> None:
    if given.to == "safetensors" and given.out is None:
        raise UserError(
            "--to safetensors: the run's own model.safetensors is that file; give --out for a copy"
        )
    if given.int8 and given.to != "onnx":
        raise UserError(f"--int8 with --to {given.to}: only onnx; --to deploy has --dtype int8")
    if given.to != "deploy":
        for flag in ("engine", "dtype", "batch", "threads"):
            if getattr(given, flag) is not None:
                raise UserError(f"--{flag} with --to {given.to}: only deploy")
    if given.bf16 and given.to != "wsr":
        raise UserError(f"--bf16 with --to {given.to}: only wsr")


def _refuse_without_weights(run: RunDir) -> None:
    """Refuse a finished run whose weights were left out, as when a folder was sent."""
    if run.finished and not any(run.path.glob("model*.safetensors")):
        raise UserError(
            f"`run` {run.path}: this folder has no model.safetensors; take it from a copy, or "
            "delete summary.json and run its command again"
        )


def _language(run: RunDir, target: Path, *, kind: str, replace: bool) -> None:
    from ws_learner.language import save_hf_folder

    if kind != "hf":
        raise UserError(
            f"--to {kind}: a causal language model is written with --to hf, as a folder that "
            "transformers' from_pretrained loads"
        )
    save_hf_folder(run, target, replace=replace)


def _weights(run: RunDir, target: Path, *, kind: str, bf16: bool) -> None:
    from ws_learner.core import load_state, read_metadata, save_model

    state, metadata = load_state(run.model), read_metadata(run.model)
    if kind == "safetensors":
        save_model(target, state, metadata)
        return
    from ws_learner.deploy import write_wsr

    facts = {"kind": "weights", **metadata}
    write_wsr(target, state, metadata=facts, values="bf16" if bf16 else "fp32")


def _experiment(run: RunDir, given: argparse.Namespace) -> Experiment:
    """The run's, from the file that the command line names or else one of the project's."""
    from experiments.cli.rebuild_experiment import find_named, load_experiment

    file = given.experiment
    named = None if file is None else find_named(run, file, include=given.include)
    return load_experiment(run, module=named)


def _folder(experiment: Experiment, target: Path, *, replace: bool) -> None:
    from experiments.brought.saved_folder import save_folder

    save_folder(experiment, target, replace=replace)


def _onnx(experiment: Experiment, target: Path, *, int8: bool, shrinking: bool) -> None:
    import torch

    from ws_learner.core import call_model
    from ws_learner.deploy import engine_differences, export_onnx, export_qdq, remove_dead

    inputs = _batch(experiment)
    model = experiment.model.eval()
    with torch.no_grad():
        wanted = call_model(model, inputs)
    if shrinking:
        model = remove_dead(model, inputs)
    if int8:
        batches = experiment.data.train.batches(64, seed=0)
        data = [x for _, (x, _) in zip(range(_CALIBRATION), batches, strict=False)]
        export_qdq(model, inputs, target, calibration=data)
    else:
        export_onnx(model, inputs, target)
    found = engine_differences(target, inputs, wanted)
    for engine, difference in found.items():
        say(f"{engine}: outputs differ from PyTorch's by {difference:.2g} of their size")
    if "OpenVINO" not in found:
        say("OpenVINO: not installed, not tried")
    engine, most = max(found.items(), key=lambda item: item[1])
    if not int8 and not most <= _WRONG:
        target.unlink()
        raise UserError(f"--to onnx: outputs of {engine} differ by {most:.2g}; nothing was written")


def _batch(experiment: Experiment) -> Any:
    inputs, _ = next(iter(experiment.data.train.batches(8)))
    return inputs


if __name__ == "__main__":
    sys.exit(main())
