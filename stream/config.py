"""The configuration: one TOML file per recipe, one table per role, every key overridable on the command line.

    load("configs/demo.toml", ["--learner.lr", "3e-4"])

The command line wins over the file, the file over the defaults. Unknown keys are refused, in both.
"""

import tomllib
from contextlib import suppress
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Literal

from annotated_types import Ge, Gt, Le
from pydantic import BaseModel, ConfigDict, StringConstraints, ValidationError, model_validator
from pydantic_settings import (
    BaseSettings,
    CliSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
    TomlConfigSettingsSource,
)

from stream.errors import ConfigError

Positive = Annotated[int, Gt(0)]
NonNegative = Annotated[int, Ge(0)]
PositiveFloat = Annotated[float, Gt(0)]
Fraction = Annotated[float, Ge(0), Le(1)]
ObjectiveName = Literal[
    "tis", "reinforce", "grpo", "dapo", "dr_grpo", "gspo", "cispo", "areal", "prime_rl", "pipeline_rl", "icepop",
    "knapsack_paper",
]  # fmt: skip
RunName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_-]{1,64}$")]


class Table(BaseModel):
    """A table of the file: keys that it does not know are errors; the strings under the fields are their help."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


class RunTable(Table):
    """What all roles must agree on."""

    name: RunName = "demo"
    """Names the run: its folder and the prefix of its topics."""
    dir: Path = Path("runs")
    """Folder that holds the runs' folders."""
    model: str = "demo/base"
    """Model to train: a folder in transformers' format (config.json, safetensors, tokenizer), as `hf download` makes it."""
    seed: NonNegative = 0
    """Seed of everything that draws at random, except the sampling of tokens."""
    num_updates: Positive = 100
    """Updates after which the run ends."""
    prompts_per_update: Positive = 60
    """Groups (one per prompt) that end in one update; also the prompts of one round of the allocator."""
    rollouts_per_prompt: Annotated[float, Ge(2)] = 8.0
    """Mean number of rollouts of a prompt: a round's budget is this times prompts_per_update."""
    max_staleness: NonNegative = 1
    """Rounds that may be under way beyond the one being trained; 0 is synchronous, exactly on-policy."""

    @property
    def path(self) -> Path:
        """Folder of this run."""
        return self.dir / self.name

    @property
    def budget(self) -> int:
        """Rollouts of one round."""
        return round(self.prompts_per_update * self.rollouts_per_prompt)


class BrokerTable(Table):
    """Where the topics are."""

    bootstrap_servers: str = ""
    """host:port[,host:port...] of a Kafka cluster; empty starts a local one in the run's folder."""
    settings: dict[str, Any] = {}
    """Passed to kafka-python's clients as they are: security_protocol, sasl_mechanism, ssl_cafile, ..."""
    nodes: Literal[1, 3] = 1
    """Nodes of a local cluster; with three, one may die without a pause of more than a few seconds."""
    partitions: Positive = 4
    """Partitions of jobs, trajectories and verdicts: the most producers or verifiers that can share the work."""
    timeout_s: PositiveFloat = 60.0
    """How long a role waits for a broker that does not answer."""


class PromptsTable(Table):
    """Which problems are trained on and which are held out."""

    source: str = "codes"
    """`codes` (the demo's generator), `gym:TASK[,TASK...]` (reasoning-gym), a path ending in .jsonl, or `hf:DATASET`."""
    num_prompts: Positive = 640
    """Size of the pool (generators); files and datasets are cut to it."""
    num_heldout: NonNegative = 512
    """Size of the held-out set."""
    heldout_source: str = ""
    """Like source, for the held-out set; empty takes the generator's held-out split or the end of the file."""
    options: dict[str, Any] = {}
    """Arguments of the generator, e.g. {max_digits = 2}."""
    grader: str = "math"
    """Grader of prompts that name none: `rucksack verify --help` lists them."""
    split: str = "train"
    """Split of a Hugging Face dataset."""
    text_key: str = "prompt"
    """Key (or column) of the problem's text."""
    answer_key: str = "answer"
    """Key (or column) of the reference answer."""
    chat_template: bool = False
    """Wrap the text as a user's message in the tokenizer's chat template."""
    system: str = ""
    """System message of the chat template; empty for none."""
    suffix: str = ""
    """Appended to every text, e.g. an instruction on how to write the answer."""
    max_prompt_tokens: Positive = 1024
    """Longer prompts are left out, and counted."""


