"""The layout: arrows point down, packages are used through faces, settings load no torch."""

from __future__ import annotations

import ast
import importlib
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FLOORS = {
    **dict.fromkeys(("envs", "ws_learner.core"), 1),
    **dict.fromkeys(("agents", "ws_learner.config", "ws_learner.report", "ws_learner.data"), 2),
    **dict.fromkeys(("ws_learner.pruning", "ws_learner.service"), 3),
    "ws_learner.training": 4,
    **dict.fromkeys(("ws_learner.search", "ws_learner.compat", "ws_learner.deploy"), 5),
    **dict.fromkeys(("ws_learner.learner", "ws_learner.language"), 6),
    **dict.fromkeys(("ws_learner", "experiments"), 7),
    "benchmarks": 8,
}
FACES = [name for name in FLOORS if FLOORS[name] < 6 or name == "ws_learner.language"]
PAST_THE_FACE: set[tuple[str, str]] = set()
"""(file, module): imports that may still pass a face. The list may only shrink."""


def package_of(module: str) -> str:
    return next(
        (p for p in sorted(FLOORS, key=len, reverse=True) if f"{module}.".startswith(f"{p}.")), ""
    )


def imports() -> Iterator[tuple[str, str, str, str]]:
    """File, its module, an imported module, an imported name; product code only.

    Templates are left out: they are files of users, who import the public names.
    """
    listed = [p for top in ("agents", "envs", "ws_learner", "experiments", "benchmarks")
              for p in sorted((ROOT / top).rglob("*.py"))]  # fmt: skip
    for path in listed:
        file = str(path.relative_to(ROOT))
        if file.startswith("experiments/templates/"):
            continue
        module = file.removesuffix(".py").replace("/", ".").removesuffix(".__init__")
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and node.module and package_of(node.module):
                for alias in node.names:
                    yield file, module, node.module, alias.name


def test_arrows_only_point_down() -> None:
    lazy = "ws_learner.core.lazy"  # knows no package; every face is made by it
    up = [
        f"{file} imports {target}"
        for file, module, target, _ in imports()
        if target != lazy
        and package_of(target) != package_of(module)
        and FLOORS[package_of(target)] >= FLOORS[package_of(module)]
    ]
    # The public names of `ws_learner` itself come from its packages and its learner.
    assert up == []


def test_nothing_outside_a_package_imports_past_its_face() -> None:
    past = {
        (file, target)
        for file, module, target, name in imports()
        if package_of(target) in FACES
        and package_of(target) != package_of(module)
        and target not in FACES
        and target != "ws_learner.core.lazy"
        and not (module in ("ws_learner", "experiments") and target == "ws_learner.core.moved")
        and module != "ws_learner"
    }
    assert past - PAST_THE_FACE == set(), "import from the package instead of the module"
    assert PAST_THE_FACE - past == set(), "take these out of the list"


@pytest.mark.parametrize("face", FACES)
def test_a_face_hands_out_what_it_lists(face: str) -> None:
    package = importlib.import_module(face)
    assert sorted(package.__all__) == dir(package)
    for name in package.__all__:
        assert getattr(package, name) is not None
        assert not isinstance(getattr(package, name), type(package)), f"{name} is a module"


@pytest.mark.parametrize("face", FACES)
def test_names_for_type_checkers_are_the_same(face: str) -> None:
    tree = ast.parse((ROOT / face.replace(".", "/") / "__init__.py").read_text())
    typed = {
        alias.name: node.module
        for block in tree.body
        if isinstance(block, ast.If)
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert sorted(typed) == sorted(importlib.import_module(face).__all__)


def test_patterns_and_schedules_know_no_methods_and_no_layers() -> None:
    pure = ("ws_learner.pruning.patterns", "ws_learner.pruning.schedules")
    users = ("ws_learner.pruning.methods", "ws_learner.pruning.layers")
    wrong = [
        f"{file} imports {target}"
        for file, module, target, _ in imports()
        if module.startswith(pure) and target.startswith(users)
    ]
    assert wrong == []


def test_two_loose_modules_at_most() -> None:
    loose = sorted(p.stem for p in (ROOT / "ws_learner").glob("*.py"))
    assert loose == ["__init__", "learner", "one_call"]


@pytest.mark.parametrize(
    "code",
    [
        "import ws_learner",
        "import ws_learner.core; from ws_learner.core import UserError, RunDir, say, write_text",
        "import ws_learner.config as c; [getattr(c, name) for name in c.__all__]",
        "import ws_learner.service as s; [getattr(s, name) for name in s.__all__]",
        "import agents, envs, ws_learner.pruning, ws_learner.training, ws_learner.deploy",
    ],
)
def test_settings_and_faces_load_no_torch(code: str) -> None:
    code += "; import sys; print(sorted({'torch', 'ray'} & set(sys.modules)))"
    shown = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert shown.stdout.strip() == "[]"


def test_helpers_of_tests_live_in_support() -> None:
    wrong = []
    for path in sorted((ROOT / "tests").rglob("*.py")):
        for line in path.read_text().splitlines():
            found = re.search(r"\bfrom tests\.([\w.]+) import|\bimport tests\.([\w.]+)", line)
            if found and (found[1] or found[2]).split(".")[0] != "support":
                wrong.append(f"{path.relative_to(ROOT)}: {line.strip()}")
    assert wrong == [], "move the helper to tests/support"
