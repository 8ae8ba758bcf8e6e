"""Config files: our own YAML, or another tool's format."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from experiments.cli.discovery import find_config
from ws_learner.compat import (
    MOST_CONFIG,
    LpotConf,
    TimmNM,
    is_lpot,
    is_nncf,
    is_timm_nm,
    parse_lpot,
    parse_nncf,
    parse_timm_nm,
)
from ws_learner.config import Entry, Registry, load_object
from ws_learner.core import UserError, load_yaml, read_text, say, shown

if TYPE_CHECKING:
    from ws_learner.compat import NncfConf

__all__ = ["CONFIG_READERS", "ConfigFile", "ReaderEntry", "read_config_file"]


@dataclass(frozen=True)
class ConfigFile:
    """A file's content in one of four forms.

    Attributes:
        settings: Flags by name, of our own files and timm's.
        lpot: LPOT's, which brings its own training.
        nncf: NNCF's, which does too.
        timm: timm's with N:M keys; part of it depends on the experiment.
    """

    settings: Mapping[str, Any] = field(default_factory=dict)
    lpot: LpotConf | None = None
    nncf: NncfConf | None = None
    timm: TimmNM | None = None

    def settings_for(self, module: ModuleType, *, nb_epochs: float | None = None) -> dict[str, Any]:
        """The flags the file sets for an experiment; what cannot be followed is listed.

        Args:
            module: The experiment.
            nb_epochs: Length of the training on the command line, which overrides the file's.
        """
        if self.timm is None:
            return dict(self.settings)
        known = [item.name for item in dataclasses.fields(module.Options)]
        settings, lines = self.timm.settings_for(known, name=module.__name__, nb_epochs=nb_epochs)
        for line in lines:
            say(f"config: {line}")
        return settings


def read_config_file(path: str | None) -> ConfigFile:
    """Read the file that `--config` names, if it names one.

    Raises:
        UserError: It cannot be read, or says what its dialect does not allow.
    """
    if not path:
        return ConfigFile()
    file = find_config(path)
    remedy = "give a config file, such as a run's config.yaml"
    content = read_text(file, where=f"--config {path}", remedy=remedy, most=MOST_CONFIG)
    for reader in CONFIG_READERS.values():
        if load_object(reader.recognizes)(content):
            read: ConfigFile = load_object(reader.read)(content, path=file)
            return read
    return ConfigFile(settings=_own(content, path=path))


def _lpot(content: str, *, path: Path) -> ConfigFile:
    return ConfigFile(lpot=parse_lpot(content, path=path))


def _nncf(content: str, *, path: Path) -> ConfigFile:
    return ConfigFile(nncf=parse_nncf(content, path=path))


def _timm(content: str, *, path: Path) -> ConfigFile:
    timm = parse_timm_nm(content, path=path)
    return ConfigFile(settings=timm.settings, timm=timm)


@dataclass(frozen=True, kw_only=True)
class ReaderEntry(Entry):
    """A reader of another tool's config files.

    Attributes:
        recognizes: Whether a file's text is of this tool; or `module:name`.
        read: Makes a `ConfigFile` from the text and `path=`; or `module:name`.
    """

    recognizes: str | Callable[[str], bool]
    read: str | Callable[..., ConfigFile]


CONFIG_READERS: Registry[ReaderEntry] = Registry(
    "config",
    {
        "lpot": ReaderEntry(recognizes=is_lpot, read=_lpot, help="LPOT or Neural Compressor"),
        "nncf": ReaderEntry(recognizes=is_nncf, read=_nncf, help="NNCF"),
        "timm": ReaderEntry(recognizes=is_timm_nm, read=_timm, help="timm with N:M keys"),
    },
)
"""Readers of other tools' files, tried in this order; any other file is our own YAML."""


def _own(content: str, *, path: str) -> dict[str, Any]:
    import yaml

    try:
        loaded = load_yaml(content)
    except yaml.YAMLError as error:
        raise UserError(
            f"--config {path}: not YAML ({shown(' '.join(str(error).split()), most=300)})"
        ) from error
    if not isinstance(loaded, dict):
        raise UserError(f"--config {path}: must be a table, such as prune_ratio: 0.9")
    return loaded
