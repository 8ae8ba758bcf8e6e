"""Tables of patterns, methods and structured pruning."""

from __future__ import annotations

from benchmarks.table_entry import QUICK, RESULTS, Table

__all__ = ["PATTERNS"]

PATTERNS = (
    Table(
        name="pattern-recipes",
        shows="4x1 and N:M on MiniLM: training recipes",
        command="python -m benchmarks.pattern_recipes --grid",
        result=f"{RESULTS}/patterns_at_work/README.md",
        page="docs/patterns.md",
        quick="benchmarks.pattern_recipes --recipe base --tasks resnet20 --epochs 0.05 "
        f"--out {QUICK}/pattern-recipes",
    ),
    Table(
        name="patterns-at-work",
        shows="finished runs with patterns beside their dense networks",
        command="python -m benchmarks.patterns_at_work runs/<one> runs/<other>",
        result=f"{RESULTS}/patterns_at_work/README.md",
        page="docs/patterns.md",
        quick=f"benchmarks.patterns_at_work {QUICK}/default-run",
        needs="default-run",
    ),
    Table(
        name="mask-update",
        shows="seconds of one mask update, 85 million weights",
        command="python -m benchmarks.mask_update",
        result=f"{RESULTS}/patterns_at_work/README.md",
        page="docs/patterns.md",
        quick="benchmarks.mask_update --patterns 4x1 --rounds 1",
        limit=True,
    ),
    Table(
        name="mask-overhead",
        shows="a sparse training step over a dense one",
        command="python -m benchmarks.mask_overhead --bf16 --processor",
        page="docs/results.md",
        quick="benchmarks.mask_overhead --bf16 --processor --rounds 3",
        limit=True,
        made="one thread of an AMD EPYC",
    ),
    Table(
        name="movement",
        shows="movement beside magnitude on MiniLM",
        command="python -m benchmarks.movement_proof table",
        result=f"{RESULTS}/movement/README.md",
        page="docs/movement.md",
        quick="benchmarks.movement_proof table --epochs 0.1 --dense_epochs 0.1 --seeds 1 --most 2 "
        f"--only 'trec_fine_0.1_*' --out {QUICK}/movement --scratch {QUICK}/movement/scratch",
    ),
    Table(
        name="movement-overhead",
        shows="a movement step over a dense one",
        command="python -m benchmarks.movement_overhead",
        result=f"{RESULTS}/movement/overhead.json",
        page="docs/movement.md",
        quick="benchmarks.movement_overhead --rounds 2",
        limit=True,
    ),
    Table(
        name="cropped-latency",
        shows="MiniLM with half of its heads and neurons cut out, in milliseconds",
        command="python -m benchmarks.cropped_latency",
        result=f"{RESULTS}/movement/latency.json",
        page="docs/movement.md",
        quick="benchmarks.cropped_latency",
    ),
    Table(
        name="nm-recipes",
        shows="N:M recipes on a small ViT",
        command="python -m benchmarks.nm_recipes",
        result=f"{RESULTS}/nm_recipes/README.md",
        page="docs/nm_sparsity.md",
        quick="benchmarks.nm_recipes --network small-vit --recipes srste --patterns 1:8 "
        f"--seeds 1 --epochs 0.05 --batch 128 --out {QUICK}/nm-recipes",
    ),
    Table(
        name="nm-overhead",
        shows="an N:M step over a dense one",
        command="python -m benchmarks.nm_overhead",
        page="docs/nm_sparsity.md",
        quick="benchmarks.nm_overhead --rounds 2 --batch 8",
        limit=True,
    ),
    Table(
        name="srste-term",
        shows="where SR-STE's term belongs under AdamW",
        command="python -m benchmarks.srste_term",
        result=f"{RESULTS}/nm_recipes/README.md",
        page="docs/nm_sparsity.md",
        quick="benchmarks.srste_term --steps 20 --seeds 1",
    ),
    Table(
        name="structured",
        shows="channels removed to a latency, beside Torch-Pruning",
        command="python -m benchmarks.structured_rivals",
        result=f"{RESULTS}/structured_rivals/README.md",
        page="docs/budgets.md",
        why="it needs Torch-Pruning 1.6.1",
    ),
    Table(
        name="validated-models",
        shows="exact block sparsity of every config of Neural Compressor's table",
        command="python -m benchmarks.validated_models",
        result=f"{RESULTS}/validated_models/README.md",
        page="docs/neural_compressor.md",
        quick="benchmarks.validated_models bert_mini_4x1_mrpc",
    ),
)
