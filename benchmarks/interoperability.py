"""What other tools make of this library's files; one row for each thing that was seen.

    python -m benchmarks.interoperability --out FOLDER                # all tools, an hour at most
    python -m benchmarks.interoperability --out FOLDER --only gguf    # one tool, a minute or more

Builds small pruned networks with this library and saves them as safetensors, ONNX and transformers
folders. Each tool then gets a virtual environment of its own in a temporary folder, with pinned
versions, and a script of `docs/interop` runs in it. Needs the package index and, to build, the
extras `onnx`, `text` and `shrink`. Writes FOLDER/rows.csv, in which rows of other tools stay, and
FOLDER/rows.md. A tool that cannot be installed has the row "not installed".
"""

from __future__ import annotations

import argparse
import csv
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ws_learner.core import say
from ws_learner.deploy import crop, export_onnx, save_cropped, save_shrunk, shrink
from ws_learner.pruning import prune_once

SCRIPTS = Path(__file__).resolve().parents[1] / "docs" / "interop"
_TORCH, _NUMPY, _ONNX = "torch==2.13.0", "numpy==2.4.6", "onnx==1.23.2"
TOOLS: dict[str, tuple[str, ...]] = {
    "onnxruntime": ("onnxruntime==1.31.1", _ONNX, _NUMPY, "sympy==1.14.0"),
    "openvino": ("openvino==2026.4.1", _ONNX, _NUMPY),
    "nncf": ("nncf==3.4.0", "openvino==2026.4.1", _TORCH, _ONNX, _NUMPY),
    "torchao": ("torchao==0.18.0", _TORCH, "safetensors==0.8.0", _NUMPY),
    "torch_pruning": ("torch-pruning==1.6.1", _TORCH, "safetensors==0.8.0", _NUMPY),
    "onnxslim": ("onnxslim==0.1.98", "onnxruntime==1.31.1", _ONNX, _NUMPY),
    "onnxsim": ("onnxsim==0.8.1", "onnxruntime==1.31.1", _ONNX, _NUMPY),
    "coremltools": ("coremltools==9.0", _TORCH, "safetensors==0.8.0", _NUMPY),
    "gguf": ("gguf==0.19.0", "safetensors==0.8.0", _NUMPY),
    "transformers": ("transformers==5.23.0", _TORCH, _NUMPY),
    "timm": ("timm==1.0.31", "torch==2.14.1", "torchvision==0.29.1", _NUMPY),
}
FIELDS = ("tool", "input", "question", "answer")


def build(folder: Path) -> None:
    """Prune, shrink and save the networks, with an example and its outputs beside each."""
    networks = _networks()
    images, vectors = torch.randn(4, 16, 20, 20), torch.randn(64, 256)
    _save(networks.conv(), images, folder / "dense")
    _save(pruned := networks.conv(), images, folder / "conv", ratio=0.75)
    _save(dead := networks.conv(), images, folder / "dead", ratio=0.5, pattern="1xchannel")
    smaller = shrink(dead, images)
    _save(smaller.model, images, folder / "shrunk")
    save_shrunk(smaller, folder / "shrunk.safetensors")
    _save(networks.mlp(), vectors, folder / "dense_mlp")
    _save(networks.mlp(), vectors, folder / "nm", ratio=0.5, pattern="2:4")
    assert not torch.equal(pruned(images), dead(images))
    _bert(folder)


def _networks() -> Any:
    spec = importlib.util.spec_from_file_location("networks", SCRIPTS / "networks.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _save(
    model: nn.Module, x: Tensor, path: Path, *, ratio: float = 0.0, pattern: str = "unstructured"
) -> None:
    from safetensors.torch import save_file

    if ratio:
        matrices = {n: p for n, p in model.named_parameters() if p.ndim > 1}
        layers = list(matrices.items())[:-1]  # not the head
        zeros = {name: round(ratio * weight.numel()) for name, weight in layers}
        prune_once(model, zeros, pattern=pattern)
    save_file(model.state_dict(), path.with_suffix(".safetensors"))
    export_onnx(model, x, path.with_suffix(".onnx"))
    with torch.no_grad():
        np.savez(path.with_suffix(".npz"), x=x.numpy(), y=model(x).numpy())


