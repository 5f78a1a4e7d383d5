"""Grids of runs: what is recorded is skipped, what was cut off goes on, what fails is kept."""

from __future__ import annotations

import itertools
import os
import tempfile
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from ctrlib.data import DATASETS
from ctrlib.errors import CtrlibError, DataError, DeviceError, RecordError, SettingError, unknown
from ctrlib.lab.records import Record, read_record, set_aside, write_record
from ctrlib.lab.run import Run
from ctrlib.lab.runner import checkpoints_dir, make_record, record_epochs
from ctrlib.models import MODELS
from ctrlib.paths import records_dir
from ctrlib.train import Protocol

Cell = tuple[str, Mapping[str, Any]]


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
    ) -> Grid:
        """Add every cell (label -> model and settings) with every seed, seed by seed; return the grid.

        A cell's embedding_dim is the protocol's unless it names its own.
        """
        for seed in seeds:
            for label, (model, settings) in cells.items():
                full = {"embedding_dim": protocol.embedding_dim} | dict(settings)
                self.runs.append(Run(self.experiment, dataset, label, model, full, protocol, seed, rows))
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
) -> list[Record]:
    """Make every run that is not recorded yet and return the records of all runs of the grid.

    jobs: runs side by side; by default one for each core on a CPU, since these runs are small and one thread
    each is faster than all cores for one, and one on a GPU. Several on a GPU share it as streams of one process, an
    epoch of each in turn, and give the same bits as alone. backend: any of joblib's, so a Ray or Dask cluster
    works. resume: go on from the checkpoint of a run that was cut off. Finished runs stay when the grid is
    interrupted. A failed run is recorded as such and not tried again;
    a damaged record is set aside under another name and its run made anew. Raises `SettingError` before the first
    run for a model or setting that does not exist.
    """
    root = root or records_dir()
    _check(grid)
    todo = [run for run in grid.runs if not _recorded(run, root / run.path)]
    if jobs is None:
        jobs = 1 if device.startswith("cuda") else max(1, (os.cpu_count() or 1) // threads)
    with _bar(len(todo), grid.experiment, progress) as done:
        _execute(todo, root, device, jobs, threads, backend, checkpoints_dir() if resume else None, done)
    return [read_record(root / run.path) for run in grid.runs]


def run_anew(grid: Grid, *, device: str = "cpu") -> list[Record]:
    """Make every run of the grid from its start, recorded or not, and return the records without keeping them."""
    with tempfile.TemporaryDirectory() as folder:
        return run_grid(grid, device=device, root=Path(folder), progress=False, resume=False)


def _execute(
    todo: list[Run],
    root: Path,
    device: str,
    jobs: int,
    threads: int,
    backend: str,
    checkpoints: Path | None,
    done: Callable[[int], None],
) -> None:
    """Make the runs, here or side by side; tell `done` how many are finished."""
    if jobs == 1:
        for count, run in enumerate(todo, start=1):
            record_run(run, root, device, threads, checkpoints)
            done(count)
        return
    if device.startswith("cuda"):
        for count, (run, record) in enumerate(interleaved(todo, device, jobs, threads, checkpoints), start=1):
            write_record(root / run.path, record)
            done(count)
        return
    from joblib import Parallel, delayed

    class Pool(Parallel):  # type: ignore[misc]
        def print_progress(self) -> None:  # joblib calls it after every task, whatever the backend
            done(self.n_completed_tasks)

    Pool(n_jobs=jobs, backend=backend)(delayed(record_run)(run, root, device, threads, checkpoints) for run in todo)


def interleaved(
    runs: Iterable[Run], device: str, jobs: int, threads: int = 1, checkpoints: Path | None = None
) -> Iterator[tuple[Run, Record]]:
    """Make `jobs` runs at a time in this process and yield each one with its record as it ends.

    Each run has a stream of its own. While the processor waits for the results of one run's epoch, the device works
    on the epochs of the others.
    """
    waiting = iter(runs)
    problem: CtrlibError | None = None
    active: list[tuple[Run, Generator[None, None, Record], AbstractContextManager[Any]]] = []
    while True:
        for run in itertools.islice(waiting, 0 if problem else jobs - len(active)):
            epochs = record_epochs(run, device=device, threads=threads, checkpoints=checkpoints)
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


def record_run(
    run: Run, root: Path, device: str = "cpu", threads: int = 1, checkpoints: Path | None = None
) -> Path:
    """Make one run, write its record under `root`, and return the record's path."""
    path = root / run.path
    if not path.exists():
        write_record(path, make_record(run, device=device, threads=threads, checkpoints=checkpoints))
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


@contextmanager
def _bar(total: int, title: str, progress: bool) -> Iterator[Callable[[int], None]]:
    """Yield a function that sets a progress bar; without tqdm, or on request, it does nothing."""
    if not progress or not total or find_spec("tqdm") is None:
        yield lambda count: None
        return
    from tqdm.auto import tqdm

    with tqdm(total=total, desc=title, unit="run") as bar:

        def done(count: int) -> None:
            bar.update(count - bar.n)

        yield done
