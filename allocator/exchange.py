"""Allocators that share one budget, each with prompts of its own: quotes in, quotes out, the shard's share in the end.

All quotes stand on one topic of one partition, so every shard reads the same first quote of each shard at each step and
works out the same shares. A shard that was killed reads its own quotes again and is bound by them; one that is slow is
waited for. Legend: as in `allocator.price`.
"""

from collections import defaultdict

from allocator.price import Split
from stream.errors import BadRecord, UserError
from stream.messages import Quote


class Exchange:
    """One shard's side of the talks, round by round."""

    def __init__(self, shard: int, num_shards: int) -> None:
        if not 0 <= shard < num_shards:
            raise ValueError(f"the shard is {shard} of {num_shards}; want 0 to {num_shards - 1}")
        self._shard = shard
        self._num_shards = num_shards
        self._round = -1
        self._split: Split | None = None
        self._quotes: dict[tuple[int, int], dict[int, Quote]] = defaultdict(dict)
        self._asked = -1

    def begin(self, round_number: int, split: Split) -> None:
        """The talks of a round: `split` knows this shard's prompts."""
        self._round, self._split, self._asked = round_number, split, -1
        self._quotes = defaultdict(dict, {of: quotes for of, quotes in self._quotes.items() if of[0] >= round_number})

    def note(self, quote: Quote) -> None:
        """Take a quote from the log; the first of a shard at a step counts.

        Raises:
            UserError: it is of a run with another number of shards.
            BadRecord: there is no such shard.

        """
        check_num_shards(quote.num_shards, self._num_shards)
        if not 0 <= quote.shard < self._num_shards:
            raise BadRecord(f"quote of shard {quote.shard}; want 0 to {self._num_shards - 1}")
        if quote.round >= self._round:
            self._quotes[quote.round, quote.step].setdefault(quote.shard, quote)

    def advance(self) -> Quote | None:
        """Go as far as the quotes reach; returns this shard's next one, to be sent, the first time it is asked for."""
        split = self._split
        while split is not None and split.share is None:
            known = self._quotes[self._round, split.step]
            if len(known) == self._num_shards:
                split.take([known[shard].amounts for shard in range(self._num_shards)])
            elif self._shard in known or self._asked == split.step:
                return None
            else:
                self._asked = split.step
                return Quote(
                    shard=self._shard,
                    num_shards=self._num_shards,
                    round=self._round,
                    step=split.step,
                    amounts=split.quote(),
                )
        return None

    @property
    def awaited(self) -> list[int]:
        """The shards whose quotes are awaited now."""
        if self._split is None or self._split.share is not None:
            return []
        known = self._quotes[self._round, self._split.step]
        return [shard for shard in range(self._num_shards) if shard not in known]

    @property
    def share(self) -> int | None:
        """Rollouts of this shard in the round, once all have agreed."""
        return None if self._split is None else self._split.share


def check_num_shards(found: int, wanted: int) -> None:
    """Refuse to go on where a run has had another number of shards: its prompts and budgets are divided otherwise.

    Raises:
        UserError: it has.

    """
    if found != wanted:
        raise UserError(
            f"allocator.shards is {wanted}, and this run was begun with {found}; resume it with allocator.shards = {found}, "
            "or choose another run.name"
        )
