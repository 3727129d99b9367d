"""The experiments of a study: trained and scored, unless the folder holds their results."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from aeanet.data.pairs import PairSet, evenly_spaced
from aeanet.data.registration import RegisteredPair
from aeanet.errors import sentence_or_raise
from aeanet.figures import CropRow, Curve, Drawing, crop_row, draw_heatmaps
from aeanet.inference.prediction import restore
from aeanet.inference.relevance import most_varied, relevance_maps
from aeanet.networks.base import Network
from aeanet.networks.registry import MODEL_FILE, load_model, to_device
from aeanet.reproduce.plan import AEANET, TILED, Experiment, ReproduceError, Strategy, Study
from aeanet.reproduce.store import RESULT_FILE, Store
from aeanet.scoring.evaluation import Evaluation, evaluate
from aeanet.training import (
    CHECKPOINT_FILE,
    CheckpointError,
    TrainingProgress,
    TrainingResult,
    fingerprint,
    open_run,
    save_run,
    train,
)

PAGE, RECORD = "index.html", "results.json"  # of the report
PROTOCOL = 1  # raise it when results of earlier versions no longer are what this program measures
SHOWN_CROPS = 4
SHOWN_IMAGES = 3
SHOWN_REFERENCES = 4
TILE_SIZES = (128, 256, 384, 512)  # px
# Of a stitched tile, px that are thrown away on each side; the network's convolutions reach 22.
MARGIN = 32
Show = Callable[[str, float], None]


@dataclass
class Results:
    """The results of a study.

    Attributes:
        evaluations: (strategy, method's key) -> seed -> the evaluation of all pairs scored by that
            strategy.
        trainings: experiment's key -> label, parameters, steps, seconds, loss.
        failed: label of an experiment that failed -> the reason.
        crops: the lines of Fig. 4.
        relevance: draws Fig. 5; None without it.
        curves: of Fig. 6.
    """

    evaluations: dict[tuple[Strategy, str], dict[int, Evaluation]] = field(default_factory=dict)
    trainings: dict[str, dict[str, Any]] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    crops: list[CropRow] = field(default_factory=list)
    relevance: Drawing | None = None
    curves: list[Curve] = field(default_factory=list)


def replaced_files(study: Study, folder: Path) -> list[Path]:
    """What `run_study` and `write_report` would replace though it does not belong to this study:
    results of experiments with other settings or data, and a page where there is no report.
    """
    store = Store(folder)
    others = [
        store.folder(experiment.key) / RESULT_FILE
        for experiment in study.experiments
        if store.recall(experiment.key, _settings(study, experiment)) is None
    ]
    if not (folder / RECORD).exists():
        others.append(folder / PAGE)
    return [file for file in others if file.exists()]


def run_study(study: Study, folder: Path, show: Show) -> Results:
    """Train and score all experiments of a study that its folder does not hold yet.

    An experiment that fails for a reason that the user can mend is noted in `failed`, and the
    others go on. Complete experiments are kept, whatever ends the run.

    Args:
        study: what to do.
        folder: of the report.
        show: called with what is being done, and the share of it that is done, 0 to 1.

    Raises:
        ReproduceError: if all experiments fail.
        OSError: if the folder cannot be written.
        KeyboardInterrupt: on Ctrl-C.
    """
    # in the order of the plan, so the pooled ones, which most sections need, are done first
    results, store = Results(), Store(folder)
    scored: list[tuple[Experiment, Evaluation]] = []
    total = len(study.experiments)
    for done, experiment in enumerate(study.experiments):

        def told(label: str, share: float, done: int = done) -> None:
            show(f"{done + 1} of {total}: {label}", (done + share) / total)

        # a full disk would fail all that follow, so it ends the run, and a later one goes on
        try:
            result = _experiment(study, experiment, store, told)
        except OSError:
            raise
        except Exception as error:
            results.failed[experiment.label] = sentence_or_raise(error)
            continue
        results.trainings[experiment.key] = {"label": experiment.label, **result["training"]}
        scored.append((experiment, Evaluation.from_record(result["evaluation"])))

    # one reason stands for all
    if not scored:
        label, reason = next(iter(results.failed.items()))
        raise ReproduceError(f"No experiment could be done; {label}: {reason}")
    results.evaluations = _collect(scored)

    # The figures, from the networks of all pairs.
    with_figures = {"fig4", "fig5", "fig6"} & {*study.sections}
    networks = _pooled_networks(study, store, results) if with_figures else {}
    if "fig4" in study.sections:
        show("Restoring test crops", 1.0)
        results.crops = _crops(study, networks)
    if "fig5" in study.sections and AEANET.key in networks:
        show("Relevance of references", 1.0)
        results.relevance = _relevance(study, networks[AEANET.key])
    if "fig6" in study.sections:
        results.curves = _curves(study, store, networks, results, show)
    return results


def _experiment(study: Study, experiment: Experiment, store: Store, show: Show) -> dict[str, Any]:
    """The result of an experiment, from the store or new."""
    # a result counts with its network alone, which the figures need too
    settings = _settings(study, experiment)
    show(experiment.label, 0.0)
    kept = store.recall(experiment.key, settings)
    if kept is not None and (store.folder(experiment.key) / MODEL_FILE).is_file():
        return kept

    # an interrupted training is no result: its checkpoint stays, for the next run to go on from
    folder = store.prepare(experiment.key)
    trained = _train(study, experiment, folder, show)
    if trained.interrupted:
        raise KeyboardInterrupt
    show(f"{experiment.label}, scoring", 0.95)
    pairs = [study.pairs[name] for name in experiment.score_on]
    evaluation = evaluate(to_device(trained.model), pairs)

    # plain numbers for JSON; a method by example takes no steps and has no loss
    result = {
        "training": {
            "parameters": sum(parameter.numel() for parameter in trained.model.parameters()),
            "steps": trained.steps,
            "seconds": round(trained.seconds, 1),
            "loss": trained.loss if trained.steps else None,
        },
        "evaluation": evaluation.record(),
    }

    # only now is the checkpoint of no more use
    store.keep(experiment.key, settings, result)
    (folder / CHECKPOINT_FILE).unlink(missing_ok=True)
    return result


def _train(study: Study, experiment: Experiment, folder: Path, show: Show) -> TrainingResult:
    """Train in a run folder. A training that was stopped goes on from its checkpoint, if that
    belongs to this experiment.
    """
    recipe = replace(study.recipe, seed=experiment.seed)
    data = PairSet([study.pairs[name] for name in experiment.train_on], {})

    def on_step(now: TrainingProgress) -> None:
        label = f"{experiment.label}, step {now.step:,} of {recipe.steps:,}, loss {now.loss:.4f}"
        show(label, 0.95 * now.used)

    def go(*, resume: bool) -> TrainingResult:
        with open_run(folder, resume=resume, overwrite=True) as run:
            trained = train(
                data, recipe, run=run, on_step=on_step, **study.network(experiment.method)
            )
            save_run(folder, trained, recipe, data)
        return trained

    if (folder / CHECKPOINT_FILE).is_file():
        with suppress(CheckpointError):  # it is of another experiment, or damaged
            return go(resume=True)
    return go(resume=False)


def _settings(study: Study, experiment: Experiment) -> dict[str, Any]:
    """All that the result of an experiment depends on."""
    names = dict.fromkeys((*experiment.train_on, *experiment.score_on))
    return {
        "protocol": PROTOCOL,
        "model": study.network(experiment.method),
        "recipe": asdict(replace(study.recipe, seed=experiment.seed)),
        "train_on": experiment.train_on,
        "score_on": experiment.score_on,
        "data": fingerprint([study.pairs[name] for name in names]),
    }


def _collect(
    scored: Sequence[tuple[Experiment, Evaluation]],
) -> dict[tuple[Strategy, str], dict[int, Evaluation]]:
    """Strategy and method -> seed -> its evaluation, over all its parts."""
    seeds: dict[tuple[Strategy, str], dict[int, list[Evaluation]]] = {}
    for experiment, evaluation in scored:
        of_method = seeds.setdefault((experiment.strategy, experiment.method.key), {})
        of_method.setdefault(experiment.seed, []).append(evaluation)
    return {
        key: {
            seed: Evaluation([score for part in parts for score in part.subimages])
            for seed, parts in by_seed.items()
        }
        for key, by_seed in seeds.items()
    }


def _pooled_networks(study: Study, store: Store, results: Results) -> dict[str, Network]:
    """Method's key -> its pooled network of seed 0, unless its training failed."""
    pooled = [
        e
        for e in study.experiments
        if e.strategy == "pooled" and not e.seed and e.key in results.trainings
    ]
    return {e.method.key: to_device(load_model(store.folder(e.key))) for e in pooled}


def _crops(study: Study, networks: Mapping[str, Network]) -> list[CropRow]:
    shown = {
        method.title: networks[method.key] for method in study.table1 if method.key in networks
    }
    pairs = [study.pairs[name] for name in evenly_spaced(list(study.pairs), SHOWN_CROPS)]
    return [
        crop_row(pair, {title: restore(model, pair.lr) for title, model in shown.items()})
        for pair in pairs
    ]


def _relevance(study: Study, model: Network) -> Drawing:
    names = evenly_spaced(list(study.pairs), SHOWN_IMAGES)
    images = [study.pairs[name].lr for name in names]
    maps = [relevance_maps(model, image) for image in images]
    return partial(draw_heatmaps, names, images, maps, most_varied(maps, SHOWN_REFERENCES))


def _curves(
    study: Study, store: Store, networks: Mapping[str, Network], results: Results, show: Show
) -> list[Curve]:
    """Mean Δ PSNR of the pooled networks for each tile size; kept in the store as experiments
    are.
    """
    # only sizes that cut every image into several tiles
    pairs = list(study.pairs.values())
    sizes = [size for size in TILE_SIZES if size < min(max(pair.hr.shape) for pair in pairs)]
    found = []
    experiments = {(e.strategy, e.method.key, e.seed): e for e in study.experiments}
    for method in TILED:
        if method.key not in networks or not sizes:
            continue
        experiment = experiments["pooled", method.key, 0]

        # kept apart from the training: other sizes leave the network as it is
        key = f"tiles/{method.key}"
        settings = _settings(study, experiment) | {"sizes": sizes, "halo": MARGIN}
        kept = store.recall(key, settings)
        if kept is None:
            store.prepare(key)
            told = partial(show, f"{method.title}, tiles")
            kept = _tiled(networks[method.key], pairs, sizes, told)
            store.keep(key, settings, kept)

        # the level that both ways are held against, from the scoring of whole images
        whole = results.evaluations["pooled", method.key][0].mean.delta_psnr
        found.append(Curve(method.title, sizes, kept["stitched"], kept["exact"], whole))
    return found


def _tiled(
    model: Network,
    pairs: Sequence[RegisteredPair],
    sizes: Sequence[int],
    show: Callable[[float], None],
) -> dict[str, list[float]]:
    """Mean Δ PSNR (dB) for each tile size, of stitched and of exact tiles; an exact tile has its
    halo besides its `size` px.
    """
    found: dict[str, list[float]] = {"stitched": [], "exact": []}
    for done, size in enumerate(sizes):
        show(done / len(sizes))
        alone = partial(restore, tile=size - 2 * MARGIN, halo=MARGIN, exact=False)
        for way, predict in (("stitched", alone), ("exact", partial(restore, tile=size))):
            found[way].append(evaluate(model, pairs, predict=predict).mean.delta_psnr)
    return found
