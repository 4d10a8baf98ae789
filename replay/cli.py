"""Runs the commands that read a run back: `rucksack replay report|export|summary|audit|beliefs|rescore|policy RUN`.

They read the topics alone, so they work while the run goes on, after it, and on another machine than it ran on.
"""

import argparse
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.table import Table

from replay.load import RunData, read_run
from replay.source import Location, open_run
from replay.summary import print_summary, summarize
from stream.console import make_console
from stream.errors import UserError

if TYPE_CHECKING:
    from replay.audit import Expected

EXAMPLE_QUERY = """SELECT prompt_level, count(*) AS rollouts, round(avg(reward), 3) AS reward
FROM '{folder}/verdicts.parquet'
WHERE counts AND purpose = 'train' AND outcome IN ('correct', 'wrong', 'unparsable')
GROUP BY prompt_level ORDER BY reward"""
"""A query for duckdb over the exported files; tests run it."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns 0, or 1 after an audit that found a fault."""
    arguments = parser().parse_args(argv)
    console = make_console()
    command: Callable[[argparse.Namespace, Console], int | None] = arguments.command
    return command(arguments, console) or 0


def _at_least(least: int) -> Callable[[str], int]:
    """What reads a whole number that is not below a bound."""

    def read(text: str) -> int:
        if not text.isdecimal() or int(text) < least:
            raise argparse.ArgumentTypeError(f"got {text!r}; want a whole number of at least {least}")
        return int(text)

    return read


def parser() -> argparse.ArgumentParser:
    """The command line."""
    top = argparse.ArgumentParser(prog="rucksack replay", description="Read a run back from its topics.")
    commands = top.add_subparsers(metavar="COMMAND", required=True)
    report = _command(commands, "report", report_run, "one HTML page: plots, tables, example groups")
    report.add_argument("--out", type=Path, help="file to write (default: report.html in the run's folder)")
    report.add_argument("--compare", nargs="+", default=[], metavar="RUN", help="other runs, side by side in the plots")
    export = _command(commands, "export", export_topics, "every topic but the weights as a Parquet file")
    export.add_argument("--out", type=Path, help="folder to write (default: export in the run's folder)")
    _command(commands, "summary", show_summary, "key figures, in the terminal")
    _command(commands, "audit", audit, "whether anything was lost, counted twice or cannot be had again")
    beliefs = _command(
        commands, "beliefs", compare_beliefs, "ways to believe in success rates, scored on a run's rewards"
    )
    beliefs.add_argument("--json", action="store_true", help="print the scores as JSON")
    rescore = _command(commands, "rescore", rescore_run, "grade every recorded trajectory with another grader")
    rescore.add_argument("--grader", required=True, metavar="NAME", help="see `rucksack verify --help`")
    rescore.add_argument(
        "--workers", type=_at_least(1), default=1, metavar="N", help="processes that grade (default: 1)"
    )
    rescore.add_argument(
        "--examples", type=_at_least(0), default=2, metavar="N", help="shown of each change (default: 2)"
    )
    rescore.add_argument("--out", type=Path, help="JSON file to write as well")
    policy = _command(commands, "policy", rebuild_policy, "the weights of a version, rebuilt from the log bit for bit")
    policy.add_argument("--version", type=int, required=True, metavar="V", help="policy version")
    policy.add_argument("--out", type=Path, required=True, help="folder to write")
    policy.add_argument("--model", type=Path, help="folder of the base model (default: the run's)")
    return top


def _command(
    commands: "argparse._SubParsersAction[argparse.ArgumentParser]",
    name: str,
    command: Callable[[argparse.Namespace, Console], int | None],
    text: str,
) -> argparse.ArgumentParser:
    subparser = commands.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".")
    subparser.set_defaults(command=command)
    add_location(subparser)
    return subparser


def add_location(subparser: argparse.ArgumentParser) -> None:
    """The arguments that say which run, and where it is."""
    subparser.add_argument("run", metavar="RUN", help="name of a run, or path of its folder")
    subparser.add_argument("--dir", type=Path, default=Path("runs"), help="folder that holds the runs (default: runs)")
    subparser.add_argument("--bootstrap-servers", default="", metavar="HOST:PORT", help="broker to read from")
    subparser.add_argument("--config", type=Path, help="recipe whose [broker] table tells how to reach the broker")


def report_run(arguments: argparse.Namespace, console: Console) -> None:
    """Write the report of a run, others beside it if asked for."""
    from replay.report import write_report

    location = location_of(arguments)
    runs = [_read(location, run, console) for run in (arguments.run, *arguments.compare)]
    if arguments.out:
        _open_for_writing(arguments.out)
    out = arguments.out or location.path_of(arguments.run) / "report.html"
    console.print(f"report: {escape(str(write_report(runs, out)))}", soft_wrap=True)


def show_summary(arguments: argparse.Namespace, console: Console) -> None:
    """Print the key figures of a run."""
    location = location_of(arguments)
    print_summary(summarize(_read(location, arguments.run, console), location.path_of(arguments.run)), console)


