"""Tables of accuracy, of rewards and of searches."""

from __future__ import annotations

from benchmarks.table_entry import QUICK, RESULTS, Table

__all__ = ["ACCURACY"]

ACCURACY = (
    Table(
        name="default-run",
        shows="the default run: ResNet-20, 75 %",
        command="./run_local.sh --learner weight-sparse",
        result=f"{RESULTS}/resnet20_at_cifar10-optimal-0.75/report.md",
        page="README.md",
        quick="experiments.run resnet_at_cifar10 --learner weight-sparse --protocol divergence "
        f"--nb_epochs 0.03 --run_dir {QUICK}/default-run",
        made="two cores of an AMD EPYC, 4.7 minutes",
    ),
    Table(
        name="accuracy",
        shows="accuracy by protocol: ResNet-20 at 75, 90, 95 %, seeds, intervals",
        command="python -m benchmarks.accuracy_table",
        result=f"{RESULTS}/accuracy/README.md",
        page="docs/results.md",
        quick="benchmarks.accuracy_table --quick",
        made="stated on its page",
    ),
    Table(
        name="families",
        shows="the same for digits, a VGG-like network and MiniLM at 90 and 95 %",
        command="python -m benchmarks.family_table",
        result=f"{RESULTS}/families/README.md",
        page="docs/results.md",
        quick="benchmarks.family_table --quick",
        made="stated on its page",
    ),
    Table(
        name="ceiling",
        shows="how well one training ranks profiles as another does",
        command="python -m benchmarks.ceiling",
        result=f"{RESULTS}/ceiling/README.md",
        page="docs/results.md",
        quick="benchmarks.ceiling --quick",
        made="stated on its page",
    ),
    Table(
        name="reward-quality",
        shows="whether a rollout's score ranks profiles as training does",
        command="python -m benchmarks.reward_quality",
        result=f"{RESULTS}/reward_quality/README.md",
        page="docs/log.md",
        quick="benchmarks.reward_quality --profiles 6 --nb_epochs 0.03 --workers 1 "
        f"--out {QUICK}/reward-quality",
    ),
    Table(
        name="reward-signals",
        shows="exp(-KL) beside total variation as the reward",
        command="python -m benchmarks.reward_signals",
        result=f"{RESULTS}/reward_quality/README.md",
        page="docs/log.md",
        quick="benchmarks.reward_signals --profiles 6 --targets 0.9 --seeds 1 --nb_epochs 0.2 "
        f"--images 100 --out {QUICK}/reward-signals",
        made="one thread of an AMD EPYC, shared, 5 minutes",
    ),
    Table(
        name="agent-ablation",
        shows="`optimal` beside other searches and without its parts",
        command="python -m benchmarks.agent_ablation",
        result=f"{RESULTS}/agent_ablation/README.md",
        page="docs/results.md",
        quick="benchmarks.agent_ablation --parts searches --entrants optimal --targets 0.9 "
        "--seeds 1 --slope_rollouts 8 --rescored 0 --workers 1 "
        f"--out {QUICK}/agent-ablation",
        made="two shared cores of an AMD EPYC",
    ),
    Table(
        name="policy-transfer",
        shows="the actor on a family of networks that it has not seen",
        command="python -m benchmarks.policy_transfer",
        result=f"{RESULTS}/agent_ablation/more.md",
        page="docs/results.md",
        why="it first learns from searches on every other network",
        made="two shared cores of an AMD EPYC",
    ),
    Table(
        name="search-league",
        shows="searches at the same number of rollouts (older network)",
        command="python -m benchmarks.search_league",
        result=f"{RESULTS}/search_league/README.md",
        page="docs/log.md",
        quick="benchmarks.search_league --targets 0.9 --seeds 1 --ablation_seeds 0 --rollouts 8 "
        f"--train_seeds 0 --workers 1 --out {QUICK}/search-league",
    ),
    Table(
        name="search-tasks",
        shows="rewards of the profiles without rollouts, and costs, by network",
        command="python -m benchmarks.search_tasks --ratio 0.9",
        page="docs/log.md",
        quick="benchmarks.search_tasks digits --ratio 0.9",
    ),
    Table(
        name="agent-control",
        shows="the agent on control tasks with known answers",
        command="python -m benchmarks.agent_control --task pendulum",
        result=f"{RESULTS}/agent_control/pendulum-seed0.json",
        page="docs/results.md",
        quick=f"benchmarks.agent_control --task move-to-target --quick --out {QUICK}/control",
    ),
    Table(
        name="one-call",
        shows="`prune` by its defaults on small networks, and the same training dense",
        command="python -m benchmarks.one_call_defaults",
        page="docs/guide.md",
        quick="benchmarks.one_call_defaults --seeds 1 --tasks digits",
    ),
    Table(
        name="world-size",
        shows="accuracy on 1, 2 and 4 ranks",
        command="python -m benchmarks.world_size",
        result=f"{RESULTS}/world_size/README.md",
        page="docs/distributed.md",
        quick=f"benchmarks.world_size --sizes 1 2 --seeds 0 --nb_epochs 0.03 "
        f"--out {QUICK}/world-size",
        made="two Xeon cores with AVX-512",
    ),
)
