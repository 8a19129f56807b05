"""`effconv ablate` as one job: a baseline, one change at a time, and what each costs in AP, with intervals."""

import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from ...effdet_torch.engines.engines import make_engine
from ...effdet_torch.network import Network
from ...errors import EffconvError
from ...strict_json import json_text
from ..datasets.dataset import Dataset
from ..datasets.examination import examine
from ..datasets.layouts import read_dataset
from ..distributed import Group
from ..engine_choice import graphs_folder, settle_engine
from ..evaluation.category_map import choose_categories
from ..evaluation.coco import METRICS, Rows
from ..evaluation.contents import digest
from ..evaluation.detect import Running, found_rows, run_key
from ..evaluation.unfinished import Place, kept
from ..mistakes.pipeline import Setup
from ..provenance import provenance
from .bootstrap import draw_images, metrics_of
from .finished_rows import ROWS_ENDING, FinishedRows
from .matches import Matches, match_detections
from .output_cache import OutputCache, Outputs, Selected
from .record import AblationRecord, AblationRow, GapRecord, Subject
from .registry import STAGES, Ablation
from .significance import Interval, Sampled, draw_swaps, exchanged, interleaved, intervals
from .study import Study, official_setup
from .waterfall import waterfall

Report = Callable[[int, int], None]


