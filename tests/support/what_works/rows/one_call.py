"""Data that people give to `prune`, the one call."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import (
    DataLoader,
    IterableDataset,
    Subset,
    SubsetRandomSampler,
    TensorDataset,
    WeightedRandomSampler,
)

from tests.support.what_works.row import Row
from ws_learner import (
    Recipe,
    Result,
    WeightSparseConfig,
    WeightSparseLearner,
    make_pruning_env,
    prune,
    top_k_accuracy,
)

_COUNT = 120
_INPUTS = torch.randn(_COUNT, 6, generator=torch.Generator().manual_seed(0))
_LABELS = (_INPUTS[:, 0] > 0).long()
_WHOLE = TensorDataset(_INPUTS, _LABELS)
_TRAIN, _VALIDATION, _TEST = (
    Subset(_WHOLE, part) for part in (range(80), range(80, 100), range(100, 120))
)


def _pruned(data: Any, folder: Path, *, model: nn.Module | None = None, **given: Any) -> Result:
    """A short run without a search; checks the number of zeros."""
    torch.manual_seed(0)
    network = model or nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 2))
    config = {"ws_prune_ratio_prtl": "uniform"}
    result = prune(network, data, 0.5, epochs=1, config=config, run_dir=folder / "run", **given)
    zeros = (result.ratios["weights"] * result.ratios["achieved"]).sum()
    assert abs(zeros - 0.5 * result.ratios["weights"].sum()) <= 1
    return result


def _sizes(result: Result) -> list[int]:
    return list(result.summary["split_sizes"].values())


def _row(what: str, data: Callable[[], Any], sizes: list[int], *, on: str = "validation") -> Row:
    """Data that work: sizes of train, search, select and what is measured on."""

    def run(folder: Path) -> None:
        result = _pruned(data(), folder)
        assert _sizes(result) == sizes
        assert result.summary["measured_on"] == on

    return Row(area="data", what=f"`prune` with {what}", run=run)


def _refused(what: str, data: Callable[[], Any], line: str) -> Row:
    def run(folder: Path) -> None:
        _pruned(data(), folder)

    return Row(area="data", what=f"`prune` with {what}", run=run, refused=line)


class _Stream(IterableDataset[Any]):
    def __init__(self, count: int | None) -> None:
        self.count = count

    def __iter__(self) -> Iterator[Any]:
        number = 0
        while self.count is None or number < self.count:
            yield _WHOLE[number % _COUNT]
            number += 1


def _some_of_an_endless_stream(folder: Path) -> None:
    assert _sizes(_pruned(_Stream(None), folder, max_examples=50)) == [40, 5, 5, 10]


class _Mean(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.words, self.head = nn.Embedding(20, 8), nn.Linear(8, 2)

    def forward(self, words: Tensor, mask: Tensor) -> Tensor:
        found: Tensor = self.head(
            (self.words(words) * mask[..., None]).sum(1) / mask.sum(1)[:, None]
        )
        return found


def _padded(examples: list[Any]) -> dict[str, Tensor]:
    words = pad_sequence([sentence for sentence, _ in examples], batch_first=True)
    labels = torch.tensor([label for _, label in examples])
    return {"words": words, "mask": (words > 0).float(), "labels": labels}


def _sentences_of_any_length(folder: Path) -> None:
    sentences = [(torch.randint(1, 20, (3 + number % 5,)), number % 2) for number in range(60)]
    loader = DataLoader(sentences, batch_size=8, collate_fn=_padded)  # type: ignore[arg-type]
    assert _sizes(_pruned(loader, folder, model=_Mean())) == [48, 6, 6, 12]


class _Odd:
    def __len__(self) -> int:
        return _COUNT

    def __iter__(self) -> Iterator[int]:
        return iter(range(1, _COUNT, 2))


def _weighted() -> Any:
    sampler = WeightedRandomSampler([1.0] * 40 + [3.0] * 40, 80)
    return DataLoader(_TRAIN, 16, sampler=sampler), _VALIDATION


def _parts_of_one() -> Any:
    parts = (range(80), range(80, 120))
    return tuple(DataLoader(_WHOLE, 16, sampler=SubsetRandomSampler(part)) for part in parts)


def _loader(data: Any) -> DataLoader[Any]:
    return DataLoader(data, batch_size=16, shuffle=True)


class _Module:
    """As a LightningDataModule."""

    def train_dataloader(self) -> DataLoader[Any]:
        return _loader(_TRAIN)


def _class_with_loaders(folder: Path) -> None:
    model = nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 2))
    result = WeightSparseLearner(
        model,
        (_loader(_TRAIN), _loader(_VALIDATION)),
        loss=nn.functional.cross_entropy,
        metric=top_k_accuracy,
        recipe=Recipe(nb_epochs=1, batch_size=8),
        config=WeightSparseConfig(ws_prune_ratio=0.5, ws_prune_ratio_prtl="uniform"),
        run_dir=folder / "run",
    ).fit()
    assert result.summary["measured_on"] == "validation"
    assert _sizes(result) == [80, 10, 10, 20]


def _environment_with_a_loader(folder: Path) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 2))
    loss = nn.functional.cross_entropy
    env = make_pruning_env(model, _loader(_WHOLE), loss=loss, metric=top_k_accuracy, target=0.5)
    observation, _ = env.reset(seed=0)
    assert env.observation_space.contains(observation)


ROWS = (
    Row(
        area="data",
        what="`WeightSparseLearner` with a pair of `DataLoader`s",
        run=_class_with_loaders,
    ),
    Row(
        area="data",
        what="`make_pruning_env` with a `DataLoader`",
        run=_environment_with_a_loader,
    ),
    _row("a `DataLoader`", lambda: _loader(_WHOLE), [96, 12, 12, 24]),
    _row(
        "a pair of `DataLoader`s: measured on validation, no test is claimed",
        lambda: (_loader(_TRAIN), _loader(_VALIDATION)),
        [80, 10, 10, 20],
    ),
    _row(
        "data sets (train, validation, test)",
        lambda: (_TRAIN, _VALIDATION, _TEST),
        [80, 10, 10, 20],
        on="test",
    ),
    _row("a list of pairs", lambda: [_WHOLE[n] for n in range(_COUNT)], [96, 12, 12, 24]),
    _row("an `IterableDataset` that ends", lambda: _Stream(100), [80, 10, 10, 20]),
    _refused(
        "an `IterableDataset` that does not end",
        lambda: _Stream(None),
        "the stream has not ended after 50,000 examples; say how many to take into memory with "
        "`max_examples`",
    ),
    Row(
        area="data",
        what="`prune` with an endless `IterableDataset` and `max_examples`",
        run=_some_of_an_endless_stream,
    ),
    Row(
        area="data",
        what="`prune` with a `collate_fn` that pads sentences and returns a dict",
        run=_sentences_of_any_length,
    ),
    _row("`SubsetRandomSampler`s of one data set", _parts_of_one, [80, 20, 20, 40]),
    _row("a `WeightedRandomSampler`: training draws by it", _weighted, [80, 10, 10, 20]),
    _refused(
        "a sampler of one's own that leaves out examples",
        lambda: DataLoader(_WHOLE, 16, sampler=_Odd()),
        "its sampler _Odd does not read each of the 120 examples once, and the learner draws its "
        "own batches",
    ),
    _refused(
        "train and validation sets that overlap",
        lambda: (Subset(_WHOLE, range(90)), Subset(_WHOLE, range(80, 120))),
        "train and validation share 10 examples",
    ),
    _refused(
        "two tensors",
        lambda: (_INPUTS, _LABELS),
        "one tensor of shape (120, 6) is no data set of (input, target) pairs; give "
        "torch.utils.data.TensorDataset(inputs, targets)",
    ),
    _refused(
        "a dict of sets",
        lambda: {"train": _TRAIN, "validation": _VALIDATION},
        "a dict with train, validation; give a DataLoader",
    ),
    _refused("a LightningDataModule", _Module, "a _Module is not known as data; give a DataLoader"),
    _refused(
        "examples without targets",
        lambda: TensorDataset(_INPUTS),
        "the examples have no targets to train with",
    ),
)
