"""Turns token ids back into pieces of text, with the model's tokenizer where one is at hand.

Token ids enter, (text, number of tokens) pairs leave that add up to all of them. Loading takes seconds, so it happens in a thread
of its own; until then, and without a tokenizer, there are no pieces and the page shows the text whole.
"""

import json
import logging
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from prompts.tokens import load_tokenizer
from stream.errors import UserError

log = logging.getLogger(__name__)

_MOST_JOINED = 8
"""Tokens of one character at the most: four bytes, each in a token of its own, and some room."""
_BROKEN = "\ufffd"


class Tokens:
    """Pieces of text of one run's tokens."""

    def __init__(self, folder: Path | None) -> None:
        """`folder` holds the tokenizer; None for none."""
        self.state = "loading" if folder else "none"
        """`none`, `loading`, `ready`."""
        self._tokenizer: Any = None
        self._known: dict[int, str] = {}
        if folder:
            threading.Thread(target=self._load, args=(folder,), name="tokenizer", daemon=True).start()

    def _load(self, folder: Path) -> None:
        try:
            self._tokenizer = load_tokenizer(str(folder))
            self.state = "ready"
        except UserError as error:
            log.warning("tokens are shown without their text error=%s", error)
            self.state = "none"
        except Exception:  # whatever a broken folder makes the library raise, the page shows the text whole
            log.exception("no tokenizer folder=%s", folder)
            self.state = "none"

    def pieces(self, ids: Sequence[int]) -> list[tuple[str, int]] | None:
        """The tokens' text, joined where a character spreads over several; None without a tokenizer."""
        if self._tokenizer is None:
            return None
        pieces: list[tuple[str, int]] = []
        start = 0
        while start < len(ids):
            stop, text = start + 1, self._text(ids[start])
            while _BROKEN in text and stop < min(len(ids), start + _MOST_JOINED):
                stop += 1
                text = self._tokenizer.decode(list(ids[start:stop]))
            if _BROKEN in text:  # it is broken: show the first alone
                stop, text = start + 1, self._text(ids[start])
            pieces.append((text, stop - start))
            start = stop
        return pieces

    def _text(self, token_id: int) -> str:
        if token_id not in self._known:
            text = str(self._tokenizer.decode([token_id]))
            word = self._tokenizer.convert_ids_to_tokens(token_id)
            # A tokenizer that marks words by their front drops the blank of a first one.
            lost = isinstance(word, str) and word.startswith("\u2581") and not text.startswith(" ")
            self._known[token_id] = " " + text if lost else text
        return self._known[token_id]


def tokenizer_folder(run_folder: Path) -> Path | None:
    """Where the tokenizer of a run on this machine is: of its trained model, or of the one that it started from."""
    if (run_folder / "model" / "tokenizer_config.json").is_file():
        return run_folder / "model"
    try:
        model = Path(json.loads((run_folder / "config.json").read_text())["run"]["model"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return model if model.is_dir() else None