class Ablator:
    """A baseline and its images. Every row is one evaluation of a setup, compared with the baseline's.

    The processes of `group` share the images by turns; each has the detections of all, and so every row.
    """

    def __init__(self, study: Study, folder: Path, group: Group, say: Callable[[str], None] = lambda line: None):
        self.study, self.group = study, group
        self.dataset: Dataset = read_dataset(study.coco, study.split)
        self.baseline = official_setup(study)
        model = self.baseline.model
        self.images = self.dataset.images[: study.limit]
        self.examination = examine(self.dataset, self.images)
        if study.strict:
            self.examination.require_no_fault()
        if group.rank == 0:
            self.examination.warn()
        self.renamed = choose_categories(model.config, self.dataset, study.category_map)
        if len(self.images) < group.size:
            raise EffconvError(f"{len(self.images)} images for {group.size} processes; start no more than images")
        self.mine = self.images[group.rank :: group.size]
        batch = min(study.batch, len(self.images))  # it has its rows whether there are images for them or not
        self.cache = OutputCache(folder, self.mine, batch, study.workers, study.device)
        # Of all rows, so that none differs from another by its engine's rounding.
        self.engine = settle_engine(
            study.engine,
            model,
            self.baseline.pipeline.config.image_size,
            len(self.images),
            say,
            device=study.device,
            earlier=FinishedRows(study.rows, {}).path if study.rows and study.resume else None,
            group=group,
        )
        running = Running(batch=batch, device=study.device, engine=self.engine)
        self.key = run_key(model, self.baseline.pipeline, self.dataset, running)
        self._baseline: tuple[Matches, Sampled] | None = None

    def row(self, ablations: Sequence[Ablation], report: Report | None = None) -> AblationRow:
        """The changes made together, or the baseline: metrics, differences with intervals, and speed."""
        setup = self.changed(ablations)
        cached = self.cached(setup, ablations, report)
        started = time.perf_counter()
        rows = self.detections(setup, cached)
        seconds = (time.perf_counter() - started) / len(self.mine)
        matches = match_detections(self.dataset, rows, self.images)
        sampled = self.sampled(matches)
        if not ablations:
            self._baseline = matches, sampled
        elif not self.study.cache:
            self.cache.forget(cached.own)  # of a large dataset they take gigabytes
        return AblationRow(
            name=row_name(ablations),
            stage=ablations[-1].stage if ablations else None,
            summary="; ".join(each.summary for each in ablations),
            published=tuple(each.published for each in ablations if each.published),
            metrics=dict(zip(METRICS, sampled[0].tolist(), strict=True)),
            differences=self.compared(matches, sampled),
            network_seconds_per_image=cached.outputs.seconds_per_image,
            decode_seconds_per_image=seconds,
            engine=self.engine_of(ablations),
        )

    def changed(self, ablations: Sequence[Ablation]) -> Setup:
        """The baseline with all of the changes, stage by stage: a later one may depend on the input's size."""
        setup = self.baseline
        for ablation in sorted(ablations, key=lambda each: STAGES.index(each.stage)):
            setup = ablation.apply(setup)
        return setup

    def engine_of(self, ablations: Sequence[Ablation]) -> str:
        """What runs the network: exchanged parts have no other form than the one they are written in."""
        return "eager" if any(each.stage == "network" for each in ablations) else self.engine

    def network(self, setup: Setup, engine: str) -> Network:
        """The setup's network in the form that runs."""
        model, size = setup.model.to(self.study.device), setup.pipeline.config.image_size
        return make_engine(engine, model, size, graphs=graphs_folder())

    def metric(self, ablations: Sequence[Ablation], name: str = "AP") -> float:
        """One metric with the changes made together."""
        setup = self.changed(ablations)
        rows = self.detections(setup, self.cached(setup, ablations))
        return float(metrics_of(match_detections(self.dataset, rows, self.images))[0, METRICS.index(name)])

    def sampled(self, matches: Matches) -> Sampled:
        """Metrics, and those of the resamples, of which each process computes its share."""
        times = draw_images(matches.images, self.study.seed, self.study.resamples)
        return metrics_of(matches)[0], self.shared_out(times, lambda mine: metrics_of(matches, mine))

    def compared(self, matches: Matches, sampled: Sampled) -> dict[str, Interval]:
        """How detections differ from the baseline's, metric by metric."""
        if self._baseline is None:
            rows = self.detections(self.baseline, self.cached(self.baseline, []))
            mine = match_detections(self.dataset, rows, self.images)
            self._baseline = mine, self.sampled(mine)
        both = interleaved(matches, self._baseline[0])
        swaps = draw_swaps(matches.images, self.study.seed)
        return intervals(sampled, self._baseline[1], self.shared_out(swaps, lambda mine: exchanged(both, mine)))

    def shown(self) -> dict[str, Any]:
        """What rows are measured on: ids of the images, and one digest of all their files."""
        mine = [(image.id, each) for image, each in zip(self.mine, self.cache.contents, strict=True)]
        images = sorted(each for part in self.group.gather(mine) for each in part)
        return {"images": [number for number, _ in images], "pictures_sha256": digest(json_text(images).encode())}

    def shared_out(
        self, rows: NDArray[Any], compute: Callable[[NDArray[Any]], NDArray[np.float64]]
    ) -> NDArray[np.float64]:
        """(R, 12) metrics computed of `rows` (R, ...), of which each process computes its share."""
        found = np.empty((len(rows), len(METRICS)))
        for rank, part in enumerate(self.group.gather(compute(rows[self.group.rank :: self.group.size]))):
            found[rank :: self.group.size] = part
        return found

    def detections(self, setup: Setup, cached: "Cached") -> Rows:
        """(N, 7) detections of all images, of all processes."""
        steps, tables = setup.pipeline.postprocess, []
        for place, image in enumerate(self.mine):
            if cached.selected:
                candidates = steps.selected(*cached.selected.of(place))
            else:
                outputs = (torch.from_numpy(np.array(each[place : place + 1])) for each in cached.outputs[:2])
                candidates = steps.decoded(*outputs)
            detections = steps.finish(candidates, torch.tensor(cached.scales[place : place + 1]))
            of_image, _ = found_rows(detections, 0)
            tables.append(np.insert(of_image.astype(np.float64), 0, image.id, axis=1))
        rows = np.concatenate([np.zeros((0, 7)), *(table for part in self.group.gather(tables) for table in part)])
        rows = setup.categories(rows, self.dataset)
        if self.renamed:
            rows[:, 6] = [self.renamed.get(int(number), int(number)) for number in rows[:, 6]]
        return rows

    def cached(self, setup: Setup, ablations: Sequence[Ablation], report: Report | None = None) -> "Cached":
        """What the setup's decoding is given: computed anew only where input, weights or network are changed."""

        def names(*stages: str) -> list[str]:
            return [each.name for each in ablations if each.stage in stages]

        input_key = {**self.key, "changes": names("input")}
        engine = self.engine_of(ablations)
        key = {**self.key, "engine": engine, "changes": names("input", "weights", "network")}
        inputs = self.cache.inputs(input_key, setup.pipeline.preprocess, report)
        outputs = self.cache.outputs(key, lambda: self.network(setup, engine), inputs, report)
        select = setup.pipeline.postprocess.candidates
        official = select == self.baseline.pipeline.postprocess.candidates
        selected = self.cache.selected(key, select, outputs) if official else None
        entries = [{"inputs": input_key}, {"outputs": key}, {"selected": key}]
        own = [entry for entry in entries if any(of["changes"] for of in entry.values())]
        return Cached(outputs, selected, inputs.scales, own)


