"""Grids of runs: what is recorded is skipped, what was cut off goes on, what fails is kept."""

from __future__ import annotations

import dataclasses
import itertools
import tempfile
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from ctrlib.data import DATASETS
from ctrlib.errors import CtrlibError, DataError, DeviceError, RecordError, SettingError, unknown
from ctrlib.lab.records import Record, note_read, read_record, set_aside, write_record
from ctrlib.lab.run import VARIED, Run
from ctrlib.lab.runner import checkpoints_dir, make_record, record_epochs, weights_path
from ctrlib.models import MODELS, ModelEntry, own_entries
from ctrlib.paths import JOBS, jobs_at_once, records_dir
from ctrlib.train import NUMERICS, Protocol
from ctrlib.train.fit import checked_device

Cell = tuple[str, Mapping[str, Any]]
LINES, SECONDS_APART = 100, 10.0  # progress: a line for each hundredth of a grid, and none sooner than this


@dataclass
class Grid:
    """The runs of one experiment, in the order in which they are started."""

    experiment: str
    runs: list[Run] = field(default_factory=list)

    def add(
        self,
        dataset: str,
        cells: Mapping[str, Cell],
        protocol: Protocol,
        seeds: Iterable[int],
        rows: int | None = None,
        *,
        parents: Callable[[int], tuple[Run, ...]] | None = None,
        keep: bool = False,
        vary: str = "seed",
    ) -> Grid:
        """Add every cell (label -> model and settings) with every seed, seed by seed; return the grid.

        A cell's embedding_dim is the protocol's unless it names its own. parents: gives for a seed the runs whose
        weights the cells start from; they need not be in the grid. keep, vary: see `Run`.
        """
        if isinstance(seeds, int):
            raise SettingError(f"seeds is {seeds}; give several, such as range(1, 4), or [{seeds}].")
        for label, cell in cells.items():
            if isinstance(cell, str) or len(cell) != 2:
                raise SettingError(f"Cell {label!r} is {cell!r}; it must be (model, settings), such as ('DNN', {{}}).")
        for seed in seeds:
            for label, (model, settings) in cells.items():
                full = {"embedding_dim": protocol.embedding_dim} | dict(settings)
                origins = parents(seed) if parents else ()
                run = Run(self.experiment, dataset, label, model, full, protocol, seed, rows, origins, keep, vary)
                self.runs.append(run)
        return self

    def __len__(self) -> int:
        return len(self.runs)


def run_grid(
    grid: Grid,
    *,
    device: str = "cpu",
    jobs: int | None = None,
    threads: int = 1,
    backend: str = "loky",
    progress: bool = True,
    root: Path | None = None,
    resume: bool = True,
    weights: Path | None = None,
) -> list[Record]:
    """Make every run that is not recorded yet and return the records of all runs of the grid.

    jobs: runs side by side; by default one for each core on a CPU, since these runs are small and one thread
    each is faster than all cores for one, and one on a GPU. Several on a GPU share it as streams of one process, an
    epoch of each in turn, and give the same bits as alone. backend: any of joblib's, so a Ray or Dask cluster
    works. resume: go on from the checkpoint of a run that was cut off. weights: the folder of the weights that stages
    start from, by default in the cache; a run whose weights are wanted and missing is made, even if it is recorded.
    Finished runs stay when the grid is interrupted. A failed run is recorded as such and not tried again;
    a damaged record is set aside under another name and its run made anew. Raises `SettingError` before the first
    run for a model or setting that does not exist.
    """
    if root is None:
        note_read(grid.experiment)
    if threads < 1 or (jobs is not None and jobs < 1):
        raise SettingError("jobs and threads must be at least 1.")
    checked_device(device)
    root = root or records_dir()
    _check(grid)
    todo = [run for run in grid.runs if not _recorded(run, root / run.path)]
    folders = Folders(root, checkpoints_dir() if resume else None, weights)
    _make(todo, folders, device, jobs, threads, backend, grid.experiment if progress else "")
    records = [read_record(root / run.path) for run in grid.runs]
    if stale := sum(record["numerics"] != NUMERICS for record in records):
        print(f"{stale} of {len(records)} runs were recorded with other numerics and stay as they are.", flush=True)
    return records


