"""Body of an engine's process whose prefix cache is not salted anew when the weights change, to show what that breaks."""

from typing import Any


def run_engine_core(*args: Any, **kwargs: Any) -> None:
    from producers import process
    from producers.core import SwitchingCore

    SwitchingCore._salt = lambda self, request: None  # type: ignore[method-assign]
    process.run_engine_core(*args, **kwargs)