class Cached(NamedTuple):
    """What decoding is given: raw outputs, what the official step selects of them, and original pixels per pixel."""

    outputs: Outputs
    selected: Selected | None  # None: selected otherwise, from the outputs
    scales: NDArray[np.float32]  # (I,)
    own: list[dict[str, Any]]  # entries of the cache that are not the baseline's


def row_name(ablations: Sequence[Ablation]) -> str:
    """What a row is called by."""
    return " + ".join(each.name for each in ablations) or "baseline"


def split_gap(
    study: Study, ablations: Sequence[Ablation], command: str, say: Callable[[str], None] = lambda line: None
) -> GapRecord | None:
    """The record of the gap in AP between the baseline and all changes together (`waterfall.waterfall`).

    None in every process of a group but its first.
    """
    by_name = {each.name: each for each in ablations}
    group = Group()
    with group.joined(study.device), tempfile.TemporaryDirectory() as temporary:
        ablator = Ablator(study, study.cache or Path(temporary), group, say)
        split = waterfall(list(by_name), lambda chosen: ablator.metric([by_name[name] for name in chosen]))
    return None if group.rank else GapRecord(subject=_subject(ablator, command), gap=split)


def run_study(
    study: Study,
    rows: Sequence[Sequence[Ablation]],
    command: str,
    tell: Callable[[AblationRow], None],
    report: Report | None = None,
    say: Callable[[str], None] = lambda line: None,
) -> AblationRecord | None:
    """The record of a baseline and of every row of changes made together; None in every process but a group's first.

    `tell(row)` is called as each is done, and `report(done, total)` counts them, in the first process; `say` gets
    a line about the engine where it was chosen. Raises
    EffconvError for bad input.
    """
    if study.limit is not None and study.limit < 2:
        raise EffconvError("an interval needs at least two images; give a larger limit", parameters={"limit": None})
    group = Group()
    with group.joined(study.device), tempfile.TemporaryDirectory() as temporary:
        ablator = Ablator(study, study.cache or Path(temporary), group, say)
        settings = {"resamples": study.resamples, "seed": study.seed}
        depends_on = {**ablator.key, **settings, **ablator.shown()}
        on_disk = FinishedRows(study.rows, depends_on) if study.rows else None
        earlier = group.share(_earlier(on_disk, study.resume) if group.rank == 0 else None)
        done: list[AblationRow] = []

        def keep(output: Path | None) -> str:
            if group.rank > 0 or not done:
                return ""
            if output:
                rows_file = FinishedRows(output, depends_on)
                rows_file.start()
                for row in done:
                    rows_file.add(row)
            return f"{len(done)} of {len(rows) + 1} rows"

        with kept(Place(study.rows, "--record", Path("ablation.json"), ROWS_ENDING), command, keep):
            for place, ablations in enumerate([(), *rows]):
                name = row_name(ablations)
                done.append(earlier.get(name) or ablator.row(ablations))
                if group.rank:
                    continue
                if on_disk and name not in earlier:
                    on_disk.add(done[-1])
                tell(done[-1])
                if report:
                    report(place + 1, len(rows) + 1)
    if group.rank:
        return None
    return AblationRecord(subject=_subject(ablator, command), **settings, processes=group.size, rows=tuple(done))


def _earlier(on_disk: FinishedRows | None, resume: bool) -> dict[str, AblationRow] | EffconvError:
    try:
        earlier = on_disk.read() if on_disk and resume else {}
    except EffconvError as error:
        return error  # raised by every process, so that none waits for the others
    if on_disk and not earlier:
        on_disk.start()
    return earlier


def _subject(ablator: Ablator, command: str) -> Subject:
    return Subject(
        command=command,
        model=ablator.baseline.model.config.name,
        checkpoint=ablator.study.checkpoint.name,
        baseline=ablator.key,
        images=len(ablator.images),
        dataset_faults=ablator.examination.record(),
        provenance=provenance(),
    )