def run_anew(grid: Grid, *, device: str = "cpu") -> list[Record]:
    """Make every run of the grid from its start, recorded or not, and return the records without keeping them."""
    with tempfile.TemporaryDirectory() as folder:
        new = Path(folder)
        return run_grid(grid, device=device, root=new, progress=False, resume=False, weights=new / "weights")


def ensure_weights(
    runs: Iterable[Run], *, device: str = "cpu", jobs: int | None = None, root: Path | None = None
) -> None:
    """Make those runs again whose weights are not in the cache; their records stay as they are."""
    missing = [dataclasses.replace(run, keep=True) for run in runs if not weights_path(run).exists()]
    _make(missing, Folders(root or records_dir(), checkpoints_dir()), device, jobs, 1, "loky", "weights")


@dataclass(frozen=True)
class Folders:
    """Where records, checkpoints (None: none are kept) and weights (None: the cache) are."""

    records: Path
    checkpoints: Path | None = None
    weights: Path | None = None


def _generations(todo: list[Run], weights: Path | None) -> list[list[Run]]:
    """Return the runs, and those whose weights they lack, in groups: each group starts from what is before it."""
    wanted = {run.path: run for run in todo}
    waiting = list(todo)
    while waiting:
        for parent in waiting.pop().parents:
            if parent.path in wanted:
                wanted[parent.path] = dataclasses.replace(wanted[parent.path], keep=True)
            elif not weights_path(parent, weights).exists():
                wanted[parent.path] = dataclasses.replace(parent, keep=True)
                waiting.append(parent)
    generations = {run.generation for run in wanted.values()}
    return [[run for run in wanted.values() if run.generation == one] for one in sorted(generations)]


