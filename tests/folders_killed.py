"""What tests/stream/test_folders.py runs in processes of its own, to be killed there."""

import os
import signal
import sys
from pathlib import Path

from stream import folders


def publish(target: Path, content: str, num_files: int = 2) -> None:
    with folders.publish_folder(target) as staging:
        (staging / "inner").mkdir()
        for number in range(num_files):
            (staging / "inner" / f"{number}").write_text(content)


def publish_killed_at(target: Path, kill_at: int, can_exchange: bool) -> None:
    """Publish; SIGKILL at the `kill_at`-th file operation."""
    if not can_exchange:
        folders._exchange = lambda one, other: False
    num_left = kill_at

    def count(event: str, arguments: tuple[object, ...]) -> None:
        nonlocal num_left
        if event.startswith(("open", "os.", "shutil.")):
            num_left -= 1
            if num_left == 0:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(count)
    publish(target, "new")
