"""What one of several allocators says and hears of each round's budget, over the log and across crashes.

Its first quote of a round names its prompts and the beliefs that its quotes rest on. A process that comes back finds it
and goes on with the same, so that the shares fit what they were agreed for. Offsets stop before the first quote of a
round that is not admitted.
"""

import logging
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from allocator.exchange import Exchange, check_num_shards
from allocator.modes import VALUES, Beliefs
from allocator.price import Split
from stream.broker import Record
from stream.config import Config
from stream.messages import Quote
from stream.run_topics import RunTopics
from stream.topics import PRICES
from stream.watermark import Watermark

log = logging.getLogger(__name__)

NEWEST_QUOTES = 32
"""Newest quotes of each shard that are looked through for what it has begun to talk about: the talks of two rounds."""
TELL_EVERY_S = 30.0
"""How often a shard that waits for others says so."""


@dataclass(frozen=True, slots=True)
class Draft:
    """What is to be admitted next; it stands until its budget is known."""

    chosen: Sequence[str]
    believed: Beliefs
    """Of the prompts chosen, in their order."""


class Talks:
    """One shard's part in the talks."""

    def __init__(self, config: Config, topics: RunTopics, watermark: Watermark) -> None:
        """Offsets of quotes are kept in the watermark."""
        self._config = config
        self._topics = topics
        self._watermark = watermark
        self._shard = config.allocator.shard
        self._exchange = Exchange(self._shard, config.allocator.shards)
        self._said: dict[int, Quote] = {}
        """First quotes of rounds that were begun before a crash."""
        self._pending: list[tuple[int, Record]] = []
        """Quotes of rounds that are not admitted, by round."""
        self._draft = Draft((), Beliefs(rate=np.empty(0), a=np.empty(0), b=np.empty(0)))
        self._round = 0
        self._began_s = self._told_s = 0.0
        self.took_s = 0.0
        """Seconds from this shard's first quote of the last round to its share."""

    def resume(self, quotes: Iterable[Quote]) -> None:
        """Be bound by what this shard has said in these quotes, in order of the log."""
        for quote in quotes:
            if quote.shard == self._shard and quote.step == 0:
                self._said.setdefault(quote.round, quote)

    def said(self, round_number: int) -> tuple[str, ...] | None:
        """The prompts that a round was begun with before a crash."""
        return self._said[round_number].prompt_ids if round_number in self._said else None

    def begin(self, round_number: int, draft: Draft, torn: Sequence[int]) -> Draft:
        """Begin the talks of a round; returns the draft that its budget will be for.

        Args:
            torn: sizes of its groups that a torn transaction has left in the log.

        """
        said = self._said.pop(round_number, None)
        if said is not None:
            known = dict(zip(said.prompt_ids, zip(said.a, said.b, strict=True), strict=True))
            a, b = np.array([known[prompt_id] for prompt_id in draft.chosen]).T
            draft = replace(draft, believed=replace(draft.believed, a=a, b=b))
        table, size = self._config.allocator, len(draft.chosen)
        # Torn groups come last, and as their size stands, the value of none of them is ever asked for.
        low = np.array([*[table.min_rollouts] * size, *torn], dtype=np.int64)
        high = np.array([*[table.max_rollouts] * size, *torn], dtype=np.int64)
        value = VALUES[table.mode](draft.believed, table.min_rollouts, table.max_rollouts)
        self._exchange.begin(round_number, Split(value.marginal, self._config.run.budget, low, high, self._shard))
        self._draft, self._round, self._began_s = draft, round_number, time.monotonic()
        return draft

    def note(self, quote: Quote, record: Record, next_round: int) -> None:
        """Take a quote from the log.

        Raises:
            UserError, BadRecord: as `Exchange.note`.

        """
        self._watermark.start((record.topic, record.partition), record.offset)
        if quote.round >= next_round:
            self._pending.append((quote.round, record))
        else:
            self._watermark.finish((record.topic, record.partition), record.offset)
        self._exchange.note(quote)

    def share(self) -> int | None:
        """Go on as far as the quotes reach, and say what is this shard's to say; its share of the round, once known."""
        quote = self._exchange.advance()
        if quote is not None:
            if quote.step == 0:
                a, b = (tuple(of.tolist()) for of in (self._draft.believed.a, self._draft.believed.b))
                quote = replace(quote, prompt_ids=tuple(self._draft.chosen), a=a, b=b)
            self._topics.send(PRICES, f"{quote.round}/{quote.step}/{quote.shard}", quote)
        elif self._exchange.share is not None:
            self.took_s = time.monotonic() - self._began_s
            log.info("agreed round=%d share=%d talk_s=%.3f", self._round, self._exchange.share, self.took_s)
        elif time.monotonic() - max(self._began_s, self._told_s) > TELL_EVERY_S:
            self._told_s = time.monotonic()
            log.info("round %d waits for shards %s", self._round, self._exchange.awaited)
        return self._exchange.share

    def admitted(self, next_round: int) -> None:
        """The quotes of the rounds before have done their part."""
        for number, record in self._pending:
            if number < next_round:
                self._watermark.finish((record.topic, record.partition), record.offset)
        self._pending = [quote for quote in self._pending if quote[0] >= next_round]


def read_quotes(topics: RunTopics, num_shards: int, *, begun: bool) -> list[Quote]:
    """The newest quotes of a run, and that it goes on with as many allocators as have quoted, or one if none has.

    Args:
        begun: something has been admitted.

    Raises:
        UserError: it had another number of allocators.

    """
    quotes: list[Quote] = []
    if topics.broker.partitions(PRICES.of(topics.run)):
        quotes = topics.read_all(PRICES, newest=NEWEST_QUOTES * num_shards)
    if quotes or begun:
        check_num_shards(quotes[-1].num_shards if quotes else 1, num_shards)
    return quotes
