"""The command `ctrlib`."""

from __future__ import annotations

import argparse
import ast
import json
import os
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ctrlib
from ctrlib.data import CTRDataset, Field
from ctrlib.errors import CtrlibError, RecordError, SettingError, advice, unknown

PROFILES = ("smoke", "quick", "paper")
FIELDS = (
    "columns of the table to learn from; a name alone is categorical, price=quantile:20 or age=decade a number; "
    "a name with a comma or an equals sign stands in double quotes"
)
# A field of --fields and the comma behind it: a name, in double quotes or without comma and equals sign, and a rule.
FIELD = re.compile(r'\s*(?:"(?P<quoted>[^"]+)"|(?P<name>[^",=\s][^,=]*?))\s*(?:=\s*(?P<rule>[^,]*?)\s*)?,')
STARTS = "weights to start from: those of the stage before for DS-MLP, those of every teacher for ECKD"


def main(arguments: list[str] | None = None) -> int:
    """Run a command; return its exit status. Errors of ctrlib and of the disk are printed without a traceback."""
    options = parser().parse_args(arguments)
    command: Callable[[argparse.Namespace], int] = options.command
    try:
        return command(options)
    except CtrlibError as error:
        print(f"ctrlib: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nctrlib: interrupted. What is recorded or saved stays; the next start goes on.", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader of the output, such as head, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python complains when it flushes
        return 1
    except OSError as error:
        print(f"ctrlib: {error.filename or 'A file'}: {advice(error)}", file=sys.stderr)
        return 1


def parser() -> argparse.ArgumentParser:
    """Return the parser with all commands."""
    top = argparse.ArgumentParser(prog="ctrlib", description="Reproduce two papers on click-through-rate prediction.")
    top.add_argument("--version", action="version", version=f"ctrlib {ctrlib.__version__}")
    commands = top.add_subparsers(required=True, metavar="COMMAND")

    data = commands.add_parser("data", help="list the data sets, or fetch and encode some")
    data.add_argument("names", nargs="*", metavar="NAME", help="a data set of the list; without one, the list")
    data.set_defaults(command=run_data)

    fit = commands.add_parser("fit", help="train one model, on a data set or on a table of your own")
    fit.add_argument("model", help="for example QNN-alpha, DNN or T9; a wrong name lists all")
    data_of = fit.add_mutually_exclusive_group()
    data_of.add_argument("--dataset", default="ml-100k", help="a name that ctrlib data lists (ml-100k)")
    data_of.add_argument("--table", type=Path, help="a CSV, TSV or Parquet file of your own, in place of --dataset")
    fit.add_argument("--label", help="the table's column of 0 and 1 (label)")
    fit.add_argument("--fields", metavar="NAME,NAME", help=FIELDS)
    fit.add_argument("--preset", default="qnn", help="of the protocol: qnn (the default) or bars")
    fit.add_argument("--seed", type=int, default=1, help="of initial values, batches and dropout (1)")
    fit.add_argument("--device", default="cpu", help="cpu (the default) or cuda")
    several: dict[str, Any] = {"action": "extend", "default": []}  # an option that is given twice adds to the first
    fit.add_argument("--set", nargs="*", metavar="NAME=VALUE", help="model settings, such as layers=2", **several)
    fit.add_argument("--start", type=Path, nargs="+", metavar="FILE", help=STARTS, **several)
    fit.add_argument("--save", type=Path, metavar="FILE", help="leave the weights here; a run cut off goes on")
    protocol_help = "protocol settings, such as max_epochs=5"
    fit.add_argument("--protocol", nargs="*", metavar="NAME=VALUE", help=protocol_help, **several)
    fit.set_defaults(command=run_fit)

    scored = commands.add_parser("predict", help="click probabilities for the rows of a table")
    scored.add_argument("weights", type=Path, help="what fit --table ... --save or CTRClassifier.save left")
    scored.add_argument("table", type=Path, help="a CSV, TSV or Parquet file with the columns of the training")
    scored.add_argument("--out", type=Path, metavar="FILE", help="write the table here as CSV, with the probabilities")
    scored.add_argument("--device", default="cpu", help="cpu (the default) or cuda")
    scored.set_defaults(command=run_predict)

    run = commands.add_parser("run", help="execute a chapter, write its run records and compare them with those stored")
    run.add_argument("chapter", help="its experiment, file or number, for example qnn-alpha, 05_qnn_alpha or 5")
    run.add_argument("--profile", default="paper", help=", ".join(PROFILES))
    run.add_argument("--device", default="cpu")
    run.add_argument("--dataset", default="", metavar="NAME", help="profile paper: the full grid on this one alone")
    run.add_argument(
        "--records",
        nargs="?",
        type=Path,
        const=Path(),
        metavar="FOLDER",
        help="make all runs anew in a folder of your own (build/rerun) and leave the recorded ones alone",
    )
    run.set_defaults(command=run_experiment)

    book = commands.add_parser("book", help="execute the chapters and render the book")
    book.add_argument("--profile", default="quick", help=", ".join(PROFILES))
    book.add_argument("--only", nargs="*", metavar="PAGE", help="execute these pages alone; without a name, none")
    book.add_argument("--fresh", action="store_true", help="execute unchanged pages too")
    book.add_argument("--out", type=Path)
    book.add_argument("--pair", action="store_true", help="only write the paired notebooks anew")
    book.set_defaults(command=run_book)

    records = commands.add_parser("records", help="count the run records, or repeat some of them")
    records.add_argument("action", choices=["list", "verify"], nargs="?", default="list")
    records.add_argument("count", type=int, nargs="?", default=1, help="runs to repeat")
    records.add_argument("--experiment")
    records.add_argument("--draw", type=int, help="fixes which runs are drawn")
    records.add_argument("--device", default="cpu")
    records.add_argument("--threads", type=int, default=1)
    records.set_defaults(command=run_records)

    claims = commands.add_parser("claims", help="print the verdicts on an experiment's claims")
    claims.add_argument("experiment", nargs="?", default="activation")
    claims.add_argument("--dataset", default="ml-100k")
    claims.set_defaults(command=run_claims)

    bench = commands.add_parser(
        "bench", help="measure speed: steps, epochs, peers, latency, encode, the ladder from a plain loop, or the book"
    )
    bench.add_argument("what", choices=["steps", "epochs", "peers", "ladder", "latency", "encode", "book"])
    bench.add_argument(
        "names", nargs="*", help="groups of steps, of epochs or of latency, or systems for the peers; else all"
    )
    bench.add_argument("--repeats", type=int, default=5)
    bench.add_argument("--threads", type=int)
    bench.add_argument("--device", default="cpu", help="for steps, epochs, peers and latency")
    bench.add_argument("--dataset", default="frappe_x1-rebuilt", help="for peers, and for epochs of several seeds")
    bench.add_argument("--rows", type=int, help="for encode (5,000,000), and for epochs in Criteo's shape (all)")
    bench.add_argument("--peer-python", type=Path, help="for peers: a Python that has FuxiCTR 2.3.10")
    bench.set_defaults(command=run_bench)

    doctor = commands.add_parser("doctor", help="say what is installed and where files are looked for")
    doctor.set_defaults(command=run_doctor)
    return top


def settings(pairs: list[str], *others: str) -> dict[str, Any]:
    """Return {"layers": 2} for ["layers=2"].

    Raises `SettingError` for a word without "=", and for a name in `others`, which is given in another way.
    """
    values = {}
    for pair in pairs:
        name, sign, text = pair.partition("=")
        if not sign:
            raise SettingError(f"'{pair}' is not a setting. Write NAME=VALUE, for example layers=2.")
        if name in others:
            raise SettingError(f"'{name}' is not set here; it is an argument or option of its own.")
        try:
            values[name] = ast.literal_eval(text)
        except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
            values[name] = text
    return values


def table_fields(text: str) -> list[str | Field]:
    """Return the fields for 'shop,price=quantile:20': a name alone is categorical, one with a rule numeric.

    A name that holds a comma or an equals sign stands in double quotes: '"price, net"=quantile:20'.
    Raises `SettingError` where a name is missing or a rule is unknown.
    """
    found: list[str | Field] = []
    place, whole = 0, f"{text},"
    while place < len(whole):
        part = FIELD.match(whole, place)
        if not part:
            raise SettingError(
                f"--fields is '{text}'; it needs a name between two commas, such as shop,hour. A name that holds a "
                "comma or an equals sign stands in double quotes, as in '\"price, net\"=log2,shop'."
            )
        name = part["quoted"] or part["name"]
        found.append(name if part["rule"] is None else Field(name, kind="numeric", buckets=part["rule"]))
        place = part.end()
    return found


def checked_profile(profile: str) -> str:
    """Return the profile; raise `SettingError` for an unknown one."""
    if profile not in PROFILES:
        raise unknown("profile", profile, PROFILES)
    return profile


def run_data(options: argparse.Namespace) -> int:
    """List the data sets, or fetch and encode those named."""
    from ctrlib.data import DATASETS, load_dataset

    if not options.names:
        width = max(map(len, DATASETS))
        for name, card in DATASETS.items():
            print(f"{name:{width}}  {card.title}")
    for name in options.names:
        data = load_dataset(name)
        rows = ", ".join(f"{split} {count:,}" for split, count in data.rows.items())
        print(f"{name}: {rows} rows, {data.schema.table_rows:,} table rows, fingerprint {data.fingerprint}")
    return 0


def run_fit(options: argparse.Namespace) -> int:
    """Train one model and print its epochs and scores."""
    from ctrlib import ds_mlp, eckd
    from ctrlib.classifier import with_enough_steps
    from ctrlib.data import load_dataset, load_table, table_encoder
    from ctrlib.models import MODELS, build_model
    from ctrlib.train import NUMERICS, Protocol, fit, read_weights, save_weights
    from ctrlib.train.fit import checked_device, out_of_memory_explained
    from ctrlib.train.weights import ENCODER

    checked_device(options.device)  # before data are read
    if not options.table and (options.fields or options.label):
        raise SettingError("--fields and --label belong to --table, a file of your own; a data set brings its own.")
    if options.save and options.save.resolve() in [path.resolve() for path in options.start]:
        raise SettingError(f"--save {options.save} would replace the weights to start from. Name another file.")
    name = "table" if options.table else options.dataset
    chosen = settings(options.set, "name", "schema", "seed")
    if options.model not in MODELS:
        raise unknown("model", options.model, MODELS)
    changes = settings(options.protocol, "preset", "dataset")
    protocol = Protocol.named(options.preset, name, **changes)
    if options.table:
        if not options.fields:
            raise SettingError("--table needs --fields, the comma-separated columns to use.")
        fields, label = table_fields(options.fields), options.label or "label"
        data = load_table(options.table, label=label, fields=fields, min_count=protocol.min_count)
        if "batch_size" not in changes:
            protocol = with_enough_steps(protocol, len(data.train))
    else:
        data = load_dataset(options.dataset, min_count=protocol.min_count)
    for split in ("valid", "test"):
        for field, count in data.notes["oov"][split].items():
            if count > data.rows[split] / 2:
                print(f"{count:,} values of '{field}' in {data.rows[split]:,} {split} rows were not seen in training.")
    origins = [read_weights(path, data) for path in options.start]
    values = {"embedding_dim": protocol.embedding_dim}
    if origins and options.model == eckd.NAME:
        values |= eckd.next_settings(origins)
    elif len(origins) > 1:
        raise SettingError(f"{options.model} starts from one file; only {eckd.NAME} learns from several teachers.")
    elif origins and options.model == "DS-MLP":
        values |= ds_mlp.next_settings(origins[0])
    values |= chosen
    with out_of_memory_explained():
        model = build_model(options.model, data.schema, seed=options.seed, **values)
    for origin in origins:
        model.start_from(origin)
    size = f"{model.num_parameters:,} parameters, batches of {protocol.batch_size:,} rows"
    print(f"{options.model} on {data.name}: {size}", flush=True)

    def report(epoch: Any) -> None:
        print(
            f"epoch {epoch.epoch:3d}  loss {epoch.train_loss:.4f}  valid AUC {epoch.valid_auc:.4f}  "
            f"logloss {epoch.valid_logloss:.4f}  {epoch.train_seconds + epoch.evaluate_seconds:.1f} s",
            flush=True,
        )

    checkpoint, identity = None, {}
    start = ", ".join(map(str, options.start)) or None
    if options.save:
        checkpoint = options.save.with_name(f"{options.save.name}.checkpoint")
        identity = {"model": options.model, "settings": values, "protocol": protocol.to_dict(), "seed": options.seed}
        identity |= {"start": str(start), "fingerprint": data.fingerprint, "numerics": NUMERICS}
    result = fit(
        model,
        data,
        protocol,
        seed=options.seed,
        device=options.device,
        checkpoint_path=checkpoint,
        identity=identity,
        on_epoch=report,
    )
    if checkpoint:
        about = {"seed": options.seed, "valid": result.valid.to_dict(), "test": result.test.to_dict()}
        if options.table:
            taught = table_encoder(options.table, label=label, fields=fields, min_count=protocol.min_count)
            about[ENCODER] = taught.to_dict()
        save_weights(options.save, model, data, parent=start, **about)
        checkpoint.unlink(missing_ok=True)
        print(f"weights in {options.save}")
    print(f"best epoch {result.best_epoch}: test AUC {result.test.auc:.4f}, logloss {result.test.logloss:.4f}")
    rate, constant = rate_alone(data)
    if result.test.logloss >= constant:
        print(
            f"Warning: these probabilities are no better than one number for all rows: {rate:.1%}, the click rate of "
            f"the training rows, gives a test logloss of {constant:.4f}. The model may have trained too briefly (give "
            "--protocol a larger max_epochs or learning_rate), it may know the training rows by heart (give "
            "embedding_regularizer=0.01 or more), or the fields tell nothing of the clicks."
        )
    return 0


def rate_alone(data: CTRDataset) -> tuple[float, float]:
    """Return the click rate of the training rows, and the test logloss (nats) of announcing it for every row."""
    import torch

    from ctrlib.train.metrics import logloss

    rate = data.train.labels.double().mean()
    return float(rate), logloss(torch.logit(rate).expand(len(data.test)), data.test.labels)


def run_predict(options: argparse.Namespace) -> int:
    """Print the click probability of each row, or write the table with them."""
    from ctrlib.data.read import read_table
    from ctrlib.errors import advice
    from ctrlib.paths import written_whole
    from ctrlib.scoring import PROBABILITY, score

    rows = read_table(options.table)
    if options.out and options.out.resolve() in (options.table.resolve(), options.weights.resolve()):
        raise SettingError(f"--out {options.out} is what is read here, and would be lost. Name another file.")
    if options.out and PROBABILITY in rows.columns:
        raise SettingError(f"{options.table} has a column '{PROBABILITY}' already. Rename it, or leave out --out.")
    found = score(options.weights, rows, options.device).round(6)
    if not options.out:
        print("\n".join(f"{value:.6f}" for value in found))
        return 0
    try:
        with written_whole(options.out) as partial:
            rows.assign(**{PROBABILITY: found}).to_csv(partial, index=False)
    except OSError as error:
        raise RecordError(f"Could not write {options.out}: {advice(error)}") from error
    print(f"{len(rows):,} rows with their {PROBABILITY} in {options.out}")
    return 0


def run_experiment(options: argparse.Namespace) -> int:
    """Execute a chapter in a profile, and judge the new runs by the recorded ones."""
    from ctrlib.book.rerun import OWN, rerun
    from ctrlib.paths import root
    from ctrlib.train.fit import checked_device

    checked_device(options.device)  # before a notebook starts
    own = options.records
    if own == Path():
        own = root() / OWN
    return rerun(options.chapter, checked_profile(options.profile), options.device, own, options.dataset)


def run_book(options: argparse.Namespace) -> int:
    """Build the book, or only pair the notebooks."""
    from ctrlib.book import builder

    if options.pair:
        builder.pair()
        return 0
    return builder.build(checked_profile(options.profile), options.only, options.out, fresh=options.fresh)


def run_records(options: argparse.Namespace) -> int:
    """Count the records, or repeat some."""
    from ctrlib.lab.experiments import experiment_named
    from ctrlib.lab.records import frame, load_records
    from ctrlib.lab.verify import verify

    options.experiment = experiment_named(options.experiment) if options.experiment else None
    if options.action == "verify":
        found = verify(
            options.count,
            experiment=options.experiment,
            draw=options.draw,
            device=options.device,
            threads=options.threads,
        )
        print("\n".join(map(str, found)))
        return 0 if all(one.agrees or one.absent for one in found) else 1
    table = frame(load_records(options.experiment))
    if table.empty:
        print("No records yet.")
        return 0
    counts = table.groupby(["experiment", "dataset", "numerics", "status"]).agg(
        runs=("seed", "size"), cells=("label", "nunique"), seeds=("seed", "nunique")
    )
    print(counts.to_string())
    return 0


def run_claims(options: argparse.Namespace) -> int:
    """Print the verdicts that records and measurements give."""
    from ctrlib.data import DATASETS
    from ctrlib.lab.claims import evaluate_claims
    from ctrlib.lab.experiments import experiment_named
    from ctrlib.lab.export import exported
    from ctrlib.views.ledger import judged_frames

    experiment = experiment_named(options.experiment)
    if experiment not in exported():
        raise RecordError(f"{experiment} leaves no run records; its chapter computes all that it shows.")
    frames = judged_frames(experiment)
    if options.dataset not in frames:
        if options.dataset not in DATASETS:
            raise unknown("data set", options.dataset, {*DATASETS, *frames})
        raise RecordError(
            f"No run of {experiment} on {options.dataset} is recorded. Make them: ctrlib run {experiment}."
        )
    verdicts = evaluate_claims(frames[options.dataset], experiment, options.dataset)
    for claim in verdicts.itertuples():
        print(f"{claim.verdict:40} {claim.id}\n    {claim.sentence}\n    {claim.compared}")
    return 0


def run_bench(options: argparse.Namespace) -> int:
    """Measure and print what was asked for; the figures go to data/measurements."""
    if options.what == "steps":
        from ctrlib.bench.steps import measure_steps

        found = measure_steps(options.names, options.repeats, options.threads, options.device)
    elif options.what == "peers":
        from ctrlib.bench.peers import measure_peers
        from ctrlib.bench.systems import SYSTEMS

        names = options.names or list(SYSTEMS)
        found = measure_peers(
            names, options.dataset, options.repeats, options.threads, options.peer_python, options.device
        )
    elif options.what == "epochs":
        from ctrlib.bench.epochs import GROUPS, TRAINING_ROWS, measure_epochs

        found = measure_epochs(
            options.names or GROUPS,
            options.repeats,
            options.threads,
            options.device,
            rows=TRAINING_ROWS if options.rows is None else options.rows,
            dataset=options.dataset,
        )
    elif options.what == "latency":
        from ctrlib.bench import latency

        found = latency.measure_latency(
            options.repeats, options.threads, options.device, options.names or latency.GROUPS
        )
    elif options.what == "encode":
        from ctrlib.bench.encode import measure_encode

        rows = 5_000_000 if options.rows is None else options.rows
        found = measure_encode(rows, options.repeats, options.threads)
    elif options.what == "book":
        from ctrlib.book.measure import measure_book

        found = measure_book(options.repeats, options.threads)
    else:
        from ctrlib.bench.ladder import measure_ladder

        found = measure_ladder(options.repeats, options.threads)
    print(json.dumps(found, indent=1))
    return 0


def run_doctor(options: argparse.Namespace) -> int:
    """Print versions, devices and folders."""
    import torch

    from ctrlib import paths
    from ctrlib.lab.runner import environment

    cuda = torch.cuda.is_available()
    print(json.dumps(environment("cuda" if cuda else "cpu", torch.get_num_threads()), indent=1))
    print(f"GPU: {'yes' if cuda else 'none, everything runs on the CPU'}")
    print(f"CTRLIB_DATA: {os.environ.get('CTRLIB_DATA', 'not set')}")
    for name in ("root", "records_dir", "cache_dir"):
        print(f"{name}: {getattr(paths, name)()}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