def _make(
    todo: list[Run], folders: Folders, device: str, jobs: int | None, threads: int, backend: str, title: str
) -> None:
    """Make the runs and those that they start from; with a title, tell the progress."""
    if jobs is None:
        jobs = 1 if device.startswith("cuda") else max(1, jobs_at_once() // threads)
    groups = _generations(todo, folders.weights)
    finished, done = 0, progress_lines(sum(map(len, groups)), title)
    for runs in groups:
        _execute(runs, folders, device, jobs, threads, backend, partial(_forward, done, finished))
        finished += len(runs)


def _forward(done: Callable[[int], None], before: int, count: int) -> None:
    done(before + count)


def _execute(
    todo: list[Run],
    folders: Folders,
    device: str,
    jobs: int,
    threads: int,
    backend: str,
    done: Callable[[int], None],
) -> None:
    """Make the runs, here or side by side; tell `done` how many are finished."""
    if jobs == 1:
        for count, run in enumerate(todo, start=1):
            record_run(run, folders, device, threads)
            done(count)
        return
    if device.startswith("cuda"):
        for count, (run, record) in enumerate(interleaved(todo, device, jobs, threads, folders), start=1):
            write_record(folders.records / run.path, record)
            done(count)
        return
    from joblib import Parallel, delayed
    from joblib.externals.loky.process_executor import TerminatedWorkerError

    class Pool(Parallel):  # type: ignore[misc]
        def print_progress(self) -> None:  # joblib calls it after every task, whatever the backend
            done(self.n_completed_tasks)

    own = own_entries({one.model for run in todo for one in run.lineage})
    try:
        Pool(n_jobs=jobs, backend=backend)(delayed(_record_with)(own, run, folders, device, threads) for run in todo)
    except TerminatedWorkerError as error:
        raise DeviceError(
            f"The system ended a process that made runs, most often for want of memory with {jobs} side by side. "
            f"Set {JOBS} lower, or lower batch_size or embedding_dim. Finished runs are kept."
        ) from error


def _record_with(own: Mapping[str, ModelEntry], run: Run, folders: Folders, device: str, threads: int) -> Path:
    """Make one run in another process, which is given the systems that are not ctrlib's."""
    for name, entry in own.items():
        MODELS.setdefault(name, entry)
    return record_run(run, folders, device, threads)


def interleaved(
    runs: Iterable[Run], device: str, jobs: int, threads: int = 1, folders: Folders | None = None
) -> Iterator[tuple[Run, Record]]:
    """Make `jobs` runs at a time in this process and yield each one with its record as it ends.

    Each run has a stream of its own. While the processor waits for the results of one run's epoch, the device works
    on the epochs of the others.
    """
    waiting = iter(runs)
    checkpoints, weights = (folders.checkpoints, folders.weights) if folders else (None, None)
    problem: CtrlibError | None = None
    active: list[tuple[Run, Generator[None, None, Record], AbstractContextManager[Any]]] = []
    while True:
        for run in itertools.islice(waiting, 0 if problem else jobs - len(active)):
            epochs = record_epochs(run, device=device, threads=threads, checkpoints=checkpoints, weights=weights)
            active.append((run, epochs, _stream(device)))
        if not active and problem:
            raise problem
        if not active:
            return
        for entry in list(active):
            run, epochs, stream = entry
            try:
                with stream:
                    next(epochs)
            except StopIteration as end:
                active.remove(entry)
                yield run, end.value
            except (DataError, DeviceError) as error:  # of this run alone: the others go on to their records
                active.remove(entry)
                problem = problem or error


def _stream(device: str) -> AbstractContextManager[Any]:
    """Return a context that can be entered again and again: a new stream of a GPU, or nothing on a CPU."""
    if not device.startswith("cuda"):
        return nullcontext()
    import torch

    return torch.cuda.stream(torch.cuda.Stream(device))


def record_run(run: Run, folders: Folders, device: str = "cpu", threads: int = 1) -> Path:
    """Make one run, write its record, and return the record's path. A record that is there is never replaced."""
    path = folders.records / run.path
    if not path.exists() or (run.keep and not weights_path(run, folders.weights).exists()):
        record = make_record(
            run, device=device, threads=threads, checkpoints=folders.checkpoints, weights=folders.weights
        )
        write_record(path, record)
    return path


def _check(grid: Grid) -> None:
    """Fail before the first run when a model, a setting or a data set does not exist."""
    seen: dict[Path, Run] = {}
    for run in grid.runs:
        if run.model not in MODELS:
            raise unknown("model", run.model, MODELS)
        run.full_settings  # noqa: B018  raises for a setting that does not exist
        if run.dataset not in DATASETS:
            raise unknown("data set", run.dataset, DATASETS)
        if VARIED[run.vary][2] and not DATASETS[run.dataset].random_split:
            raise SettingError(f"The split of {run.dataset} is published: no run there can vary it ({run.label}).")
        if run.path in seen:
            raise SettingError(f"The grid holds the same run twice: {run.path}. Give each cell its own label.")
        seen[run.path] = run


def _recorded(run: Run, path: Path) -> bool:
    if not path.exists():
        return False
    try:
        _check_record(run, read_record(path), path)
        return True
    except RecordError as error:
        print(f"{error}\nIt is kept as {set_aside(path).name}; the run is made anew.", flush=True)
        return False
    return True


def _check_record(run: Run, record: Record, path: Path) -> None:
    """Raise `SettingError` when the record under this run's name was made with other settings."""
    wanted = {"settings": run.full_settings, "protocol": run.protocol.to_dict(), "model": run.model}
    # A record from before a setting existed was made with what is now the setting's default.
    recorded = record | {"settings": run.default_settings | record["settings"]}
    recorded["protocol"] = Protocol().to_dict() | record["protocol"]
    for name, value in wanted.items():
        if recorded[name] != value:
            raise SettingError(f"{path} was recorded with another {name}: {record[name]}, wanted {value}.")


def progress_lines(total: int, title: str, now: Callable[[], float] = time.monotonic) -> Callable[[int], None]:
    """Return a function that is told how many of `total` runs are finished, and prints it with the time left.

    Plain lines: they look the same on a terminal, in a notebook and in the output of one that papermill executes. There
    is one at the start, at the end, and at most `LINES` between; with no title, or nothing to do, there is none. now:
    the clock (s).
    """
    if not title or not total:
        return lambda count: None
    start = now()
    told, at = 0, start
    print(f"{title}: 0 of {total} runs", flush=True)

    def done(count: int) -> None:
        nonlocal told, at
        moment = now()
        soon = moment - at < SECONDS_APART or (count - told) * LINES < total
        if count <= told or (soon and count < total):
            return
        told, at = count, moment
        left = (moment - start) / count * (total - count)
        print(f"{title}: {count} of {total} runs, {_told_time(left) if left else 'done'}", flush=True)

    return done


def _told_time(seconds: float) -> str:
    if seconds < 60:
        return "less than a minute left"
    minutes = seconds / 60
    return f"about {minutes:.0f} min left" if minutes < 90 else f"about {minutes / 60:.1f} h left"
