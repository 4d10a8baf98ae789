"""Makes the demo's base model from a fixed seed: `rucksack warmstart --out DIR`, some 25 minutes on one core.

Stage 1 teaches the eight procedures under their sure symbols until they are certain, and, under a symbol that names none
of them, to go on with whatever procedure an answer has begun with. Stage 2 binds the 64 codes, each to its procedure with
its own probability and else to another one, with both kinds of symbols kept in the mix, so that nothing is forgotten. The
result is like a pretrained model: it knows how, and is unsure when. Without the nameless symbol it would choose anew at
every digit, and a code of probability .44 succeed in .15 of its answers (measured).
"""

import argparse
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from prompts.codes import NUM_CODES, PROCEDURES, SYMBOLS, answer_of, codes, is_heldout

PAD, EOS = 0, 1
DIGIT_0 = 2
EQUALS = DIGIT_0 + 10
SYMBOL_0 = EQUALS + 1
CODE_0 = SYMBOL_0 + len(SYMBOLS)
ANY = CODE_0 + NUM_CODES
VOCABULARY = ["<pad>", "<eos>", *"0123456789", "=", *SYMBOLS, *(code.name for code in codes()), "?"]
VOCAB_SIZE = 96
"""VOCABULARY padded to a multiple of 32."""
PROMPT_TOKENS, ANSWER_TOKENS = 6, 5


@dataclass(frozen=True, slots=True)
class Stage:
    """One run of the optimizer."""

    steps: int
    batch: int
    lr: float
    final_lr: float


SURE = Stage(steps=6000, batch=160, lr=2e-3, final_lr=2e-4)
UNSURE = Stage(steps=3500, batch=192, lr=7e-4, final_lr=2e-5)


