"""Runs the commands `up`, `config`, `status`, `scale` and `down`."""

import argparse
import json
from pathlib import Path

from stream.errors import UserError


def up_command(arguments: list[str]) -> int:
    """Run a recipe to its end."""
    from stream.console import make_console

    if {"-h", "--help"} & set(arguments):
        from stream.config import help_text

        print(help_text("rucksack up CONFIG [--web]"))
        return 0
    web = "--web" in arguments  # the page of `rucksack watch`, beside the run
    arguments = [argument for argument in arguments if argument != "--web"]
    if not arguments or arguments[0].startswith("-"):
        raise UserError(
            "no recipe given; usage: rucksack up CONFIG [--web] [--table.key VALUE ...], e.g. configs/demo.toml"
        )
    from infra.up import up

    return up(Path(arguments[0]), arguments[1:], make_console(), web=web)


def doctor_command(arguments: list[str]) -> int:
    """Look at the machine, and at a recipe, before a run does."""
    from infra.doctor import doctor
    from infra.gpus import imagined
    from stream.console import make_console

    parser = argparse.ArgumentParser(
        prog="rucksack doctor",
        description="Check this machine and, where a recipe is given, its memory plan, disk, ports and prompts. Exit code 1 if "
        "something is wrong.",
    )
    parser.add_argument("config", nargs="?", type=Path, metavar="CONFIG", help="a recipe, e.g. configs/demo.toml")
    parser.add_argument("--gpus", metavar="NxGIB", help="plan for GPUs that are not here, e.g. 8x80")
    options, overrides = parser.parse_known_args(arguments)
    if overrides and options.config is None:
        raise UserError(
            f"got {overrides[0]!r} without a recipe; usage: rucksack doctor [CONFIG] [--table.key VALUE ...]"
        )
    return doctor(options.config, overrides, imagined(options.gpus) if options.gpus else None, make_console())


def config_command(arguments: list[str]) -> int:
    """Print a recipe's keys, one a line, values as in JSON; passwords are left out."""
    from infra.run_folder import flattened
    from stream.config import help_text, load

    if {"-h", "--help"} & set(arguments):
        print(help_text("rucksack config CONFIG"))
        return 0
    if not arguments or arguments[0].startswith("-"):
        raise UserError(
            "no recipe given; usage: rucksack config CONFIG [--table.key VALUE ...], e.g. configs/demo.toml"
        )
    for key, value in flattened(load(arguments[0], arguments[1:]).model_dump(mode="json")).items():
        print(f"{key} = {json.dumps(value)}")
    return 0


# -- a run that is up -------------------------------------------------------------------------------------------------


def status_command(arguments: list[str]) -> int:
    """Print a run's figures and workers."""
    from rich.table import Table

    from infra.control import ask
    from stream.console import make_console

    parser = _run_parser("status", "Show how a run that is up is doing.")
    parser.add_argument("--json", action="store_true", help="print JSON instead of tables")
    options = parser.parse_args(arguments)
    reply = ask(_folder(options), {"command": "status"})
    if options.json:
        print(json.dumps(reply, indent=2))
        return 0
    console = make_console()
    figures = Table(show_header=False, title=f"Run {reply['status']['run']}", title_justify="left")
    for key, value in reply["status"].items():
        figures.add_row(key.replace("_", " "), _figure(value))
    workers = Table(title="Workers", title_justify="left")
    for column in ("name", "state", "pid", "uptime_s", "restarts"):
        workers.add_column(column, justify="left" if column in ("name", "state") else "right")
    for row in reply["workers"]:
        workers.add_row(
            row["name"], row["state"], str(row["pid"] or "-"), f"{row['uptime_s']:.0f}", str(row["restarts"])
        )
    console.print(figures)
    console.print(workers)
    return 0


def _figure(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {number:,}" for name, number in value.items()) or "-"
    if isinstance(value, list):
        return "; ".join(map(str, value)) or "-"
    return f"{value:,.3f}" if isinstance(value, float) else "-" if value is None else str(value)


def scale_command(arguments: list[str]) -> int:
    """Start or stop workers of a run that is up."""
    from infra.control import ask

    parser = _run_parser("scale", "Change the number of producers or verifiers of a run that is up.", changes=True)
    options = parser.parse_args(arguments)
    for change in options.changes:
        role, _, number = change.partition("=")
        if not number.isdecimal():
            raise UserError(f"got {change!r}; want ROLE=NUMBER, e.g. producers=2")
        reply = ask(_folder(options), {"command": "scale", "role": role, "replicas": int(number)})
        print(f"{reply['role']}s: {reply['before']} -> {reply['replicas']}")
    return 0


def down_command(arguments: list[str]) -> int:
    """Stop a run and wait until it is over."""
    from infra.control import ask
    from infra.run_folder import await_release

    options = _run_parser("down", "Stop a run that is up; `rucksack up` with the same recipe resumes it.").parse_args(
        arguments
    )
    folder = _folder(options)
    reply = ask(folder, {"command": "down"})
    await_release(folder)
    print(f"run {reply['stopping']} stopped; `rucksack up` with the same recipe resumes it")
    return 0


def _run_parser(name: str, text: str, changes: bool = False) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=f"rucksack {name}", description=text)
    run_help = "name of a run, or path of its folder (default: the one that is up)"
    if changes:
        parser.add_argument("changes", nargs="+", metavar="ROLE=NUMBER", help="producers=2, verifiers=4")
        parser.add_argument("--run", metavar="RUN", help=run_help)
    else:
        parser.add_argument("run", nargs="?", metavar="RUN", help=run_help)
    parser.add_argument("--dir", type=Path, default=Path("runs"), help="folder that holds the runs (default: runs)")
    return parser


def _folder(options: argparse.Namespace) -> Path:
    """The folder of the run that is meant."""
    from infra.control import SOCKET_FILE, is_up

    if options.run:
        named: Path = options.dir / options.run
        return named if named.is_dir() or not Path(options.run).is_dir() else Path(options.run)
    up: list[Path] = sorted(file.parent for file in options.dir.glob(f"*/{SOCKET_FILE}") if is_up(file.parent))
    if len(up) == 1:
        return up[0]
    names = ", ".join(folder.name for folder in up)
    raise UserError(
        f"{len(up)} runs are up in {options.dir} ({names}); say which"
        if up
        else f"no run is up in {options.dir}; start one with `rucksack up CONFIG`, or say where with --dir"
    )