class SamplingTable(Table):
    """How completions are sampled."""

    temperature: Annotated[float, Ge(0)] = 1.0
    """0 is greedy (of no use for training)."""
    top_p: Annotated[float, Gt(0), Le(1)] = 1.0
    """Anything but 1 makes behavior logprobs those of the truncated distribution."""
    top_k: NonNegative = 0
    """0 keeps the whole vocabulary."""
    max_tokens: Positive = 512
    """Most tokens of a completion."""


class AllocatorTable(Table):
    """How many rollouts each prompt gets."""

    mode: Literal["uniform", "paper", "bayes", "p_nonzero", "variance"] = "bayes"
    """`uniform`: the same for all. `paper`: the knapsack of arXiv 2509.25849, with its fallback. `bayes`: its value in
    expectation over a Beta belief. `p_nonzero`: most groups with a gradient. `variance`: least gradient variance."""
    pacing: Literal["round", "stream"] = "round"
    """`round`: every round spends its budget exactly, on the prompts of one update. `stream`: prompts are decided one by
    one, as there is room for them, by a price that follows what is spent: any 10,000 rollouts are within 2 % of what is
    allowed, and a round of hard prompts may take from one of easy ones. Not with `uniform`, `paper` or budget_tokens."""
    prior: tuple[PositiveFloat, PositiveFloat] | None = None
    """Beta prior of every success rate; without it one is learned, and shared by task and level."""
    discount: Annotated[float, Gt(0), Le(1)] = 0.5
    """What a prompt's next group leaves of the weight of its earlier ones in its belief; 1 forgets nothing."""
    budget_tokens: NonNegative = 0
    """Most tokens that a round's rollouts may be expected to take; a prompt's cost is learned from its trajectories. With
    0 every rollout counts alike, and a round's budget is run.rollouts_per_prompt x run.prompts_per_update of them."""
    min_rollouts: Annotated[int, Ge(2)] = 2
    """Fewest rollouts of a prompt; at least 2, as a group of one has no advantage."""
    max_rollouts: Positive = 128
    """Most rollouts of a prompt."""
    slice_rollouts: Positive = 8
    """Rollouts of one job: small slices spread a large group over producers, and a crash costs little."""
    lease_s: PositiveFloat = 120.0
    """Rollouts without a verdict after this long are issued again."""
    max_attempts: Positive = 3
    """Issues of a slice before its missing rollouts are closed as `abandoned`."""
    await_evaluation: bool = True
    """Hold the first round until the base policy has been evaluated (if there is an evaluator)."""
    shards: Positive = 1
    """Allocators that share the prompts and every round's budget, for the life of the run. More than one wants pacing
    `round`, a mode that has a price (`bayes`, `p_nonzero`, `variance`) and no budget_tokens."""
    shard: NonNegative = 0
    """Which of them this one is, from 0: for allocators that are started by hand (`rucksack up` starts them all)."""


class ProducerTable(Table):
    """The sampling engine."""

    replicas: NonNegative = 1
    """Producers that `rucksack up` starts."""
    threads: Positive = 1
    """CPU threads of one producer."""
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """Precision of the engine's weights; auto takes the model's."""
    max_model_len: Positive = 2048
    """Most tokens of prompt and completion together."""
    max_num_seqs: Positive = 256
    """Rollouts sampled side by side."""
    kv_cache_gib: PositiveFloat = 1.0
    """KV cache on a CPU, GiB."""
    gpu_memory_utilization: Annotated[float, Gt(0), Le(1)] = 0.85
    """Share of a GPU's memory for the engine."""
    tensor_parallel_size: Positive = 1
    """GPUs of one engine."""


class VerifierTable(Table):
    """Grading."""

    replicas: NonNegative = 1
    """Verifiers that `rucksack up` starts."""
    threads: Positive = 1
    """CPU threads of one verifier."""
    workers: Positive = 1
    """Worker processes of one verifier, each killable."""
    timeout_s: Positive = 2
    """Whole seconds one answer may take; the worker is killed one second later."""
    alarm_share: Fraction = 0.05
    """Warn when timeout, error or unparsable exceed this share of a task's verdicts."""


