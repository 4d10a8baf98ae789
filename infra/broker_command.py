"""Runs `rucksack broker`: a local Kafka by itself, and what a run needs of any Kafka, its topics and access rights."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stream.errors import BrokerUnavailable, UserError

if TYPE_CHECKING:
    from localkafka.local import LocalKafka
    from stream.launch import Stop

ACLS_TEXT = """Print the kafka-acls.sh commands that let each role of a run do what it does, and nothing else. Roles, and their
topics, are those of docs/design.md. Beside them: `up` (`rucksack up`, `rucksack broker topics`), `replay` (reports, exports,
the page) and `scaler` (KEDA: reads how far behind a consumer group is)."""


def broker_command(arguments: list[str]) -> int:
    """Run one of its actions."""
    options = _parser().parse_args(arguments)
    code: int = options.run(options)
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="rucksack broker",
        description="A local Kafka broker by itself; a run's topics and access rights on any broker.",
    )
    actions = parser.add_subparsers(dest="action", required=True, metavar="{start,stop,topics,acls}")
    start = actions.add_parser("start", help="start a local Kafka broker that belongs to no run")
    start.add_argument("--nodes", type=int, default=1, choices=(1, 3), help="nodes of a new cluster (default: 1)")
    start.add_argument("--ports", type=_ports, help="client port of every node, comma between (default: free ones)")
    start.add_argument("--heap-mb", type=int, default=512, help="memory of a node's Java heap, MB (default: 512)")
    start.add_argument("--host", help="this machine's name for others, who may then do everything (default: 127.0.0.1)")
    start.add_argument(
        "--foreground", action="store_true", help="stay, and stop it on Ctrl-C or SIGTERM: for job schedulers"
    )
    start.add_argument(
        "--address-file", type=Path, help="write its address there while it is up: runs/NAME/broker.address"
    )
    start.set_defaults(run=_start)
    stop = actions.add_parser("stop", help="stop it")
    stop.set_defaults(run=_stop)
    for action in (start, stop):
        action.add_argument("--data-dir", type=Path, default=Path("broker"), help="what it keeps (default: broker)")
    topics = actions.add_parser("topics", help="create a run's topics where they do not exist")
    topics.add_argument("recipe", metavar="CONFIG", help="recipe of the run")
    topics.add_argument("overrides", nargs=argparse.REMAINDER, metavar="--table.key VALUE", help="as for `rucksack up`")
    topics.set_defaults(run=_topics)
    acls = actions.add_parser("acls", help="print the commands for a run's access rights", description=ACLS_TEXT)
    acls.add_argument("name", metavar="RUN", help="name of the run (run.name)")
    acls.add_argument(
        "--principal",
        default="User:{role}",
        help="who a role logs in as; {role} and {run} are put in (default: User:{role}); one without {role} may do all",
    )
    acls.add_argument("--role", action="append", help="only this role (may be repeated; default: all)")
    acls.add_argument("--bootstrap-servers", default="$BOOTSTRAP_SERVERS", help="put into the commands")
    acls.add_argument(
        "--command-config", default="admin.properties", help="the administrator's login, for kafka-acls.sh"
    )
    acls.add_argument(
        "--strimzi", metavar="CLUSTER", help="print KafkaUser objects of a Strimzi cluster instead, as YAML"
    )
    acls.set_defaults(run=_acls)
    return parser


def _ports(text: str) -> list[int]:
    try:
        return [int(port) for port in text.split(",")]
    except ValueError:
        raise argparse.ArgumentTypeError(f"got {text!r}; want port numbers with commas between, e.g. 9092") from None


def _start(options: argparse.Namespace) -> int:
    from localkafka.local import LocalKafka
    from localkafka.settings import HOST
    from stream.launch import stop_on_signals

    if options.host and options.nodes > 1:
        raise UserError(
            f"--nodes is {options.nodes} with --host {options.host}; want 1: the nodes of a local cluster talk on 127.0.0.1"
        )
    stop = stop_on_signals() if options.foreground else None
    detached = stop is None
    kafka = LocalKafka(options.data_dir, options.nodes, options.ports, options.heap_mb, detached, options.host or HOST)
    kafka.start()
    print(f"broker started, data in {options.data_dir}; bootstrap servers:\n{kafka.bootstrap_servers}", flush=True)
    if options.address_file:
        options.address_file.parent.mkdir(parents=True, exist_ok=True)
        options.address_file.write_text(kafka.bootstrap_servers)
    return 0 if stop is None else _stay(kafka, stop, options.address_file)


def _stay(kafka: "LocalKafka", stop: "Stop", address_file: Path | None) -> int:
    """Return once the broker was told to stop, or has died: whoever started this process starts it again."""
    try:
        while not stop.wait(1.0):
            if dead := kafka.dead_nodes():
                raise BrokerUnavailable(f"broker node {dead[0]} died; it says: {kafka.last_error(dead[0])}")
    finally:
        kafka.stop()
        if address_file:
            address_file.unlink(missing_ok=True)
    return 128 + stop.signal


def _stop(options: argparse.Namespace) -> int:
    from localkafka.local import LocalKafka

    kafka = LocalKafka.attach(options.data_dir)
    was_up = len(kafka.dead_nodes()) < len(kafka.nodes)
    kafka.stop()
    print("broker stopped" if was_up else "broker was not running")
    return 0


def _topics(options: argparse.Namespace) -> int:
    from stream.config import load
    from stream.launch import connect
    from stream.topics import TOPICS, kept_for

    config = load(options.recipe, options.overrides)
    broker = connect(config)
    try:
        broker.create_topics(config.run.name, kept_for(config.broker.answers_hours, TOPICS), config.broker.partitions)
    finally:
        broker.close()
    print(
        f"run {config.run.name} has its {len(TOPICS)} topics, with {config.broker.partitions} partitions where they are many"
    )
    return 0


def _acls(options: argparse.Namespace) -> int:
    from pydantic import TypeAdapter, ValidationError

    from infra.acls import ALL_ROLES, commands, strimzi_users
    from stream.config.table import RunName

    try:
        TypeAdapter(RunName).validate_python(options.name)
    except ValidationError:
        raise UserError(f"RUN is {options.name!r}; want a run's name: letters, digits, _ and -, at most 64") from None
    for role in options.role or ():
        if role not in ALL_ROLES:
            raise UserError(f"--role is {role!r}; want one of {', '.join(ALL_ROLES)}")
    if options.strimzi:
        print(_yaml(strimzi_users(options.name, options.role or ALL_ROLES, options.strimzi)), end="")
        return 0
    lines = commands(
        options.name, options.role or ALL_ROLES, options.principal, options.bootstrap_servers, options.command_config
    )
    print("\n".join(lines))
    return 0


def _yaml(objects: list[dict[str, Any]]) -> str:
    import yaml

    text: str = yaml.safe_dump_all(objects, sort_keys=False)
    return text
