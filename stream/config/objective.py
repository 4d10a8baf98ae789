"""Names the parts of an objective once: for the learner, which computes with them, and for the recipe, which sets them.

The formulas are in `learner.objectives`, the presets in `learner.presets`.
"""

from typing import TYPE_CHECKING, Annotated, Any, Literal

from annotated_types import Ge, Gt
from pydantic import create_model, model_validator
from pydantic.fields import FieldInfo

from stream.config.table import PositiveFloat, Table

ObjectiveName = Literal[
    "tis", "reinforce", "grpo", "dapo", "dr_grpo", "gspo", "cispo", "areal", "prime_rl", "pipeline_rl", "icepop",
    "knapsack_paper", "belief",
]  # fmt: skip
Ratio = Literal["none", "behavior", "proximal"]
Level = Literal["token", "sequence_mean", "sequence_product"]
TrustRegion = Literal["none", "ppo_clip", "cispo", "tis", "icepop", "dppo"]
Correction = Literal["none", "tis", "icepop"]
Advantage = Literal["mean", "std", "leave_one_out", "batch_std", "belief"]
Weighting = Literal["token_mean", "prompt_mean", "prompt_mean_unbiased", "sequence_mean", "constant"]
Kl = Literal["k1", "k2", "k3"]
NonNegativeFloat = Annotated[float, Ge(0)]


class Objective(Table):
    """What is maximised; the formulas are at the top of `learner.objectives`.

    Raises:
        ValueError: an unknown name, a mask that lets nothing through, or a correction without a proximal policy.

    """

    ratio: Ratio = "behavior"
    """Of the policy to itself (`none`: no correction), to the weights that sampled, or to those at the update's start."""
    level: Level = "token"
    """What has a ratio: every token, or a rollout, by the mean (GSPO) or the sum of its log-ratios."""
    trust_region: TrustRegion = "tis"
    """How large ratios are handled."""
    clip_low: PositiveFloat = 0.2
    """Epsilon below 1 of ppo_clip and cispo; 1 or more is no lower bound."""
    clip_high: PositiveFloat = 0.2
    """Epsilon above 1 of ppo_clip and cispo."""
    dual_clip: Annotated[float, Gt(1)] | None = None
    """Cap of ppo_clip's ratio where the advantage is negative."""
    tis_cap: PositiveFloat = 2.0
    """Cap C of the truncated importance ratio min(pi/mu, C)."""
    mask_low: NonNegativeFloat = 0.5
    """icepop rejects tokens with a smaller ratio."""
    mask_high: PositiveFloat = 5.0
    """icepop rejects tokens with a larger ratio."""
    dppo_low: PositiveFloat = 0.2
    """Probability that dppo lets a token lose."""
    dppo_high: PositiveFloat = 0.2
    """Probability that dppo lets a token gain."""
    opsm: PositiveFloat | None = None
    """Rollouts with a negative advantage that drifted further than this, in nats a token, are dropped."""
    correction: Correction = "none"
    """How the ratio of the update's start to the weights that sampled is handled, where ratio is proximal."""
    correction_level: Level = "token"
    """Level of that ratio."""
    advantage: Advantage = "std"
    """Reward minus the group's mean; that over the group's std, or the batch's; reward minus the others' mean; or reward
    minus the success rate that the allocator believed in (`belief`: needs no group)."""
    advantage_clamp: PositiveFloat | None = None
    """Advantages are clamped to plus or minus this (the paper's code: 5)."""
    weighting: Weighting = "prompt_mean"
    """What counts equally in the loss: every token, prompt or rollout, or a token whatever the batch (Dr. GRPO)."""
    length_constant: PositiveFloat | None = None
    """Tokens that weighting `constant` divides every rollout by; the most that were allowed, if not given."""
    kl_coef: NonNegativeFloat = 0.0
    """Coefficient of the KL to the model that the run started from; it is held in memory beside the policy."""
    kl: Kl = "k3"
    """Estimator of that KL."""
    behavior_penalty: NonNegativeFloat = 0.0
    """Coefficient of the squared log-ratio to the weights that sampled (prime-rl: 1e-3)."""
    entropy_coef: NonNegativeFloat = 0.0
    """Coefficient of an entropy bonus."""

    @model_validator(mode="after")
    def _parts_go_together(self) -> "Objective":
        if self.mask_low > self.mask_high:
            raise ValueError(
                f"mask_low is {self.mask_low} with mask_high {self.mask_high}, which rejects every token; want it below"
            )
        if self.correction != "none" and self.ratio != "proximal":
            raise ValueError(
                f"correction is {self.correction!r} with ratio {self.ratio!r}, which corrects already; want ratio "
                "'proximal', or that name as trust_region"
            )
        return self

    def replaced(self, **parts: Any) -> "Objective":
        """The same with some parts replaced.

        Raises:
            ValueError: as the class.

        """
        return Objective.model_validate(self.model_dump() | parts)


def _replaceable(field: FieldInfo) -> tuple[Any, FieldInfo]:
    """The same part as a key that may be left out."""
    kind = Annotated[field.annotation, *field.metadata] if field.metadata else field.annotation
    return kind | None, FieldInfo(default=None, description=field.description)  # type: ignore[operator]


if TYPE_CHECKING:

    class ObjectiveParts(Table):
        """Every part of an objective as a key of the recipe; None leaves it to the preset."""

        advantage: Advantage | None = None

else:
    ObjectiveParts = create_model(
        "ObjectiveParts",
        __base__=Table,
        **{name: _replaceable(field) for name, field in Objective.model_fields.items()},
    )