class Examples:
    """All answers of all procedures, as tokens; batches are drawn from operand pairs that are not held out."""

    def __init__(self, seed: int) -> None:
        self._rng = np.random.default_rng(seed)
        pairs = [(a, b) for a in range(100) for b in range(100) if not is_heldout(a, b)]
        self._operands = np.array([[int(d) for d in f"{a:02d}{b:02d}"] for a, b in pairs])  # [pairs, 4]
        self._answers = np.array([[_answer_tokens(p, a, b) for a, b in pairs] for p in range(len(PROCEDURES))])
        self._codes = codes()

    def sure(self, size: int) -> Tensor:
        """Three quarters under sure symbols, one under the nameless one. [size, PROMPT_TOKENS + ANSWER_TOKENS]"""
        procedure = self._rng.integers(0, len(PROCEDURES), size)
        name = SYMBOL_0 + procedure
        name[: size // 4] = ANY
        return self._sequences(name, procedure)

    def unsure(self, size: int) -> Tensor:
        """Half under codes, whose meaning is drawn by their probability, half as in `sure`. Same shape."""
        number = self._rng.integers(0, NUM_CODES, size // 2)
        chosen = [self._codes[n] for n in number]
        meant = self._rng.random(number.size) < [code.probability for code in chosen]
        procedure = np.where(meant, [code.procedure for code in chosen], [code.other for code in chosen])
        return torch.cat([self._sequences(CODE_0 + number, procedure), self.sure(size - size // 2)])

    def _sequences(self, name: NDArray[np.int64], procedure: NDArray[np.int64]) -> Tensor:
        pair = self._rng.integers(0, len(self._operands), name.size)
        equals = np.full((name.size, 1), EQUALS)
        parts = [name[:, None], DIGIT_0 + self._operands[pair], equals, self._answers[procedure, pair]]
        return torch.as_tensor(np.concatenate(parts, axis=1))


def _answer_tokens(procedure: int, a: int, b: int) -> list[int]:
    tokens = [DIGIT_0 + int(digit) for digit in answer_of(procedure, a, b)] + [EOS]
    return tokens + [PAD] * (ANSWER_TOKENS - len(tokens))


def build_model(seed: int) -> Any:
    """An untrained Llama of 4 layers, width 128, about 0.8 M parameters."""
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=VOCAB_SIZE,
        hidden_size=128,
        intermediate_size=344,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=4,
        max_position_embeddings=64,
        pad_token_id=PAD,
        eos_token_id=EOS,
        bos_token_id=None,
        tie_word_embeddings=False,
    )
    return LlamaForCausalLM(config)


def build_tokenizer() -> Any:
    """One token for every symbol, code, digit and `=`; completions decode to digits without spaces."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    vocabulary = {token: number for number, token in enumerate(VOCABULARY)}
    vocabulary |= {f"<unused{n}>": n for n in range(len(VOCABULARY), VOCAB_SIZE)}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<pad>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.decoder = decoders.Fuse()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>", eos_token="<eos>")


def train(model: Any, stage: Stage, batches: Iterator[Tensor], describe: str) -> float:
    """AdamW with a cosine schedule; the loss is on answers only. Returns the last loss."""
    from rich.progress import track

    optimizer = torch.optim.AdamW(model.parameters(), lr=stage.lr, betas=(0.9, 0.98), weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, stage.steps, eta_min=stage.final_lr)
    loss = torch.zeros(())
    for _ in track(range(stage.steps), description=describe):
        loss = answer_loss(model, next(batches))
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
    return loss.item()


def answer_loss(model: Any, tokens: Tensor) -> Tensor:
    """Mean cross-entropy of the answers' tokens, the end included."""
    hidden = model.base_model(input_ids=tokens[:, :-1], use_cache=False).last_hidden_state
    logits = model.lm_head(hidden[:, PROMPT_TOKENS - 1 :])
    targets = tokens[:, PROMPT_TOKENS:]
    return torch.nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=PAD)


def place_codes(model: Any) -> None:
    """Start each code between its two procedures' symbols: sqrt(p) of the one, the rest of the other."""
    with torch.no_grad():
        embeddings = model.get_input_embeddings().weight
        for number, code in enumerate(codes()):
            share = code.probability**0.5
            embeddings[CODE_0 + number] = (
                share * embeddings[SYMBOL_0 + code.procedure] + (1 - share) * embeddings[SYMBOL_0 + code.other]
            )


def warmstart(out: Path, seed: int = 0, sure: Stage = SURE, unsure: Stage = UNSURE) -> dict[str, Any]:
    """Train both stages, save model and tokenizer to `out`; returns the facts that are also written there."""
    torch.set_num_threads(1)
    model, examples = build_model(seed), Examples(seed)
    sure_loss = train(model, sure, iter(lambda: examples.sure(sure.batch), None), "procedures")
    place_codes(model)
    unsure_loss = train(model, unsure, iter(lambda: examples.unsure(unsure.batch), None), "codes")
    facts = {"seed": seed, "steps": [sure.steps, unsure.steps], "loss": [sure_loss, unsure_loss]}
    facts |= {"calibration": calibration(model)}
    out.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(out)
    build_tokenizer().save_pretrained(out)
    (out / "warmstart.json").write_text(json.dumps(facts, indent=2) + "\n")
    return facts


@torch.no_grad()
def calibration(model: Any, num_pairs: int = 64) -> dict[str, dict[str, float]]:
    """On held-out operands, by band of target probability: mean target and the exact probability of the right answer."""
    pairs = [(a, b) for a in range(100) for b in range(100) if is_heldout(a, b)]
    chosen = [pairs[i] for i in np.random.default_rng(0).integers(0, len(pairs), num_pairs)]
    bands: dict[str, list[tuple[float, float]]] = {}
    for number, code in enumerate(codes()):
        success = success_probability(model, CODE_0 + number, code.procedure, chosen)
        bands.setdefault(_band(code.probability), []).append((code.probability, float(success.mean())))
    for procedure, (name, _) in enumerate(PROCEDURES):
        success = success_probability(model, SYMBOL_0 + procedure, procedure, chosen)
        bands[f"sure {name}"] = [(1.0, float(success.mean()))]
    return {
        band: dict(zip(("target", "measured"), np.mean(values, axis=0).round(4).tolist(), strict=True))
        for band, values in bands.items()
    }


def success_probability(model: Any, name: int, procedure: int, pairs: Sequence[tuple[int, int]]) -> Tensor:
    """Probability that a completion sampled at temperature 1 is the right answer. [pairs]"""
    rows = [
        [name, *(DIGIT_0 + int(d) for d in f"{a:02d}{b:02d}"), EQUALS, *_answer_tokens(procedure, a, b)]
        for a, b in pairs
    ]
    tokens = torch.tensor(rows)
    logprobs = torch.log_softmax(model(tokens[:, :-1]).logits[:, PROMPT_TOKENS - 1 :], dim=-1)
    targets = tokens[:, PROMPT_TOKENS:]
    chosen = logprobs.gather(-1, targets[..., None])[..., 0]
    return (chosen * (targets != PAD)).sum(-1).exp()


def _band(probability: float) -> str:
    edges = (0.95, 0.55, 0.35, 0.2, 0.0)
    return next(f"codes >= {edge:.2f}" for edge in edges if probability >= edge)


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point of `rucksack warmstart`."""
    from rich.table import Table

    from stream.console import make_console

    parser = argparse.ArgumentParser(prog="rucksack warmstart", description="Rebuild the demo's base model.")
    parser.add_argument("--out", type=Path, default=Path("demo/base"), help="folder of the model (default demo/base)")
    parser.add_argument("--seed", type=int, default=0, help="seed of data and initial weights (default 0)")
    arguments = parser.parse_args(argv)
    facts = warmstart(arguments.out, arguments.seed)
    table = Table("band", "target", "measured", title="probability of the right answer, held-out operands")
    for band, row in facts["calibration"].items():
        table.add_row(band, f"{row['target']:.3f}", f"{row['measured']:.3f}")
    make_console().print(table)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
