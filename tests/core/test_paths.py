"""Paths are taken as text and as anything with `__fspath__`, with `~`, by every public name."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import pytest

from ws_learner.core import (
    RunDir,
    UserError,
    as_path,
    check_settings,
    read_json,
    sha256_of,
    write_json,
)

FACES = ("", ".core", ".config", ".data", ".report", ".pruning", ".training", ".search", ".deploy")
RESULTS = {"Annotated", "LoadedRun", "LpotConf", "NncfConf", "Result", "TimmNM"}
"""What the library makes itself."""


@dataclass(frozen=True)
class Settings:
    file: Path | None = None
    either: Path | str = ""

    def __post_init__(self) -> None:
        check_settings(self)


def test_text_and_home_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/somewhere")
    assert as_path("~/a") == as_path(PurePosixPath("~/a")) == Path("/somewhere/a")
    assert Settings(file="~/a").file == Path("/somewhere/a")  # type: ignore[arg-type]
    assert Settings(either="~/a").either == "~/a"
    assert RunDir("runs/one").model == Path("runs/one/model.safetensors")  # type: ignore[arg-type]


@pytest.mark.parametrize("wrong", [3, None, b"a", "", ["a"]])
def test_what_is_no_path_is_named(wrong: object) -> None:
    with pytest.raises(UserError, match=r"`folder` .*: must be a path, as text or pathlib\.Path"):
        as_path(wrong, name="folder")  # type: ignore[arg-type]


@pytest.mark.parametrize("wrong", [3, b"a", ""])
def test_a_setting_that_is_no_path_is_named(wrong: object) -> None:
    with pytest.raises(UserError, match=r"`file` .*: must be a path"):
        Settings(file=wrong)  # type: ignore[arg-type]


def test_files_are_read_and_written_by_text(tmp_path: Path) -> None:
    write_json(str(tmp_path / "a" / "b.json"), {"one": 1})
    assert read_json(str(tmp_path / "a" / "b.json")) == {"one": 1}
    assert len(sha256_of(str(tmp_path / "a" / "b.json"))) == 64


def _public() -> Iterator[tuple[str, inspect.Signature]]:
    for face in (*FACES, ".compat"):
        module = importlib.import_module(f"ws_learner{face}")
        for name in module.__all__:
            value = getattr(module, name)
            if name in RESULTS or not (inspect.isfunction(value) or inspect.isclass(value)):
                continue
            if hasattr(value, "__post_init__"):  # `check_settings` or its own `as_path`
                continue
            try:
                yield f"{module.__name__}.{name}", inspect.signature(value)
            except (TypeError, ValueError):
                continue


def test_no_public_name_insists_on_a_path_object() -> None:
    plain = [
        f"{name}({parameter.name}: {parameter.annotation})"
        for name, signature in _public()
        for parameter in signature.parameters.values()
        if str(parameter.annotation) in ("Path", "Path | None", "str | Path", "Path | str")
    ]
    assert plain == []
