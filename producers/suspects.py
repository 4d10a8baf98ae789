"""Remembers what was being sampled whenever a producer died, to find the prompt that kills it.

    prompts whose rollouts begin and end --> a small file --after a death--> prompts to be sampled apart, or not any more

A process or an engine that dies says nothing of why, and its jobs are delivered again: a prompt that kills would kill for ever.
So a prompt that was being sampled at the last two deaths, and of which nothing ended in between, is suspect: suspects are
sampled one at a time, beside all others. At three it is given up for good. What only stood by ends well, and is free again.

A death counts if the engine died under the producer, or if the process died at once (YOUNG_S): a process that is killed later
was most likely killed from outside, and its long rollouts are to be sampled again however often that happens.
"""

import json
import logging
import os
from collections import Counter
from pathlib import Path

log = logging.getLogger(__name__)

SUSPECT_AFTER, GIVEN_UP_AFTER = 2, 3
"""Deaths in a row at which a prompt was being sampled, and between which none of its rollouts ended."""
YOUNG_S = 2.0
"""From a life's first rollout on. What begins is written before it is sampled: what killed the life before is delivered first."""


class Suspects:
    """What one producer's deaths tell of prompts. Prompts are named by their ids."""

    def __init__(self, path: Path | None = None) -> None:
        """Take over from the life before, which has left `path`; None remembers nothing."""
        self._path = path
        self._sampling: Counter[str] = Counter()
        """Rollouts by prompt."""
        self._deaths: list[set[str]] = []
        """What was being sampled at the last deaths, oldest first."""
        self._given_up: set[str] = set()
        self._written: set[str] = set()
        self._is_saved = True
        self._begun_s = 0.0
        self._is_fatal = False
        """Whether the end of this life would count as a death."""
        if path is not None and path.exists():
            self._take_over(path)

    def _take_over(self, path: Path) -> None:
        try:
            left = json.loads(path.read_text())
            deaths, given_up = [*map(set, left["deaths"])], set(left["given_up"])
            sampling = set(left["sampling"]) if left["is_fatal"] else set()
        except (OSError, ValueError, KeyError, TypeError) as error:
            log.warning("%s cannot be read: what was sampled when this producer died is not known (%s)", path, error)
            return
        self._deaths = [*deaths, *([sampling] if sampling else [])][-GIVEN_UP_AFTER:]
        self._given_up = given_up
        if len(self._deaths) == GIVEN_UP_AFTER:
            self._given_up |= set.intersection(*self._deaths)
        self._write()

    def is_given_up(self, prompt_id: str) -> bool:
        """Whether it was being sampled at GIVEN_UP_AFTER deaths in a row."""
        return prompt_id in self._given_up

    def must_wait(self, prompt_id: str) -> bool:
        """Whether it is suspect, and another suspect is being sampled."""
        return self._is_suspect(prompt_id) and any(
            self._is_suspect(other) for other in self._sampling if other != prompt_id
        )

    def begin(self, prompt_id: str, now_s: float) -> None:
        """A rollout of this prompt is to be sampled, once `save` has been called."""
        self._begun_s = self._begun_s or now_s
        self._sampling[prompt_id] += 1
        if now_s - self._begun_s < YOUNG_S and (prompt_id not in self._written or not self._is_fatal):
            self._is_fatal, self._is_saved = True, False

    def save(self) -> None:
        """Write down what is to be sampled, before it is."""
        if not self._is_saved:
            self._write()

    def end(self, prompt_id: str) -> None:
        """One has ended, and has not killed."""
        for death in self._deaths:
            death.discard(prompt_id)
        self._sampling[prompt_id] -= 1
        if not self._sampling[prompt_id]:
            del self._sampling[prompt_id]

    def note(self, now_s: float) -> None:
        """Write down that this life is not young any more."""
        if self._is_fatal and now_s - self._begun_s >= YOUNG_S:
            self._is_fatal = False
            self._write()

    def die(self) -> None:
        """The engine is dead: something that was being sampled is to blame."""
        self._is_fatal = True
        self._write()

    def close(self) -> None:
        """Nothing is being sampled any more: the end of this life is no death."""
        self._sampling.clear()
        self._write()

    def _is_suspect(self, prompt_id: str) -> bool:
        newest = self._deaths[-SUSPECT_AFTER:]
        return len(newest) == SUSPECT_AFTER and all(prompt_id in death for death in newest)

    def _write(self) -> None:
        self._written, self._is_saved = set(self._sampling), True
        if self._path is None:
            return
        left = {
            "deaths": [sorted(death) for death in self._deaths],
            "sampling": sorted(self._written),
            "is_fatal": self._is_fatal,
            "given_up": sorted(self._given_up),
        }
        self._path.parent.mkdir(parents=True, exist_ok=True)
        staging = self._path.with_suffix(".writing")
        staging.write_text(json.dumps(left))
        os.replace(staging, self._path)
