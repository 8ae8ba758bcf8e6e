"""The weight-sparse learner: allocate ratios, train to sparsity, verify, report."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from torch import nn

from agents import DDPGConfig
from envs import LayerRow
from ws_learner.config import PROTOCOLS, ClusterConfig, Recipe, WeightSparseConfig
from ws_learner.core import (
    AnyPath,
    ComputeDevice,
    OutputKind,
    RunDir,
    UserError,
    as_path,
    as_whole,
    check_kind,
    choose_device,
    chosen_settings,
    describe_machine,
    enter_phase,
    expect_phases,
    folder_name,
    half_types,
    identity_hash,
    library_versions,
    load_into,
    load_state,
    narrowed,
    plan_phases,
    refuse_unpicklable,
    refuse_unwritable,
    remember_messages,
    save_model,
    say,
    tensor_types,
    widened,
    write_text,
)
from ws_learner.data import as_splits
from ws_learner.pruning import (
    dense_weights,
    masks_to_keep,
    table_for_settings,
    with_default_pattern,
)
from ws_learner.report import (
    MetricsLog,
    TrackerLike,
    check_trackers,
    expected_seconds,
    read_table,
    to_csv,
    tracking,
)
from ws_learner.search import (
    Allocation,
    Allocator,
    CostSource,
    choose_pool,
    finished_choices,
    finished_costs,
    layer_patterns,
    locked_settings,
    phases_of,
    plain_settings,
    prune_further,
    seconds_by_step,
    summary_facts,
    units_of,
)
from ws_learner.training import (
    Loss,
    Metric,
    Result,
    TrainingPhase,
    build_run_identity,
    build_summary,
    build_training_loss,
    check_batches,
    check_copies,
    check_network,
    check_run_arguments,
    check_splits,
    check_steps,
    check_task,
    config_identity,
    default_settings,
    evaluate,
    first_batch,
    fit_length,
    freeze_as,
    metric_entries,
    output_entries,
    owned_run,
    rehearse,
    reinitialised,
    run_phase,
    say_majority,
    split_sizes,
    train_sparse,
    verified_table,
)

__all__ = ["Result", "WeightSparseLearner"]


class WeightSparseLearner:
    """Prunes a network: a protocol sets each layer's ratio, gradual training reaches it.

    Every stage saves its result in the run directory, so that a call with the same arguments
    resumes where an earlier one stopped, and ends with the same ratios. A directory made with
    other arguments is refused: its `identity.json` holds all that changes the result.

    Example:
        >>> # learner = WeightSparseLearner(model, data, loss=loss, metric=metric, recipe=recipe,
        >>> #                               config=WeightSparseConfig(ws_prune_ratio=0.9))
        >>> # learner.fit().ratios
    """

    def __init__(
        self,
        model: nn.Module,
        data: Any,
        *,
        loss: Loss,
        metric: Metric,
        recipe: Recipe,
        teacher: nn.Module | None = None,
        run_dir: AnyPath | None = None,
        config: WeightSparseConfig | None = None,
        agent: DDPGConfig | None = None,
        compute: ComputeDevice | None = None,
        seed: int = 0,
        workers: int | None = None,
        cluster: ClusterConfig | None = None,
        facts: dict[str, Any] | None = None,
        outputs: OutputKind | None = None,
        track: Sequence[TrackerLike] = (),
        claims: bool = True,
    ) -> None:
        """Configure a run; `fit` starts it.

        Args:
            model: The trained dense network; it is not changed.
            data: `DataSplits`, or data as `as_splits` takes them.
            loss: (outputs, targets) -> scalar.
            metric: (outputs, targets) -> (B,) scores in [0, 1], or a `MetricSpec`, which may have
                another unit or be minimised.
            recipe: Training recipe of the sparse network.
            teacher: Teacher for distillation; by default the dense network.
            run_dir: Directory of the run; by default runs/<network>-gradual-<hash>, with a hash of
                all arguments that change the result.
            config: Pruning settings.
            agent: Settings of the DDPG agent.
            compute: Device, precision and memory layout; by default chosen for this machine.
            seed: Seed of all random numbers.
            workers: Number of processes that score rollouts; by default one per core.
            cluster: Settings for scoring rollouts and training on Ray; None uses local processes.
            facts: Additional entries of the summary, such as the experiment's name.
            outputs: What the network's outputs mean, see `OutputKind`: how a search compares them
                with the dense network's, and distillation with the teacher's. None takes what the
                data say, or infers it from loss, shapes and targets.
            track: Experiment trackers that follow the run, such as ["mlflow"], or objects with the
                methods of `Tracker`.
            claims: Lock the directory and check that it was made with these arguments. False
                leaves both to the caller, who then gives `run_dir`.
        """
        check_network(model)
        check_run_arguments(
            loss=loss,
            recipe=recipe,
            config=config,
            teacher=teacher,
            compute=compute,
            cluster=cluster,
            agent=agent,
        )
        if recipe is None or loss is None:
            name = "recipe" if recipe is None else "loss"
            raise UserError(f"`{name}` None: give one; ws_learner.prune chooses it")
        check_kind(facts or {}, dict, name="facts", give="a dict")
        check_trackers(track)
        seed = as_whole(seed, name="seed")
        workers = None if workers is None else as_whole(workers, name="workers")
        self.model, self.loss, self.metric = model, loss, metric
        self.data = as_splits(data, seed=seed)
        config, self.teacher = config or WeightSparseConfig(), teacher
        fitted = fit_length(
            with_default_pattern(config, model),
            recipe,
            examples=len(self.data.train),
            chosen=chosen_settings(config) | chosen_settings(recipe),
            interval=False,
        )
        self.config, self.recipe, self._adjusted = fitted.config, fitted.recipe, fitted.lines
        self.agent = agent or DDPGConfig()
        self.compute = compute or choose_device()
        self.seed, self.workers, self.facts = seed, workers, dict(facts or {})
        self.cluster, self.outputs, self._track = cluster, outputs, tuple(track)
        self._kind: OutputKind | None = None
        self._run_dir, self._claims = (
            None if run_dir is None else as_path(run_dir, name="run_dir"),
            claims,
        )
        self._run: RunDir | None = None
        self._source: CostSource | None = None

    @remember_messages()  # until the run has a folder
    def fit(self) -> Result:
        """Run all stages: allocate, sparsify, verify, report; a finished run is read again.

        Raises:
            UserError: The arguments do not fit the network, or the directory was made with
                others; the message lists them.
        """
        layers = self._begin()
        with self._owned(), tracking(self.run.path, self._track):
            if self._claims and self.run.finished:
                return self._saved()
            with self._session():
                allocation, sparse = self._trained(self._allocate(layers), layers)
            self._export(sparse)
            return self._verify(layers, allocation)

    def allocate(self) -> Allocation:
        """Allocate the ratios only and save them in the run directory; raises as `fit` does.

        With the reward `kl`, examples need no targets: loss and metric are then not called.
        """
        layers = self._begin(trains=False)
        phases = phases_of(self.config)[:-2]
        with plan_phases(phases), self._owned(), self._session():
            return self._allocate(layers, trains=False)

    def prune(self) -> nn.Module:
        """Allocate and sparsify only, without exporting files or reading the test split.

        Raises:
            UserError: As `fit` does.
        """
        layers = self._begin()
        with plan_phases(phases_of(self.config)[:-1]), self._owned():
            if self._claims and self.run.finished:
                return self._saved().model
            with self._session():
                return self._trained(self._allocate(layers), layers)[1]

    @property
    def run(self) -> RunDir:
        """The directory of the last call or, before the first one, of these arguments."""
        if self._run is not None:
            return self._run
        name = f"{self._stem}-{identity_hash(self.identity())}"
        return RunDir(self._run_dir or Path("runs") / name)

    def identity(self) -> dict[str, Any]:
        """Everything that changes the result, as JSON values; kept in `identity.json`."""
        return build_run_identity(
            self.model,
            self.data,
            loss=self.loss,
            metric=self.metric,
            recipe=self.recipe,
            compute=self.compute,
            seed=self.seed,
            teacher=self.teacher,
            config=config_identity(self.config),
            agent=asdict(self.agent),
            outputs=self.outputs or self.data.outputs,
        )

    @property
    def _stem(self) -> str:
        return folder_name(f"{type(self.model).__name__.lower()}-gradual")

    @contextmanager
    def _owned(self) -> Iterator[None]:
        with owned_run(
            self._run_dir,
            self._stem,
            identity=self.identity,
            claims=self._claims,
            phases=phases_of(self.config),
        ) as run:
            self._run = run
            if not run.finished:
                if self._claims:
                    run.record_defaults(default_settings(self.config, self.agent))
                self._expect_time()
            yield

    def _expect_time(self, step: float | None = None) -> None:
        """Say how long the phases will take, by earlier runs or, without any, by a step's time."""
        units = units_of(self.config, self.recipe, self.data)
        seconds, source = expected_seconds(self.run.path, units)
        text = f"the phases of {source}"
        if step is not None and not seconds and self.cluster is None:
            seconds = seconds_by_step(step, self.recipe, self.data)
            text = "a measured training step and the speed so far"
        alike = {"finalists": ("search", units["finalists"])}
        expect_phases(seconds, source=text if seconds else "", alike=alike)

    def _saved(self) -> Result:
        """The result of a finished run."""
        summary = self.facts | self.run.read_summary()  # refuses damaged results
        model = copy.deepcopy(self.model)
        load_into(model, self.run.model)
        if self.config.ws_save_path is not None:
            self._write_model(self.config.ws_save_path, model)
        return Result(
            model=self.compute.place_model(model).eval(),
            ratios=read_table(self.run.ratios),
            summary=summary,
            run_dir=self.run.path,
        )

    def _session(self) -> AbstractContextManager[None]:
        if self.cluster is None:
            return nullcontext()
        from ws_learner.training import ray_session, store_for

        return ray_session(self.cluster, store=store_for(self.data))

    def _begin(self, *, trains: bool = True) -> tuple[LayerRow, ...]:
        """The layer table, if the splits hold examples and the training fits them."""
        check_splits(self.data)
        if trains:
            check_batches(self.data, self.recipe)
        if self.config.ws_save_path is not None:
            refuse_unwritable(self.config.ws_save_path, setting="ws_save_path")
        for line in self._adjusted:
            say(f"adjusted: {line}")
        examples = len(self.data.train)
        check_steps(self.config, self.recipe, examples=examples, warns=self._claims)
        return self.layers()

    def layers(self) -> tuple[LayerRow, ...]:
        """The layer table."""
        check_splits(self.data)
        example, _ = first_batch(self.data, 2)
        return table_for_settings(self.model, example, self.config)

    def check(
        self, *, trains: bool = False, layers: tuple[LayerRow, ...] | None = None
    ) -> OutputKind | None:
        """Check data, loss, metric and outputs on a few training examples, before any work.

        Args:
            trains: Also make a training step on a copy of the network.
            layers: The layer table, if it is there.

        Returns:
            What the outputs mean; None if nothing needs it and it was not given.

        Raises:
            UserError: They do not fit together, see `check_task`, or the step fails.
        """
        config = self.config
        decided = config.ws_ratios or config.ws_policy
        searches = decided is None and PROTOCOLS[config.ws_prune_ratio_prtl].propose
        self._kind = check_task(
            self.model,
            self.data,
            loss=self.loss,
            metric=self.metric,
            outputs=self.outputs,
            compares=bool(searches and config.ws_reward_signal == "kl") or config.enbl_dst,
            batch_size=self.recipe.batch_size,
        )
        check_copies(self.model)
        alone = self.cluster is None and self.workers == 0
        if searches and not alone and not config.structured:
            self._check_pickling()
        if config.budgets:
            self._allocator(layers or self.layers()).check_budgets()
        if trains and config.ws_prune_ratio:
            start = widened(copy.deepcopy(self.model))
            self._expect_time(rehearse(self._phase(start), start))
        return self._kind

    def _check_pickling(self) -> None:
        """Refuse a network, loss or metric that cannot reach the processes of the search."""
        parts = {"model": self.model, "loss": self.loss, "metric": self.metric}
        here = "or score rollouts in this process: `workers` 0"
        away = "or run without a cluster, with `workers` 0"
        refuse_unpicklable(parts, remedy=here if self.cluster is None else away)

    def _allocate(self, layers: tuple[LayerRow, ...], *, trains: bool = True) -> Allocation:
        trains = trains and not (self.run.state / "allocation.json").exists()
        self.check(trains=trains, layers=layers)
        enter_phase("database")
        say_majority(self.model, self.data, metric=self.metric, compute=self.compute)
        return self._allocator(layers).run_protocol()

    def _allocator(self, layers: tuple[LayerRow, ...]) -> Allocator:
        return Allocator(
            model=self.model,
            data=self.data,
            layers=layers,
            loss=self.loss,
            metric=self.metric,
            config=self.config,
            agent=self.agent,
            seed=self.seed,
            pool=partial(choose_pool, cluster=self.cluster, workers=self.workers),
            run=self.run,
            outputs=self._kind,
            costs=self._costs(),
        )

    def _costs(self) -> CostSource | None:
        """What measures a budget's costs on this machine; None where they are only counted."""
        if self._source is None:
            from ws_learner.deploy import cost_source

            self._source = cost_source(self.model, self.data, self.config, seed=self.seed)
        return self._source

    def _aimed(self, allocation: Allocation, layers: tuple[LayerRow, ...]) -> WeightSparseConfig:
        """The settings of the training: with a budget, the prune ratio that it came to."""
        if not self.config.budgets:
            return self.config
        total = sum(row.weights for row in layers)
        if self.config.structured:
            return locked_settings(self.config)
        return plain_settings(self.config, saved=int(allocation.zeros.sum()) / total)

    def _sparsify(self, allocation: Allocation, layers: tuple[LayerRow, ...]) -> nn.Module:
        if not allocation.zeros.any():
            return copy.deepcopy(self.model)
        structured = "rollout" if self.config.structured else self.config.ws_init
        start = {
            "dense": lambda: copy.deepcopy(self.model),
            "scratch": lambda: reinitialised(self.model, seed=self.seed),
            "rollout": lambda: freeze_as(allocation.network(), self.model),
        }[structured]()
        if half := half_types(self.model):
            say(f"the network is {half}: it is trained in float32, and stored in {half} again")
        start = widened(start)
        phase = self._phase(start)
        counts = allocation.zeros.tolist()
        zeros = {row.name: count for row, count in zip(layers, counts, strict=True)}
        config = self._aimed(allocation, layers)
        kept = masks_to_keep(self.model, layers, config)
        zeros |= {name: int(mask.sum()) for name, mask in kept.items() if not zeros.get(name)}
        own = layer_patterns(allocation, layers)
        train = partial(
            train_sparse,
            start,
            zeros,
            config=config,
            keep_zeros=kept or False,
            patterns=None if own is None else dict.fromkeys(zeros, "unstructured") | own,
        )
        sparse, seconds = run_phase(train, phase, model=start, cluster=self.cluster)
        self.facts.setdefault("train_seconds", round(seconds, 1))
        return narrowed(sparse, tensor_types(self.model))

    def _trained(
        self, allocation: Allocation, layers: tuple[LayerRow, ...]
    ) -> tuple[Allocation, nn.Module]:
        """Train; where the network then misses a latency, prune a little more, twice at most."""
        sparse = self._sparsify(allocation, layers)
        timed = any(one.kind == "latency" for one in self.config.budgets)
        if not timed or self.config.structured or not allocation.zeros.any():
            return allocation, sparse
        for number in (1, 2):
            plain = copy.deepcopy(self.model)  # on the CPU, as it will be delivered
            plain.load_state_dict(sparse.state_dict())
            again = self._allocator(layers).after_training(allocation, plain, number=number)
            unchanged, allocation = again.same_choices(allocation), again
            if unchanged:
                break
            start = widened(sparse)
            found, seconds = prune_further(
                start,
                allocation,
                layers,
                config=self._aimed(allocation, layers),
                phase=self._phase(start),
                cluster=self.cluster,
                number=number,
            )
            sparse = narrowed(found, tensor_types(self.model))
            before = float(self.facts.get("train_seconds", 0.0))
            self.facts["train_seconds"] = round(before + seconds, 1)
        return allocation, sparse

    def _phase(self, student: nn.Module) -> TrainingPhase:
        """The sparse training of a network."""
        teacher = copy.deepcopy(self.teacher or self.model) if self.config.enbl_dst else None
        if teacher is not None:
            self.compute.place_model(teacher)
        return TrainingPhase(
            phase="sparse",
            data=self.data,
            criterion=build_training_loss(
                self.loss,
                teacher=teacher,
                config=self.config,
                student=student,
                outputs=self._kind,
                pad_id=self.data.pad_id,
            ),
            metric=self.metric,
            recipe=self.recipe,
            compute=self.compute,
            seed=self.seed,
            log=MetricsLog(self.run.metrics),
            checkpoint=self.run.state / "sparse.pt",
        )

    def _export(self, sparse: nn.Module) -> None:
        enter_phase("report")
        self._write_model(self.run.model, sparse)
        if self.config.ws_save_path is not None:
            self._write_model(self.config.ws_save_path, sparse)

    def _write_model(self, path: Path, sparse: nn.Module) -> None:
        metadata = {"format": "pt", "target": str(self.config.ws_prune_ratio)}
        save_model(path, sparse.state_dict(), metadata)

    def _verify(self, layers: tuple[LayerRow, ...], allocation: Allocation) -> Result:
        """Reload the saved file, count its zeros and evaluate it on the test split."""
        state, config = load_state(self.run.model), self._aimed(allocation, layers)
        chosen = finished_choices(allocation, layers, self.config)
        shown = layer_patterns(allocation, layers) is not None
        frame = verified_table(
            layers,
            allocation.zeros,
            state=state,
            config=config,
            choices=tuple(chosen.values()) if shown else None,
            predicted_ms=allocation.facts.get("predicted_ms"),
        )
        model = copy.deepcopy(self.model)
        load_into(model, self.run.model)
        write_text(self.run.ratios, to_csv(frame))
        left = dense_weights(model, layers, allocation.zeros, config)
        write_text(self.run.dense_weights, to_csv(left))
        summary = build_summary(
            frame,
            config=config,
            rollouts=allocation.rollouts,
            search_seconds=allocation.seconds,
            failed_rollouts=allocation.failed,
        )
        summary |= allocation.search_entries | summary_facts(allocation)
        summary |= {"hardware": describe_machine(self.compute), "versions": library_versions()}
        summary |= {"seed": self.seed, "split_sizes": split_sizes(self.data)} | self.facts
        summary["measured_on"] = self.data.measured_on
        summary.pop("dense_accuracy", None)  # entered again under the metric's own name
        summary |= output_entries(model.eval(), self.data)
        if self.config.budgets:
            summary["budget_parts"] = finished_costs(
                summary["budget_parts"],
                model,
                layers=layers,
                choices=chosen,
                config=self.config,
                source=self._costs(),
            )
        values = {"dense": self._dense_metric(), "sparse": self._test(model, "sparse")}
        if "int8" in allocation.facts.get("dtypes", ()) and (costs := self._costs()):
            fast = costs.compiled(self.config.budgets[0], model, chosen)
            values["int8"] = self._test(fast, "INT8")
        summary |= metric_entries(self.metric, **values)
        if "units" in self.config.pattern_spelling:
            from ws_learner.deploy import crop_run

            inputs, _ = next(self.data.test.batches(32))
            summary |= crop_run(model, inputs, self.run.path)
        self.run.finish(summary)
        return Result(model=model, ratios=frame, summary=summary, run_dir=self.run.path)

    def _dense_metric(self) -> float | None:
        """The dense network's metric on the test split; the facts may know it, None for none."""
        if "dense_accuracy" in self.facts:
            known: float | None = self.facts["dense_accuracy"]
            return known
        return self._test(copy.deepcopy(self.model), "dense")

    def _test(self, model: nn.Module, which: str) -> float:
        self.compute.place_model(model)
        return evaluate(
            model,
            self.data.test,
            self.metric,
            compute=self.compute,
            title=f"{self.data.measured_on} of the {which} network",
            where=f"the {self.data.measured_on} split",
        )