def audit(arguments: argparse.Namespace, console: Console) -> int:
    """Audit a run; returns 1 if something does not add up."""
    from replay.audit import audit_run, figures

    with open_run(location_of(arguments), arguments.run) as (broker, name, path):
        found = audit_run(broker, name, expected_of(path))
    table = Table(show_header=False, title=f"Run {escape(name)}: audit", title_justify="left")
    for row in figures(found):
        table.add_row(*row)
    console.print(table)
    for fault in found.faults:
        console.print(f"FAULT: {escape(fault)}", style="bold red", soft_wrap=True)
    if found.holds:
        console.print("nothing was lost, nothing was counted twice")
    return 0 if found.holds else 1


def compare_beliefs(arguments: argparse.Namespace, console: Console) -> None:
    """Score ways to believe on a run's rewards."""
    from replay.beliefs import as_json, compare, print_scores

    scores = compare(_read(location_of(arguments), arguments.run, console))
    if not scores:
        raise UserError(f"run {arguments.run} has no update with graded rollouts (yet): there is nothing to score")
    if arguments.json:
        print(as_json(scores))
    else:
        print_scores(escape(arguments.run), scores, console)


def export_topics(arguments: argparse.Namespace, console: Console) -> None:
    """Write every topic of a run to a Parquet file."""
    from replay.export import export_run

    location = location_of(arguments)
    with open_run(location, arguments.run) as (broker, name, path), _bar(console) as bar:
        out = arguments.out or path / "export"
        tasks: dict[str, TaskID] = {}

        def progress(topic: str, passed: int, total: int) -> None:
            if topic not in tasks:
                tasks[topic] = bar.add_task(topic, total=total)
            bar.update(tasks[topic], completed=passed, total=total)

        exported = export_run(broker, name, out, progress)
    table = Table(title=f"Run {escape(name)}: rows per topic", title_justify="left")
    table.add_column("topic")
    for column in ("rows", "that count", "unreadable"):
        table.add_column(column, justify="right")
    table.add_column("file", overflow="fold")
    for topic in exported:
        numbers = (f"{topic.num_rows:,}", f"{topic.num_counting:,}", f"{topic.num_unreadable:,}")
        table.add_row(topic.topic, *numbers, escape(str(topic.path)))
    console.print(table)
    console.print("Read them with duckdb, for example:\n\n" + escape(EXAMPLE_QUERY.format(folder=out)), soft_wrap=True)


def rescore_run(arguments: argparse.Namespace, console: Console) -> None:
    """Grade a run's trajectories again, into a topic of their own, and tell what changed."""
    from replay.rescore import print_rescored, rescore

    location = location_of(arguments)
    with open_run(location, arguments.run) as (broker, name, _path), _bar(console) as bar:
        if arguments.out:
            _open_for_writing(arguments.out)  # before hours of grading
        task = bar.add_task(f"grading {escape(name)}", total=None)
        result = rescore(
            broker,
            name,
            arguments.grader,
            workers=arguments.workers,
            num_examples=arguments.examples,
            progress=lambda passed, total: bar.update(task, completed=passed, total=total),
        )
    print_rescored(result, console)
    if arguments.out:
        arguments.out.write_text(json.dumps(result.as_json(), indent=2), encoding="utf-8")


def _open_for_writing(file: Path) -> None:
    """Make the file and its folder, or raise UserError."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.open("a").close()
    except OSError as error:
        raise UserError(
            f"--out {file} cannot be written ({error.strerror}); give a file in a folder of yours"
        ) from None


def rebuild_policy(arguments: argparse.Namespace, console: Console) -> None:
    """Write the weights of a version as a model folder."""
    from replay.policy import alpha_of, base_model, write_policy

    with open_run(location_of(arguments), arguments.run) as (broker, name, path):
        model = arguments.model or base_model(path)
        digest = write_policy(broker, name, arguments.version, model, arguments.out, alpha_of(path))
    console.print(f"version {arguments.version} of run {escape(name)}: {escape(str(arguments.out))}", soft_wrap=True)
    console.print(f"digest {digest}", soft_wrap=True)


def expected_of(folder: Path) -> "Expected":
    """What the run was to do, by the configuration in its folder; nothing is known without it."""
    from replay.audit import Expected
    from stream.config.run import RunTable

    file = folder / "config.json"
    if not file.is_file():
        return Expected()
    tables = json.loads(file.read_text())
    run, allocator = RunTable.model_validate(tables["run"]), tables["allocator"]
    exact = not allocator["budget_tokens"] and allocator["pacing"] == "round" and allocator["mode"] != "sequential"
    return Expected(num_updates=run.num_updates, num_rollouts=run.num_updates * run.budget if exact else None)


def location_of(arguments: argparse.Namespace) -> Location:
    """Where to look for the run."""
    if arguments.config is None:
        return Location(arguments.dir, arguments.bootstrap_servers)
    from stream.config import load

    broker = load(arguments.config).broker
    return Location(arguments.dir, arguments.bootstrap_servers or broker.bootstrap_servers, broker.settings)


def _read(location: Location, run: str, console: Console) -> RunData:
    with open_run(location, run) as (broker, name, _path), _bar(console) as bar:
        task = bar.add_task(f"reading {escape(name)}", total=None)
        return read_run(broker, name, lambda passed, total: bar.update(task, completed=passed, total=total))


@contextmanager
def _bar(console: Console) -> Iterator[Progress]:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        yield bar
