"""Networks that are named on the command line, and files to start from."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable
from pathlib import Path

from safetensors.torch import load_file

from experiments import export
from experiments.cli.console import main as console
from experiments.image_classifier import Options, build
from experiments.run import main
from tests.support.image_folders import save_convnext, save_resnet, save_vit, stripes
from tests.support.what_works.row import Row
from ws_learner.core import UserError
from ws_learner.report import read_table

_SHORT = [
    "--data_workers",
    "0",
    "--workers",
    "0",
    "--nb_epochs",
    "1",
    "--ws_prune_ratio_prtl",
    "uniform",
]


def _run(words: list[str], folder: Path) -> None:
    """Prune with the command line; its error line is raised."""
    said = io.StringIO()
    with contextlib.redirect_stderr(said), contextlib.redirect_stdout(io.StringIO()):
        code = main([*words, "--run_dir", str(folder / "run")], runs=folder)
    if code:
        raise UserError(said.getvalue().strip().splitlines()[-1].removeprefix("error: "))
    table = read_table(folder / "run/ratios.csv")
    state = load_file(folder / "run/model.safetensors")
    zeros = sum(int((state[name] == 0).sum()) for name in table["layer"])
    assert zeros == round(float((table["achieved"] * table["weights"]).sum()))
    assert zeros > 0


def _classified(save: Callable[[Path], Path], *words: str) -> Callable[[Path], None]:
    def run(folder: Path) -> None:
        model, data = save(folder / "model"), stripes(folder / "data")
        _run(
            [
                "image_classifier",
                *("--model", f"hf:{model}", "--data_dir", str(data)),
                *_SHORT,
                *words,
            ],
            folder,
        )

    return run


def _exported(folder: Path) -> None:
    from transformers import AutoModelForImageClassification

    _classified(save_resnet)(folder)
    with contextlib.redirect_stderr(io.StringIO()):
        assert export.main([str(folder / "run"), "--to", "hf"]) == 0
    model = AutoModelForImageClassification.from_pretrained(folder / "run/hf")
    wanted = load_file(folder / "run/model.safetensors")
    assert all(bool((wanted[name] == t).all()) for name, t in model.state_dict().items())


def _refused(model: str, **options: object) -> Callable[[Path], None]:
    def run(folder: Path) -> None:
        save_vit(folder / "vit")
        (folder / "empty").mkdir()
        data = stripes(folder / "data")
        given = Options(model=model.format(folder), data_dir=data, **options)  # type: ignore[arg-type]
        build(given, seed=0)

    return run


def _started(kind: str, *words: str) -> Callable[[Path], None]:
    def run(folder: Path) -> None:
        file = folder / f"starter_{kind}.py"
        with contextlib.redirect_stderr(io.StringIO()):
            assert console(["new", str(file), "--kind", kind]) == 0
        short = ["--workers", "0", "--nb_epochs", "1", "--ws_prune_ratio_prtl", "uniform"]
        _run([str(file), *short, "--ws_init", "scratch", *words], folder)

    return run


def _overwritten(folder: Path) -> None:
    file = folder / "mine.py"
    file.write_text("mine = True\n")
    said = io.StringIO()
    with contextlib.redirect_stderr(said):
        code = console(["new", str(file)])
    assert file.read_text() == "mine = True\n"
    if code:
        raise UserError(said.getvalue().strip().removeprefix("error: "))


_NAMED = "`image_classifier --model hf:DIR --data_dir DIR`"
ROWS = (
    Row(
        area="command line",
        what=f"{_NAMED} with a vision transformer, whole heads pruned",
        run=_classified(save_vit, "--pattern", "mha", "--prune_ratio", "0.2"),
    ),
    Row(
        area="command line",
        what=f"{_NAMED} with a ResNet, and the result as a folder for `from_pretrained`",
        run=_exported,
    ),
    Row(
        area="command line",
        what=f"{_NAMED} with a ConvNeXt of other classes: a new head is trained first",
        run=_classified(lambda folder: save_convnext(folder, ("cat", "dog"))),
    ),
    Row(
        area="command line",
        what="a folder without config and weights as `--model hf:DIR`",
        run=_refused("hf:{}/empty"),
        refused="no config.json and no model.safetensors in it; save the network there with "
        "model.save_pretrained(folder)",
    ),
    Row(
        area="command line",
        what="a name of the Hugging Face hub as `--model hf:NAME`",
        run=_refused("hf:google/vit-base-patch16-224"),
        refused="no such folder; nothing is downloaded, so save the network there with "
        "model.save_pretrained(folder)",
    ),
    Row(
        area="command line",
        what="images of another size than a vision transformer takes",
        run=_refused("hf:{}/vit", image_size=8),
        refused="does not take images (3, 8, 8)",
    ),
    Row(
        area="command line",
        what="`--model` without `hf:` or `timm:`",
        run=_refused("resnet18"),
        refused="must be hf:DIR, a folder saved with save_pretrained, or timm:NAME, a network of "
        "timm",
    ),
    Row(
        area="command line",
        what="`ws-learner new FILE --kind image`, run as written",
        run=_started("image", "--images", "200", "--width", "4"),
    ),
    Row(
        area="command line",
        what="`ws-learner new FILE --kind text`, run as written",
        run=_started("text", "--sentences", "200"),
    ),
    Row(
        area="command line",
        what="`ws-learner new FILE --kind table`, run as written",
        run=_started("table", "--rows", "200"),
    ),
    Row(
        area="command line",
        what="`ws-learner new FILE` where there is a file",
        run=_overwritten,
        refused="is there already; choose another name",
    ),
)