def _bert(folder: Path) -> None:
    """A tiny BERT: with zeros, and with neurons removed."""
    import transformers

    torch.manual_seed(0)
    config = transformers.BertConfig(
        hidden_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=128,
        vocab_size=96,
        max_position_embeddings=32,
    )
    words = torch.randint(0, 96, (4, 12))
    model: Any = transformers.BertForSequenceClassification(config)
    model.eval()
    inner = [n for n, p in model.named_parameters() if p.ndim > 1 and ".layer." in n]
    prune_once(model, {n: round(0.75 * model.get_parameter(n).numel()) for n in inner})
    model.save_pretrained(folder / "bert")
    with torch.no_grad():
        np.savez(folder / "bert.npz", x=words.numpy(), y=model(words).logits.numpy())
    export_onnx(model, {"input_ids": words}, folder / "bert.onnx")
    for layer in model.bert.encoder.layer:
        layer.output.dense.weight.data[:, ::2] = 0  # half of the neurons
    save_cropped(crop(model, {"input_ids": words}), folder / "cropped")
    with torch.no_grad():
        np.savez(folder / "cropped.npz", x=words.numpy(), y=model(words).logits.numpy())


def run(tool: str, folder: Path) -> list[dict[str, str]]:
    """Install one tool and run its script; a failure is a row."""
    with tempfile.TemporaryDirectory() as place:
        python = Path(place) / "env" / "bin" / "python"
        subprocess.run([sys.executable, "-m", "venv", str(python.parents[1])], check=True)
        install = [str(python), "-m", "pip", "install", "-q", *TOOLS[tool]]
        done = subprocess.run(install, capture_output=True, text=True, check=False)
        if done.returncode:
            why = done.stderr.strip().splitlines()[-1:]
            return [_row(TOOLS[tool][0], "not installed", *why)]
        command = [str(python), str(SCRIPTS / f"try_{tool}.py"), str(folder)]
        threads = os.environ | {"OMP_NUM_THREADS": "1"}
        seen = subprocess.run(command, capture_output=True, text=True, check=False, env=threads)
    rows = [json.loads(line[4:]) for line in seen.stdout.splitlines() if line.startswith("ROW ")]
    if seen.returncode:
        rows.append(_row(TOOLS[tool][0], "the script failed", seen.stderr.strip()[-300:]))
    return rows


def _row(requirement: str, question: str, *why: str) -> dict[str, str]:
    tool = requirement.replace("==", " ")
    return {"tool": tool, "input": "", "question": question, "answer": " ".join(why)}


def write(rows: list[dict[str, str]], folder: Path) -> None:
    """Both tables; rows of tools that were not run now stay."""
    path = folder / "rows.csv"
    names = {row["tool"].split()[0] for row in rows}
    if path.exists():
        with path.open(newline="") as file:
            old = [row for row in csv.DictReader(file) if row["tool"].split()[0] not in names]
        rows = old + rows
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, FIELDS)
        writer.writeheader()
        writer.writerows(rows)
    lines = [f"| {' | '.join(FIELDS)} |", "|---" * len(FIELDS) + "|"]
    lines += [f"| {' | '.join(row[key] for key in FIELDS)} |" for row in rows]
    (folder / "rows.md").write_text("\n".join(lines) + "\n")


def main() -> None:
    """Build, then run each tool that was asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--only", nargs="*", choices=sorted(TOOLS), default=list(TOOLS))
    options = parser.parse_args()
    torch.set_num_threads(1)
    options.out.mkdir(parents=True, exist_ok=True)
    folder = (options.out / "networks").resolve()
    if not (folder / "cropped.npz").exists():
        folder.mkdir(exist_ok=True)
        torch.manual_seed(1)
        build(folder)
    for tool in options.only:
        rows = run(tool, folder)
        write(rows, options.out)
        say(f"{tool}: {len(rows)} rows")


if __name__ == "__main__":
    main()
