"""Tables of speed, memory, scaling and language models."""

from __future__ import annotations

from benchmarks.table_entry import QUICK, RESULTS, Table

__all__ = ["SPEED"]

_FOLDERS = "it needs a network's folder and a folder of texts"

SPEED = (
    Table(
        name="budgets",
        shows="six networks pruned to a latency: joint choice beside one pattern",
        command="python -m benchmarks.budget_table",
        result=f"{RESULTS}/budgets/README.md",
        page="docs/budgets.md",
        quick=f"benchmarks.budget_table --networks mlp --entrants joint --seeds 1 "
        f"--out {QUICK}/budgets",
        made="AMD EPYC",
    ),
    Table(
        name="predicted-latency",
        shows="predicted beside measured latency of pruned networks",
        command="python -m benchmarks.predicted_latency --seeds 2",
        result=f"{RESULTS}/predicted_latency/README.md",
        page="docs/budgets.md",
        quick="benchmarks.predicted_latency --only digits --batches 1 --seeds 1 "
        f"--out {QUICK}/predicted-latency",
    ),
    Table(
        name="sparse-inference",
        shows="sparse layers and networks beside the best dense engine",
        command="python -m benchmarks.sparse_inference --full",
        result=f"{RESULTS}/sparse_inference/README.md",
        page="docs/runtime.md",
        quick="benchmarks.sparse_inference --only mlp --threads 1 --amx off --rounds 3 "
        f"--out {QUICK}/sparse-inference",
        made="stated on its page; a second machine: "
        "[sparse_inference_zen5](../experiments/results/sparse_inference_zen5/README.md)",
    ),
    Table(
        name="sparse-convolutions",
        shows="sparse convolutions and ResNet-20 beside dense engines",
        command="OMP_NUM_THREADS=1 python -m benchmarks.sparse_convolutions",
        result=f"{RESULTS}/sparse_inference/convolutions.md",
        page="docs/runtime.md",
        quick="benchmarks.sparse_convolutions --only network --quick --rounds 2 "
        f"--out {QUICK}/sparse-convolutions",
    ),
    Table(
        name="sparse-decode",
        shows="SmolLM2 one token at a time beside dense engines",
        command="OMP_NUM_THREADS=1 python -m benchmarks.sparse_decode --rounds 7 --zeros 0 0.6",
        page="docs/decode.md",
        quick="benchmarks.sparse_decode --rounds 1 --zeros 0.6",
    ),
    Table(
        name="trained-minilm",
        shows="pretrained MiniLM in the sparse runtime: agreement and speed",
        command="python -m benchmarks.trained_minilm --pattern 4x1 --ratio 0.8",
        page="docs/runtime.md",
        quick="benchmarks.trained_minilm --pattern 4x1 --ratio 0.8",
    ),
    Table(
        name="trial-stability",
        shows="kernels chosen for the same layers again and again on a busy machine",
        command="python -m benchmarks.trial_stability",
        page="docs/runtime.md",
        quick="benchmarks.trial_stability --times 2 --busy 1",
    ),
    Table(
        name="dlrm-auc",
        shows="DLRM in blocks of 4 x 16 and INT8: area under the curve",
        command="python -m experiments.dlrm_at_movielens --seeds 3",
        result=f"{RESULTS}/sparse_inference/dlrm_auc.csv",
        page="docs/runtime.md",
        quick="experiments.dlrm_at_movielens --seeds 1",
    ),
    Table(
        name="rollout-cost",
        shows="a rollout in dense training steps, and PocketFlow's",
        command="python -m benchmarks.rollout_cost",
        page="docs/results.md",
        quick="benchmarks.rollout_cost --rounds 1",
    ),
    Table(
        name="dense-epoch",
        shows="an epoch of the dense recipe beside one with full images",
        command="python -m benchmarks.dense_epoch",
        page="experiments/checkpoints/README.md",
        quick="benchmarks.dense_epoch --rounds 2 --steps 10",
        made="one thread of an AMD EPYC",
    ),
    Table(
        name="scale",
        shows="peak memory and time on large networks",
        command="python -m benchmarks.scale",
        result=f"{RESULTS}/scale/README.md",
        page="docs/log.md",
        quick="benchmarks.scale --cases resnet50:uniform",
        made="two shared cores of an AMD EPYC",
    ),
    Table(
        name="database-cost",
        shows="memory and time of ResNet-50's layer database, scaled up from parts",
        command="python -m benchmarks.database_cost",
        result=f"{RESULTS}/scale/README.md",
        page="docs/log.md",
        quick="benchmarks.database_cost --resnet_size 18 --images 1 --rows 1",
    ),
    Table(
        name="scaling",
        shows="rollouts per minute on one and two workers",
        command="python -m benchmarks.scaling --rollouts 24 --rounds 4",
        result=f"{RESULTS}/ray_scaling/README.md",
        page="docs/distributed.md",
        quick="benchmarks.scaling --rollouts 4 --rounds 1",
    ),
    Table(
        name="cluster-model",
        shows="where the driver limits a large cluster, simulated",
        command="python -m benchmarks.cluster_model --measure",
        result=f"{RESULTS}/ray_scaling/README.md",
        page="docs/distributed.md",
        quick="benchmarks.cluster_model",
    ),
    Table(
        name="long-ground",
        shows="what grows over 1,000 runs and in searches of 2,000 rollouts",
        command="python -m benchmarks.long_ground ray --minutes 25",
        result=f"{RESULTS}/long_ground/README.md",
        page="docs/distributed.md",
        quick="benchmarks.long_ground search --protocols bayesian --rollouts 60 "
        f"--out {QUICK}/long-ground --work {QUICK}/long-ground/work",
        made="two shared cores of an AMD EPYC",
    ),
    Table(
        name="run-list",
        shows="seconds to list 1,000 runs",
        command="python -m benchmarks.run_list --repeats 3",
        page="docs/runs.md",
        quick="benchmarks.run_list --runs 50 --repeats 1",
    ),
    Table(
        name="watched-search",
        shows="what it costs a search to be watched",
        command="python -m benchmarks.watched_search",
        page="docs/service.md",
        quick="benchmarks.watched_search --pairs 1 --clients 5 --rollouts 20",
    ),
    Table(
        name="lm-layers",
        shows="layer solvers on one block of SmolLM2: errors and seconds",
        command="python -m benchmarks.lm_layers --model DIR --texts DIR",
        result=f"{RESULTS}/lm_solvers/layers.md",
        page="docs/lm_solvers.md",
        why=_FOLDERS,
    ),
    Table(
        name="decode-perplexity",
        shows="perplexity of the engine itself, token by token, in each number format",
        command="python -m benchmarks.decode_perplexity runs/<pruned>",
        page="docs/decode.md",
        why="it needs the network and a finished run of it",
    ),
    Table(
        name="lm-ratios",
        shows="perplexity of SmolLM2 at 60 and 70 % by protocol and reward",
        command="python -m benchmarks.lm_ratios",
        result=f"{RESULTS}/lm_ratios/README.md",
        page="docs/language_models.md",
        quick="benchmarks.lm_ratios --quick",
    ),
    Table(
        name="lm-solvers",
        shows="layer solvers on SmolLM2: perplexity",
        command="python -m benchmarks.lm_solvers --model DIR --texts DIR",
        result=f"{RESULTS}/lm_solvers/README.md",
        page="docs/lm_solvers.md",
        why=_FOLDERS,
    ),
    Table(
        name="lm-recovery",
        shows="a short training of pruned SmolLM2 beside the dense one",
        command="python -m benchmarks.lm_recovery --run runs/<one-shot> --other 'DIR/*.rst' "
        "--minutes 2 --processor",
        page="docs/language_models.md",
        why="it needs a finished run of SmolLM2",
    ),
    Table(
        name="interoperability",
        shows="what eleven other tools make of our files",
        command="python -m benchmarks.interoperability --out FOLDER",
        page="docs/interoperability.md",
        why="each tool is installed in an environment of its own",
    ),
    Table(
        name="optimizers",
        shows="every optimizer with every method: do pruned weights stay zero?",
        command="python -m benchmarks.optimizers_and_masks --out FOLDER",
        page="docs/interoperability.md",
        quick=f"benchmarks.optimizers_and_masks --only SGD AdamW --out {QUICK}/optimizers",
    ),
    Table(
        name="semi-structured",
        shows="2:4 layers on a GPU's sparse tensor cores",
        command="python -m benchmarks.semi_structured_speed",
        page="docs/nm_sparsity.md",
        why="it needs a GPU; no figure comes from one yet",
    ),
)
