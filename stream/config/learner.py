"""Sets up optimisation, the objective and checkpoints."""

from typing import Annotated, Literal

from annotated_types import Ge

from stream.config.objective import ObjectiveName, ObjectiveParts
from stream.config.table import BelowOne, NonNegative, NonNegativeFloat, Positive, PositiveFloat


class LearnerTable(ObjectiveParts):
    """Optimisation and the objective."""

    threads: Positive = 1
    """CPU threads of the learner."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where the model is trained; auto takes a GPU if there is one."""
    gpus: tuple[str, ...] = ()
    """GPUs of its ranks, by their names in CUDA_VISIBLE_DEVICES; left out, the first ones."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Precision of forward and backward (weights and optimizer stay float32)."""
    head_dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    """Precision of the output layer's products; auto takes `dtype`. Their sums and the softmax are float32."""
    lr: PositiveFloat = 2e-4
    """Learning rate of AdamW."""
    warmup_updates: NonNegative = 0
    """Updates over which the learning rate rises from 0."""
    weight_decay: Annotated[float, Ge(0)] = 0.0
    """Weight decay of AdamW."""
    beta1: BelowOne = 0.9
    """First-moment decay of AdamW."""
    beta2: BelowOne = 0.999
    """Second-moment decay of AdamW."""
    max_grad_norm: PositiveFloat = 1.0
    """Gradients are scaled down to this norm."""
    objective: ObjectiveName | None = None
    """Preset of what is maximised: left out, `belief`, or `tis` where a key is about groups. The keys from ratio to
    entropy_coef, where given, replace parts of it (docs/learner.md)."""
    minibatches: Positive = 1
    """Optimizer steps of an update, each on its share of the prompts."""
    overlong: Literal["keep", "filter", "penalty"] = "keep"
    """Rollouts cut off at max_tokens: trained on as they are, left out of the loss, or all long ones lose reward (DAPO)."""
    overlong_buffer: NonNegative = 0
    """Tokens below max_tokens over which the penalty grows from 0 to overlong_factor."""
    overlong_factor: PositiveFloat = 1.0
    """Reward that a rollout of max_tokens loses."""
    micro_batch_tokens: Positive = 8192
    """Most tokens (padding included) of one forward and backward pass."""
    ranks: Positive = 1
    """Processes on this machine that share the training (torchrun, FSDP2); each has `threads` threads."""
    lora_rank: NonNegative = 0
    """Rank of low-rank adapters that are trained instead of the weights; 0 trains the weights."""
    lora_alpha: Positive = 32
    """Adapters are scaled by lora_alpha / lora_rank."""
    lora_targets: tuple[str, ...] = ()
    """Names of the layers that get an adapter; empty takes all linear ones but the output."""
    lora_publish: Literal["merged", "adapter"] = "merged"
    """What producers get: the weights with the adapters merged into them, or the adapters alone, which vLLM serves beside
    run.model."""
    gradient_checkpointing: bool = False
    """Keep only each block's input for the backward pass: less memory, about a third more time."""
    compile: bool = False
    """Compile the model's blocks (torch.compile): the first updates take up to a minute more, the others less."""
    stale_after: Positive = 16
    """Groups whose oldest token is more versions behind than run.max_staleness and this are dropped as `stale`. It happens only
    after a crash of the learner: versions that are rolled back count."""
    checkpoint_every: Positive = 10
    """Updates between checkpoints."""
    keep_checkpoints: Annotated[int, Ge(1)] = 2
    """Newest checkpoints kept."""
    keep_policies: Annotated[int, Ge(2)] = 4
    """Newest published weights kept: at least so many can be rebuilt."""
    weights: Literal["log", "files"] = "log"
    """How weights travel to producers: as patches on the topic `weights`, or as a folder per version in the run's folder,
    which producers must be able to read."""
    publish_dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """Precision of the weights that are published (those of the learner stay float32); auto takes the engine's,
    producer.dtype."""
    anchor_every: NonNegative = 0
    """Versions between two whole states on the log; 0: as soon as the patches since the last one are as large as it."""
    anchor_store: str = ""
    """Folder or object store (URI, as fsspec has them) for whole states above a size; empty: all are on the topic."""
    anchor_store_above_gib: NonNegativeFloat = 1.0
    """That size, GiB."""

    @property
    def measures_by_belief(self) -> bool:
        """Whether a reward is measured against the allocator's belief, so that a rollout needs no group."""
        return self.advantage == "belief" or (self.advantage is None and self.objective == "belief")