class LearnerTable(Table):
    """Optimisation and the objective."""

    threads: Positive = 1
    """CPU threads of the learner."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where the model is trained; auto takes a GPU if there is one."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Precision of forward and backward (weights and optimizer stay float32)."""
    lr: PositiveFloat = 2e-4
    """Learning rate of AdamW."""
    warmup_updates: NonNegative = 0
    """Updates over which the learning rate rises from 0."""
    weight_decay: Annotated[float, Ge(0)] = 0.0
    """Weight decay of AdamW."""
    beta1: Fraction = 0.9
    """First-moment decay of AdamW."""
    beta2: Fraction = 0.999
    """Second-moment decay of AdamW."""
    max_grad_norm: PositiveFloat = 1.0
    """Gradients are scaled down to this norm."""
    objective: ObjectiveName = "tis"
    """Preset of what is maximised; the keys down to entropy_coef, where given, replace parts of it (docs/learner.md)."""
    ratio: Literal["none", "behavior", "proximal"] | None = None
    """Of the policy to itself (no correction), to the weights that sampled, or to those at the update's start."""
    level: Literal["token", "sequence_mean", "sequence_product"] | None = None
    """What has a ratio: every token, or a rollout, by the mean (GSPO) or the sum of its log-ratios."""
    trust_region: Literal["none", "ppo_clip", "cispo", "tis", "icepop", "dppo"] | None = None
    """How large ratios are handled."""
    clip_low: PositiveFloat | None = None
    """Epsilon below 1 of ppo_clip and cispo."""
    clip_high: PositiveFloat | None = None
    """Epsilon above 1 of ppo_clip and cispo."""
    dual_clip: Annotated[float, Gt(1)] | None = None
    """Cap of ppo_clip's ratio where the advantage is negative."""
    tis_cap: PositiveFloat | None = None
    """Cap C of the truncated importance ratio min(pi/mu, C)."""
    mask_low: Annotated[float, Ge(0)] | None = None
    """icepop rejects tokens with a smaller ratio."""
    mask_high: PositiveFloat | None = None
    """icepop rejects tokens with a larger ratio."""
    dppo_low: PositiveFloat | None = None
    """Probability that dppo lets a token lose."""
    dppo_high: PositiveFloat | None = None
    """Probability that dppo lets a token gain."""
    opsm: PositiveFloat | None = None
    """Rollouts with a negative advantage that drifted further than this, in nats a token, are dropped."""
    correction: Literal["none", "tis", "icepop"] | None = None
    """How the ratio of the update's start to the weights that sampled is handled, where ratio is proximal."""
    correction_level: Literal["token", "sequence_mean", "sequence_product"] | None = None
    """Level of that ratio."""
    advantage: Literal["mean", "std", "leave_one_out", "batch_std"] | None = None
    """Reward minus the group's mean; that over the group's std, or the batch's; or reward minus the others' mean."""
    advantage_clamp: PositiveFloat | None = None
    """Advantages are clamped to plus or minus this (the paper's code: 5)."""
    weighting: Literal["token_mean", "prompt_mean", "prompt_mean_unbiased", "sequence_mean", "constant"] | None = None
    """What counts equally in the loss: every token, prompt or rollout, or a token whatever the batch (Dr. GRPO)."""
    length_constant: PositiveFloat | None = None
    """Tokens that weighting constant divides every rollout by; the most that were allowed, if not given."""
    kl_coef: PositiveFloat | None = None
    """Coefficient of the KL to the model that the run started from; it is held in memory beside the policy."""
    kl: Literal["k1", "k2", "k3"] | None = None
    """Estimator of that KL."""
    behavior_penalty: PositiveFloat | None = None
    """Coefficient of the squared log-ratio to the weights that sampled."""
    entropy_coef: PositiveFloat | None = None
    """Coefficient of an entropy bonus."""
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
    gradient_checkpointing: bool = False
    """Keep only each block's input for the backward pass: less memory, about a third more time."""
    stale_after: Positive = 16
    """Groups whose oldest token is more versions behind are dropped as `stale`: the last resort, pacing comes first."""
    checkpoint_every: Positive = 10
    """Updates between checkpoints."""
    keep_checkpoints: Annotated[int, Ge(1)] = 2
    """Newest checkpoints kept."""
    keep_policies: Annotated[int, Ge(2)] = 4
    """Newest published weights kept."""


