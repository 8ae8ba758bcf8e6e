"""Reads the YAML of "Progressive Gradient Flow for Robust N:M Sparsity Training". Free of torch.

It is a timm training config with keys for sparsity (its README names them too, as "N Sparsity").
Here it becomes settings under our own flags. Where the released code and its README part, the
README counts; what its YAML lacks has the defaults of its command line.
"""

from __future__ import annotations

import dataclasses
import difflib
import math
import re
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import Any

from ws_learner.compat.timm.recipe import RECIPE_KEYS, read_recipe
from ws_learner.compat.timm.values import (
    decay_coefficient,
    from_one,
    roles_of,
    share_or_percent,
    switch,
)
from ws_learner.compat.values import read_config_text, whole
from ws_learner.compat.yaml_with_lines import Problems, Table, read_yaml
from ws_learner.config import Recipe, WeightSparseConfig
from ws_learner.core import AnyPath, UserError, as_path, shown_repr

__all__ = ["SPARSITY_KEYS", "TimmNM", "is_timm_nm", "parse_timm_nm", "read_timm"]

SPARSITY_KEYS = (
    *("n_sparsity", "m_sparsity", "sparsity_type", "decay_type", "decay_coef"),
    *("structure_decay_flag", "structure_decay_type", "structure_decay_stages"),
    *("dense_steps", "fine_tune_steps", "sparsity_loc", "n_sparsity_qkv", "m_sparsity_qkv"),
    *("sparse_dim", "prune_rate", "prune_rate_qkv", "structure_decay_config"),
)
_README = {
    "dense_epochs": "dense_steps",
    "fine_tune_epochs": "fine_tune_steps",
    "total_epochs": "epochs",
    "sparsity_location": "sparsity_loc",
    "decay_coefficient": "decay_coef",
}
_TYPES = {
    **dict.fromkeys(("dense", "none"), "dense"),
    **dict.fromkeys(("structurednm", "structurenm"), "nm"),
    "srste": "srste",
}
_DECAYS = {"step": "step", "linear": "linear"}
_DECAYS |= dict.fromkeys(("exp", "exponential"), "exponential")
_SHAPES = {**dict.fromkeys(("sparsify", "stepwise", "sdgfstepwise"), "stepwise")}
_SHAPES |= dict.fromkeys(("fine", "geometric", "sdgfgeometric"), "geometric")
_EXPERIMENTS = {"vit": "vit_at_cifar10", "deit": "vit_at_cifar10", "swin": "swin_at_cifar10"}


@dataclass(frozen=True, kw_only=True)
class TimmNM:
    """What a file says.

    Attributes:
        settings: Values under the names of our flags, `experiment` among them if `model` is known.
        options: Settings that only some experiments have, such as `drop`.
        ignored: Lines of text about keys without a meaning here.
    """

    settings: dict[str, Any]
    options: dict[str, Any] = field(default_factory=dict)
    ignored: tuple[str, ...] = ()

    def settings_at(self, epochs: float) -> dict[str, Any]:
        """The settings for a training of so many epochs, above 0, instead of the file's own.

        Phases keep their shares of it; the warm-up is shortened alike, but never lengthened.
        """
        factor = epochs / self.settings["nb_epochs"]
        most = {"nm_dense_epochs": factor, "nm_fine_tune_epochs": factor}
        most |= {"warmup_epochs": min(factor, 1.0)}
        changed = {n: v * most[n] for n, v in self.settings.items() if n in most}
        return {**self.settings, **changed, "nb_epochs": epochs}

    def with_epochs(self, epochs: float) -> TimmNM:
        """The same file for a training of so many epochs, above 0; see `settings_at`."""
        return dataclasses.replace(self, settings=self.settings_at(epochs))

    def settings_for(
        self, options: Collection[str], *, name: str, nb_epochs: float | None = None
    ) -> tuple[dict[str, Any], tuple[str, ...]]:
        """The settings for an experiment, and a line for each key that cannot be followed.

        Args:
            options: Names of the settings that the experiment has.
            name: What to call it.
            nb_epochs: Length of the training, instead of the file's.
        """
        settings, lines = dict(self.settings), list[str]()
        if nb_epochs is not None and 0 < nb_epochs < math.inf:
            settings = self.settings_at(nb_epochs)
            was, now = self.settings.get("warmup_epochs"), settings.get("warmup_epochs")
            if was is not None and was != now:
                own = self.settings["nb_epochs"]
                lines.append(f"warmup_epochs {was:g} of {own} -> {now:.4g} of {nb_epochs:g}")
        lines += self.ignored
        lines += [f"{option}: {name} has none" for option in self.options if option not in options]
        known = {option: value for option, value in self.options.items() if option in options}
        return settings | known, tuple(lines)

    def config(self) -> WeightSparseConfig:
        """What is pruned, and how, for a `WeightSparseLearner`.

        Raises:
            UserError: The file prunes nothing.
        """
        if "ws_method" not in self.settings:
            raise UserError("sparsity_type Dense: prunes nothing; train the network as it is")
        own = {item.name for item in dataclasses.fields(WeightSparseConfig)}
        values = {name: value for name, value in self.settings.items() if name in own}
        return WeightSparseConfig(**{"ws_prune_ratio_prtl": "given", **values})

    def recipe(self, own: Recipe) -> Recipe:
        """`own` with what the file says of the training.

        Label smoothing is part of the loss, which the learner is given apart.

        Raises:
            UserError: They do not go together.
        """
        names = {item.name for item in dataclasses.fields(Recipe)}
        values = {name: value for name, value in self.settings.items() if name in names}
        if "warmup_epochs" in self.settings:
            values["warmup"] = self.settings["warmup_epochs"] / self.settings["nb_epochs"]
        return dataclasses.replace(own, **values)

    @property
    def seed(self) -> int:
        """What fixes everything random; 0 if the file does not say."""
        return int(self.settings.get("seed", 0))


