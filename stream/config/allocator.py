"""Says how many rollouts each prompt gets."""

from typing import Annotated, Literal

from annotated_types import Ge, Gt, Le

from stream.config.table import NonNegative, Positive, PositiveFloat, Table

Mode = Literal["uniform", "paper", "bayes", "p_nonzero", "variance", "sequential", "learnability"]


class AllocatorTable(Table):
    """How many rollouts each prompt gets."""

    mode: Mode | None = None
    """Left out, it is `learnability` where rollouts need no group (learner.advantage `belief`), else `bayes`.
    `uniform`: the same for all. `paper`: the knapsack of arXiv 2509.25849, with its fallback. `bayes`: its value in
    expectation over a Beta belief. `sequential`: the same by the group's own rewards: two rollouts first, then
    slices as long as one more is worth the price, until two rewards differ. `p_nonzero`: most groups with a
    gradient. `variance`: least gradient variance. `learnability`: most E[p(1-p)], with from 0 rollouts a prompt,
    over the whole pool. Only this and `uniform` (prompts in turns) go with the advantage `belief`."""
    pacing: Literal["round", "stream"] = "round"
    """`round`: every round spends its budget exactly, on the prompts of one update. `stream`: prompts are decided one by
    one, as there is room for them, by a price that follows what is spent: any 10,000 rollouts are within 2 % of what is
    allowed, and a round of hard prompts may take from one of easy ones. Not with `uniform`, `paper`,
    `sequential`, the advantage `belief` or budget_tokens."""
    prior: tuple[PositiveFloat, PositiveFloat] | None = None
    """Beta prior of every success rate; without it one is learned, and shared by task and level."""
    discount: Annotated[float, Gt(0), Le(1)] | None = None
    """What a prompt's next group leaves of the weight of its earlier ones in its belief; 1 forgets nothing. Left out, several
    ways to forget are tried side by side, and the one that forecasts best is believed."""
    budget_tokens: NonNegative = 0
    """Most tokens that an update's rollouts may be expected to take; a prompt's cost is learned from its trajectories. 0
    bounds nothing: every rollout counts alike. For groups this is the budget, in place of run.rollouts_per_prompt x
    run.prompts_per_update rollouts; in mode `learnability` an update has as many rollouts as ever, drawn from cheaper
    prompts as far as is needed, and as no prompt's least share forbids. Not with `sequential`, or `uniform` without groups."""
    min_rollouts: Annotated[int, Ge(1)] = 2
    """Fewest rollouts of a prompt whose turn it is; at least 2, as a group of one does not differ from its own mean. With the
    advantage `belief` a prompt may get none, and this has no effect."""
    max_rollouts: Positive = 128
    """Most rollouts of a prompt."""
    slice_rollouts: Positive = 8
    """Rollouts of one job: small slices spread a large group over producers, and a crash costs little."""
    lease_s: PositiveFloat = 120.0
    """Rollouts without a verdict after this long are issued again."""
    max_attempts: Positive = 3
    """Issues of a slice before its missing rollouts are closed as `abandoned`."""