class EvaluatorTable(Table):
    """Accuracy on sets of prompts, sampled by the producers and graded by the verifiers as training is."""

    enabled: bool = True
    """Whether `rucksack up` starts it."""
    every: Positive = 20
    """Updates between evaluations of the held-out set (the base and the final policy are always evaluated)."""
    temperature: Annotated[float, Ge(0)] = 0.0
    """0 is greedy."""
    samples: Positive = 1
    """Rollouts k of a prompt, for pass@k, avg@k and maj@k; more than 1 wants a temperature above 0."""
    sets: dict[RunName, str] = {}
    """More sets to evaluate with the held-out one: name = source, as in prompts.heldout_source."""
    pool: bool = True
    """Evaluate the pool as well, before and after."""
    base_samples: NonNegative = 8
    """Rollouts of a held-out prompt at temperature 1 from the base policy, for its success rate; 0 leaves it out."""
    timeout_s: PositiveFloat = 300.0
    """An evaluation for which nothing has come for so long is published with what there is."""


class TrackingTable(Table):
    """Where the figures of updates and evaluations go besides the log."""

    to: tuple[Literal["jsonl", "tensorboard", "wandb", "trackio"], ...] = ()
    """Trackers; with any, `rucksack up` starts one more worker that feeds them."""
    project: str = "rucksack"
    """Project of W&B and trackio; the run's name is run.name."""


class UpTable(Table):
    """The supervisor."""

    max_restarts: NonNegative = 8
    """Restarts of one worker within restart_window_s before the run is given up."""
    restart_window_s: PositiveFloat = 300.0
    """Window of max_restarts."""
    backoff_s: PositiveFloat = 1.0
    """Wait before the first restart; doubles up to 30 s."""
    hang_s: PositiveFloat = 120.0
    """A worker without a heartbeat for so long, while others send theirs, is killed and restarted."""
    stop_timeout_s: PositiveFloat = 15.0
    """Time a worker has to stop by itself before it is killed."""
    report: bool = True
    """Write the report when the run ends."""
    metrics_port: NonNegative = 0
    """First port of the workers' Prometheus endpoints, one each; 0 for none."""


class Config(BaseSettings):
    """A recipe."""

    model_config = SettingsConfigDict(
        extra="forbid", frozen=True, use_attribute_docstrings=True, cli_kebab_case=False, cli_prog_name="rucksack"
    )

    run: RunTable = RunTable()
    broker: BrokerTable = BrokerTable()
    prompts: PromptsTable = PromptsTable()
    sampling: SamplingTable = SamplingTable()
    allocator: AllocatorTable = AllocatorTable()
    producer: ProducerTable = ProducerTable()
    verifier: VerifierTable = VerifierTable()
    learner: LearnerTable = LearnerTable()
    evaluator: EvaluatorTable = EvaluatorTable()
    tracking: TrackingTable = TrackingTable()
    up: UpTable = UpTable()

    @model_validator(mode="after")
    def _bounds_meet_the_budget(self) -> "Config":
        low, high = self.allocator.min_rollouts, self.allocator.max_rollouts
        if not low <= self.run.rollouts_per_prompt <= high:
            raise ValueError(
                f"run.rollouts_per_prompt is {self.run.rollouts_per_prompt}; want between allocator.min_rollouts "
                f"({low}) and allocator.max_rollouts ({high}), or no budget can meet the bounds"
            )
        tokens, needed = self.allocator.budget_tokens, low * self.run.prompts_per_update * self.sampling.max_tokens
        if 0 < tokens < needed:
            raise ValueError(
                f"allocator.budget_tokens is {tokens}; want 0, or at least {needed} = allocator.min_rollouts x "
                "run.prompts_per_update x sampling.max_tokens, which the lower bound may take"
            )
        if self.allocator.pacing == "stream" and (tokens or self.allocator.mode in ("uniform", "paper")):
            raise ValueError(
                f"allocator.pacing is stream, with allocator.mode {self.allocator.mode} and budget_tokens {tokens}; want "
                "a mode that has a price (bayes, p_nonzero, variance) and no budget_tokens, or pacing round"
            )
        return self

    @model_validator(mode="after")
    def _shards_can_share(self) -> "Config":
        table = self.allocator
        if table.shard >= table.shards:
            raise ValueError(
                f"allocator.shard is {table.shard}, of allocator.shards = {table.shards}; want 0 to {table.shards - 1}, as they are counted from 0"
            )
        if table.shards > self.run.prompts_per_update:
            raise ValueError(
                f"allocator.shards is {table.shards}; want at most run.prompts_per_update ({self.run.prompts_per_update}), "
                "as each has a group of every round"
            )
        if table.shards > 1 and (table.pacing == "stream" or table.budget_tokens or table.mode in ("uniform", "paper")):
            raise ValueError(
                f"allocator.shards is {table.shards}, with allocator.mode {table.mode}, pacing {table.pacing} and "
                f"budget_tokens {table.budget_tokens}; want a mode that has a price (bayes, p_nonzero, variance), pacing "
                "round and no budget_tokens, or shards = 1"
            )
        return self