def is_timm_nm(content: str) -> bool:
    """Whether a config file is of this dialect: it has one of its own keys at the top level."""
    keys = (_plain(line.partition(":")[0]) for line in content.splitlines() if ":" in line)
    return any(key in SPARSITY_KEYS for key in keys if key)


def _plain(key: str) -> str:
    """A key as the YAML has it, from the README's spelling in any case."""
    if key[:1].isspace() or key.startswith("#"):
        return ""
    name = re.sub(r"[\s-]+", "_", key.strip("\"' \t")).lower()
    return _README.get(name, name)


def _word(value: object) -> str:
    return re.sub(r"[\s_-]", "", str(value)).lower()


def read_timm(path: AnyPath) -> TimmNM:
    """Read a timm training config with N:M keys.

    Source: the training configs of Bambhaniya et al., "Progressive Gradient Flow for Robust N:M
    Sparsity Training in Transformers", https://arxiv.org/abs/2402.04744.

    Args:
        path: The file.

    Returns:
        Settings by our names; `config()` and `recipe(own)` are what a `WeightSparseLearner`
        takes. Lengths are in epochs, rates per step.

    Raises:
        UserError: The file cannot be read, or its content is refused; see `parse_timm_nm`.
    """
    path = as_path(path)
    return parse_timm_nm(read_config_text(path), path=path)


def parse_timm_nm(content: str, *, path: AnyPath | None = None) -> TimmNM:
    """Understand a file.

    Raises:
        UserError: It is no YAML, or keys are unknown, of a wrong type or out of range; one line
            for each, with its line number.
    """
    path = None if path is None else as_path(path)
    name = f"`config` {path}" if path else "N:M config"
    top = read_yaml(content, name=name)
    if not isinstance(top, Table):
        raise UserError(f"{name}: must be a table, such as n_sparsity: 2")
    problems = Problems(name)
    table = _normalised(top, problems)
    _near_misses(table, problems)
    reader = _Reader(table, problems)
    epochs = reader.value("epochs", whole, 300, "a whole number from 1")
    settings = reader.sparsity(max(epochs, 1))
    more, options, ignored = read_recipe(table, problems, epochs=max(epochs, 1))
    settings |= more
    model = table.get("model")
    if isinstance(model, str):
        family = re.match(r"[a-z]+", model.lower())
        known = _EXPERIMENTS.get(re.sub(r"v\d*$", "", family[0])) if family else None
        if known is not None:
            settings["experiment"] = known
            ignored.append(f"model {model}: {known}'s own size is trained")
        else:
            ignored.append(f"model {model}: name an experiment on the command line")
    problems.raise_any()
    known_keys = {*SPARSITY_KEYS, *RECIPE_KEYS, "epochs", "model"}
    rest = [key for key, value in table.items() if key not in known_keys and value is not None]
    if rest:
        ignored.append("no meaning here: " + ", ".join(rest))
    return TimmNM(settings=settings, options=options, ignored=(*reader.ignored, *ignored))


def _normalised(top: Table, problems: Problems) -> Table:
    table = Table()
    table.line, table.lines, table.tag = top.line, {}, top.tag
    for key, value in top.items():
        name = _plain(key)
        if name in table:
            problems.add(top.lines[key], f"{key}: is given twice, as {name} too")
        table[name], table.lines[name] = value, top.lines[key]
    return table


def _near_misses(table: Table, problems: Problems) -> None:
    """A misspelt sparsity key must not pass for one of timm's."""
    for key in table:
        if key not in SPARSITY_KEYS and key not in RECIPE_KEYS:
            near = difflib.get_close_matches(key, SPARSITY_KEYS, n=1, cutoff=0.85)
            if near or "sparsity" in key:
                hint = near or difflib.get_close_matches(key, SPARSITY_KEYS, n=1, cutoff=0)
                problems.add(
                    table.lines[key], f"unknown key {shown_repr(key)}; did you mean {hint[0]}?"
                )


