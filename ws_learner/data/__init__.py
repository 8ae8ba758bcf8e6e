"""Data sets: download, checksums, splits, transforms and batches."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ws_learner.core.lazy import lazy_names

if TYPE_CHECKING:
    from ws_learner.data.arrays import ArraySplit
    from ws_learner.data.dataset_split import DatasetSplit, Examples
    from ws_learner.data.datasets.cifar10 import load_cifar10
    from ws_learner.data.datasets.cifar10_source import cifar10_arrays
    from ws_learner.data.datasets.coco import load_coco
    from ws_learner.data.datasets.coco_file import Annotated, average_precision
    from ws_learner.data.datasets.criteo import load_criteo
    from ws_learner.data.datasets.glue import load_glue
    from ws_learner.data.datasets.image_folder import class_folders, load_image_folder
    from ws_learner.data.datasets.movielens import CARDINALITIES, load_movielens
    from ws_learner.data.datasets.speeches import Texts, load_speeches, smollm2_file
    from ws_learner.data.datasets.squad import find_answers, load_squad
    from ws_learner.data.datasets.squad_file import score_answers
    from ws_learner.data.datasets.text import load_polarity, load_trec
    from ws_learner.data.datasets.text_resources import MINILM
    from ws_learner.data.device_arrays import on_device
    from ws_learner.data.download import npm_pack
    from ws_learner.data.held import Held, held_tensors
    from ws_learner.data.image_preparation import ImagePreparation, PreparedPhotographs
    from ws_learner.data.rank_batches import read_rank_batches
    from ws_learner.data.resource import Resource, cache_folder, content
    from ws_learner.data.splits import Batch, DataSplits, MeasuredOn, Split, UntestedSplits
    from ws_learner.data.splits_content import content_digest, split_digest
    from ws_learner.data.stratify import stratified_parts
    from ws_learner.data.structure import LABELS, as_batch, has_targets, without_targets
    from ws_learner.data.to_splits import as_splits, loader_batch_size
    from ws_learner.data.tokens import PAD, TokenSplit, by_length, stacked, words_in
    from ws_learner.data.transforms import Transformed, steady
    from ws_learner.data.user_dataset import split_dataset
    from ws_learner.data.wheel_download import files_of_package

__all__ = [
    "CARDINALITIES",
    "LABELS",
    "MINILM",
    "PAD",
    "Annotated",
    "ArraySplit",
    "Batch",
    "DataSplits",
    "DatasetSplit",
    "Examples",
    "Held",
    "ImagePreparation",
    "MeasuredOn",
    "PreparedPhotographs",
    "Resource",
    "Split",
    "Texts",
    "TokenSplit",
    "Transformed",
    "UntestedSplits",
    "as_batch",
    "as_splits",
    "average_precision",
    "by_length",
    "cache_folder",
    "cifar10_arrays",
    "class_folders",
    "content",
    "content_digest",
    "files_of_package",
    "find_answers",
    "has_targets",
    "held_tensors",
    "load_cifar10",
    "load_coco",
    "load_criteo",
    "load_glue",
    "load_image_folder",
    "load_movielens",
    "load_polarity",
    "load_speeches",
    "load_squad",
    "load_trec",
    "loader_batch_size",
    "npm_pack",
    "on_device",
    "read_rank_batches",
    "score_answers",
    "smollm2_file",
    "split_dataset",
    "split_digest",
    "stacked",
    "steady",
    "stratified_parts",
    "without_targets",
    "words_in",
]

_MODULES = {
    "arrays": [
        "ArraySplit",
    ],
    "to_splits": [
        "as_splits",
        "loader_batch_size",
    ],
    "dataset_split": [
        "DatasetSplit",
        "Examples",
    ],
    "datasets.cifar10": [
        "load_cifar10",
    ],
    "datasets.cifar10_source": [
        "cifar10_arrays",
    ],
    "datasets.coco": [
        "load_coco",
    ],
    "datasets.coco_file": [
        "Annotated",
        "average_precision",
    ],
    "datasets.criteo": [
        "load_criteo",
    ],
    "datasets.glue": [
        "load_glue",
    ],
    "datasets.image_folder": [
        "class_folders",
        "load_image_folder",
    ],
    "datasets.movielens": [
        "CARDINALITIES",
        "load_movielens",
    ],
    "datasets.speeches": [
        "Texts",
        "load_speeches",
        "smollm2_file",
    ],
    "datasets.squad": [
        "find_answers",
        "load_squad",
    ],
    "datasets.squad_file": [
        "score_answers",
    ],
    "datasets.text": [
        "load_polarity",
        "load_trec",
    ],
    "datasets.text_resources": [
        "MINILM",
    ],
    "device_arrays": [
        "on_device",
    ],
    "image_preparation": [
        "ImagePreparation",
        "PreparedPhotographs",
    ],
    "rank_batches": [
        "read_rank_batches",
    ],
    "resource": [
        "Resource",
        "cache_folder",
        "content",
    ],
    "held": [
        "Held",
        "held_tensors",
    ],
    "splits": [
        "Batch",
        "DataSplits",
        "MeasuredOn",
        "Split",
        "UntestedSplits",
    ],
    "splits_content": [
        "content_digest",
        "split_digest",
    ],
    "stratify": [
        "stratified_parts",
    ],
    "structure": [
        "LABELS",
        "as_batch",
        "has_targets",
        "without_targets",
    ],
    "tokens": [
        "PAD",
        "TokenSplit",
        "by_length",
        "stacked",
        "words_in",
    ],
    "transforms": [
        "Transformed",
        "steady",
    ],
    "user_dataset": [
        "split_dataset",
    ],
    "download": [
        "npm_pack",
    ],
    "wheel_download": [
        "files_of_package",
    ],
}

__getattr__, __dir__ = lazy_names(__name__, _MODULES)
