"""Names objectives after the papers and systems that they reproduce, and reads the one that a configuration asks for.

The papers behind grpo, dapo, dr_grpo, gspo and cispo know two policies, the one being trained and the one that sampled:
their ratio is to `behavior`. areal, icepop and knapsack_paper know a third, recomputed at the start of each update:
their ratio is to `proximal`, and the engine's difference from it is a correction of its own. With one optimizer step an
update (learner.minibatches = 1) a proximal ratio is 1, and the correction does all the work. Where a system leaves a
choice to its user, its documented recipe is taken. No preset has a KL to a reference or an entropy bonus.
"""

from pydantic import ValidationError

from stream.config import LearnerTable, Objective
from stream.errors import UserError

PRESETS: dict[str, Objective] = {
    # This project's default: two policies, truncated importance sampling on the engine's own logprobs.
    "tis": Objective(ratio="behavior", trust_region="tis", tis_cap=2.0, advantage="std", weighting="prompt_mean"),
    # No correction: right only if the policy itself sampled the tokens.
    "reinforce": Objective(ratio="none", trust_region="none", advantage="std", weighting="prompt_mean"),
    # DeepSeekMath (arXiv 2402.03300, equation 3) as verl and TRL have it, without its KL.
    "grpo": Objective(ratio="behavior", trust_region="ppo_clip", advantage="std", weighting="sequence_mean"),
    # arXiv 2503.14476: a higher upper epsilon, every token counts the same.
    "dapo": Objective(
        ratio="behavior", trust_region="ppo_clip", clip_high=0.28, advantage="std", weighting="token_mean"
    ),
    # arXiv 2503.20783: no std, no division by the length.
    "dr_grpo": Objective(ratio="behavior", trust_region="ppo_clip", advantage="mean", weighting="constant"),
    # arXiv 2507.18071: the ratio of a sequence is the geometric mean of its tokens' ratios.
    "gspo": Objective(
        ratio="behavior", level="sequence_mean", trust_region="ppo_clip", clip_low=3e-4, clip_high=4e-4,
        advantage="std", weighting="sequence_mean",
    ),
    # MiniMax-M1 (arXiv 2506.13585): only an upper bound (verl's example: 1.2), and every token keeps its gradient.
    "cispo": Objective(
        ratio="behavior", trust_region="cispo", clip_low=10.0, clip_high=0.2, advantage="std", weighting="token_mean"
    ),
    # arXiv 2505.24298, decoupled PPO: tokens that the engine found five times less likely are rejected.
    "areal": Objective(
        ratio="proximal", trust_region="ppo_clip", correction="icepop", mask_low=0.0, mask_high=5.0,
        advantage="std", weighting="token_mean",
    ),
    # prime-rl: DPPO's mask on probabilities (arXiv 2602.04879), and a small penalty on the distance to the engine.
    "prime_rl": Objective(
        ratio="behavior", trust_region="dppo", behavior_penalty=1e-3, advantage="mean", weighting="token_mean"
    ),
    # arXiv 2509.19128 (conf/base.yaml): ratios truncated at 1.02, a rollout counts as the sum of its tokens.
    "pipeline_rl": Objective(
        ratio="behavior", trust_region="tis", tis_cap=1.02, advantage="leave_one_out",
        weighting="constant", length_constant=1.0,
    ),
    # Ring-1T (arXiv 2510.18855): PPO, with tokens rejected where engine and learner disagree.
    "icepop": Objective(
        ratio="proximal", trust_region="ppo_clip", correction="icepop", mask_low=0.5, mask_high=5.0,
        advantage="std", weighting="token_mean",
    ),
    # arXiv 2509.25849 as its scripts mean it: its code multiplies the truncated ratio in after the sum, so not at all.
    "knapsack_paper": Objective(
        ratio="proximal", trust_region="ppo_clip", clip_high=0.28, dual_clip=10.0, correction="tis", tis_cap=2.0,
        advantage="std", advantage_clamp=5.0, weighting="token_mean",
    ),
    # The default's loss with the allocator's belief as the baseline (after SPO, arXiv 2509.13232): a rollout needs no group.
    "belief": Objective(
        ratio="behavior", trust_region="tis", tis_cap=2.0, advantage="belief", weighting="sequence_mean"
    ),
}  # fmt: skip


def objective_of(table: LearnerTable) -> Objective:
    """The objective that a configuration asks for: its preset, with the parts that it names itself put in.

    Raises:
        UserError: parts that do not go together, or a parameter that would have no effect.

    """
    name = table.objective or "tis"
    parts = {part: getattr(table, part) for part in Objective.model_fields}
    given = {part: value for part, value in parts.items() if value is not None}
    try:
        objective = PRESETS[name].replaced(**given)
    except ValidationError as error:
        reason = error.errors()[0]["msg"].removeprefix("Value error, ")
        raise UserError(f"learner.objective {name!r}: {reason}") from None
    idle = without_effect(objective, set(given))
    if idle:
        raise UserError(
            f"learner.{idle[0]} is {given[idle[0]]!r}, which has no effect with learner.objective {name!r} "
            f"(trust_region {objective.trust_region}, correction {objective.correction}, weighting "
            f"{objective.weighting}); leave it out or choose what uses it"
        )
    return objective


PARAMETERS: dict[str, tuple[str, ...]] = {
    "ppo_clip": ("clip_low", "clip_high", "dual_clip"),
    "cispo": ("clip_low", "clip_high"),
    "tis": ("tis_cap",),
    "icepop": ("mask_low", "mask_high"),
    "dppo": ("dppo_low", "dppo_high"),
}
"""Parameters of each trust region (or correction): elsewhere they have no effect."""


def without_effect(objective: Objective, names: set[str]) -> list[str]:
    """Which of the parameters `names` this objective does not use, in the order of its fields."""
    used = {*PARAMETERS.get(objective.trust_region, ()), *PARAMETERS.get(objective.correction, ())}
    idle = {name for parameters in PARAMETERS.values() for name in parameters} - used
    if objective.correction == "none":
        idle.add("correction_level")
    if objective.weighting != "constant":
        idle.add("length_constant")
    if not objective.kl_coef:
        idle.add("kl")
    return [name for name in Objective.model_fields if name in names & idle]