class _Reader:
    """Turns the sparsity keys into our settings."""

    def __init__(self, table: Table, problems: Problems) -> None:
        self._table, self._problems = table, problems
        self.ignored: list[str] = []

    def value(self, key: str, convert: Callable[[Any], Any], default: Any, wanted: str) -> Any:
        return self._problems.value(self._table, key, convert, default=default, wanted=wanted)

    def sparsity(self, epochs: int) -> dict[str, Any]:
        for key in ("prune_rate", "prune_rate_qkv", "structure_decay_config"):
            if self._table.get(key) is not None:
                remedy = "use `ws_method` gradual `ws_prune_ratio` for unstructured pruning"
                if key == "structure_decay_config":
                    remedy = "it never worked there; leave it out"
                self._problems.add(self._table.lines[key], f"{key}: is not taken over; {remedy}")
        kind = self._chosen("sparsity_type", _TYPES, "dense", "Dense, Structure_NM or SRSTE")
        decay = self._chosen("decay_type", _DECAYS, "step", "step, linear or exponential")
        shape = self._chosen(
            "structure_decay_type", _SHAPES, "stepwise", "sparsify (stepwise) or fine (geometric)"
        )
        staged = self.value("structure_decay_flag", switch, False, "true or false")
        beta = self.value("decay_coef", decay_coefficient, 2e-4, "a number in (0, 1]")
        stages = self.value("structure_decay_stages", from_one, None, "a whole number from 1")
        where, phases = self._where(), self._phases(epochs)
        if kind == "dense":
            self._unused(*SPARSITY_KEYS, why="Dense prunes nothing", but="sparsity_type")
            return {"learner": "full-prec"}
        if "ws_qkv_pattern" not in where:
            why = "sparsity_loc names none of Q, K, V"
            self._unused("n_sparsity_qkv", "m_sparsity_qkv", why=why)
        common = where | phases
        if kind == "srste":
            flags = ("structure_decay_flag",) if staged else ()
            shapes = ("structure_decay_type", "structure_decay_stages")
            why = "SRSTE knows no decay"
            self._unused("decay_type", "decay_coef", *flags, *shapes, why=why)
            return common | {"ws_method": "srste"}
        if decay == "step":
            self._unused("decay_coef", why="decay_type step has no coefficient")
        common |= {} if decay == "step" else {"mdgf_beta": beta}
        # Their code lets gradients pass straight through in every mode, as sdgf does by itself.
        common |= {} if staged and decay == "step" else {"mdgf_gradient": "ste"}
        if staged:
            own = {"sdgf_decay": shape, "sdgf_mask_decay": decay}
            # Their code and README have four geometric stages, their paper five.
            own["sdgf_stages"] = 4 if stages is None and shape == "geometric" else stages
            return common | own | {"ws_method": "sdgf"}
        why = "structure_decay_flag is off"
        self._unused("structure_decay_type", "structure_decay_stages", why=why)
        return common | {"ws_method": "mdgf", "mdgf_decay": decay}

    def _unused(self, *keys: str, why: str, but: str = "") -> None:
        there = [key for key in keys if key != but and self._table.get(key) is not None]
        if there:
            self.ignored.append(f"{why}: {', '.join(there)}")

    def _chosen(self, key: str, names: dict[str, str], default: str, wanted: str) -> Any:
        def convert(value: object) -> str:
            if _word(value) not in names:
                raise ValueError
            return names[_word(value)]

        return self.value(key, convert, default, wanted)

    def _where(self) -> dict[str, Any]:
        roles = self.value("sparsity_loc", roles_of, "ff", "FF, Q, K, V, C in any combination")
        column = self._chosen(
            "sparse_dim", {"row": "row", "col": "col", "0": "row", "1": "col"}, "row", "row or col"
        )
        main = self._pattern("n_sparsity", "m_sparsity")
        found = {"ws_pattern": main, "ws_location": roles, "ws_sparse_dim": column}
        if set("qkv") & set(roles.replace("conv", "").replace("ff", "")):
            found["ws_qkv_pattern"] = self._pattern("n_sparsity_qkv", "m_sparsity_qkv")
        return found

    def _pattern(self, n_key: str, m_key: str) -> str:
        n = self.value(n_key, from_one, 2, "a whole number from 1")
        m = self.value(m_key, from_one, 4, "a whole number from 2")
        if not n < m:
            line = self._table.lines.get(n_key) or self._table.lines.get(m_key) or self._table.line
            self._problems.add(line, f"{n_key} {n} and {m_key} {m}: N must be below M")
        return f"{n}:{m}"

    def _phases(self, epochs: int) -> dict[str, Any]:
        wanted = "a share in [0, 1] of the epochs, or percent with its sign, such as 10%"
        dense = self.value("dense_steps", share_or_percent, 0.0, wanted)
        tuning = self.value("fine_tune_steps", share_or_percent, 0.0, wanted)
        if dense + tuning > 1:
            line = self._table.lines.get("dense_steps", self._table.line)
            text = f"dense_steps {dense:g} and fine_tune_steps {tuning:g}: together above 1"
            self._problems.add(line, text)
        return {"nm_dense_epochs": dense * epochs, "nm_fine_tune_epochs": tuning * epochs}