def load(path: str | Path, overrides: list[str] | None = None) -> Config:
    """The recipe in `path`, with command-line overrides such as ["--learner.lr", "3e-4"].

    Raises:
        ConfigError: no such file, not TOML, an unknown key, or a value of the wrong kind; one line per mistake.

    """
    file = Path(path)
    _check_toml(file)
    try:
        return Config.model_validate(_settings(file, list(overrides or ())).model_dump())
    except ValidationError as error:
        raise ConfigError("\n".join(_describe(file, mistake) for mistake in error.errors())) from None
    except SettingsError as error:
        raise ConfigError(f"command line: {error}; see `rucksack up --help` for the keys") from None


def show_help(usage: str) -> None:
    """Print every key with its kind, default and meaning."""
    with suppress(SystemExit):
        _settings(None, ["--help"], usage)


def _settings(file: Path | None, arguments: list[str], program: str = "rucksack up CONFIG") -> Config:
    """The defaults, under the file, under the command line."""

    class Loaded(Config):
        @classmethod
        def settings_customise_sources(
            cls,
            settings_cls: type[BaseSettings],
            init_settings: PydanticBaseSettingsSource,
            env_settings: PydanticBaseSettingsSource,
            dotenv_settings: PydanticBaseSettingsSource,
            file_secret_settings: PydanticBaseSettingsSource,
        ) -> tuple[PydanticBaseSettingsSource, ...]:
            command_line: CliSettingsSource[Any] = CliSettingsSource(
                settings_cls, cli_parse_args=arguments, cli_exit_on_error=False, cli_prog_name=program
            )
            return (command_line, TomlConfigSettingsSource(settings_cls, file)) if file else (command_line,)

    return Loaded()


def _check_toml(file: Path) -> None:
    if not file.is_file():
        found = "is not a file" if file.exists() else "does not exist"
        raise ConfigError(f"configuration file {file} {found}; the recipes are in configs/")
    try:
        tomllib.loads(file.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{file} is not TOML: {error}") from None


def _describe(file: Path, mistake: Any) -> str:
    key = ".".join(str(part) for part in mistake["loc"])
    if mistake["type"] == "extra_forbidden":
        return f"{file}: unknown key {key}{_suggestion(mistake['loc'])}"
    if not key:
        return f"{file}: {mistake['msg'].removeprefix('Value error, ')}"
    return f"{file}: {key} is {mistake['input']!r}: {mistake['msg'][0].lower()}{mistake['msg'][1:]}"


def _suggestion(loc: tuple[str | int, ...]) -> str:
    table: Any = Config
    for part in loc[:-1]:
        table = table.model_fields[part].annotation
    close = get_close_matches(str(loc[-1]), table.model_fields, n=1)
    hint = f"did you mean {close[0]}?" if close else f"known: {', '.join(table.model_fields)}"
    return f"; {hint}"
