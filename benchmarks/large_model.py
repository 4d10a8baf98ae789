"""Makes a model of 1.4 B random weights with SmolLM2's tokenizer, to see how a run of that size behaves: what it samples is noise.

    python -m benchmarks.large_model models/random-1.4b [--from models/smollm2-135m-instruct]

Llama's layers at the size of Qwen2.5-1.5B, the vocabulary of the tokenizer; bfloat16, 2.7 GB.
"""

import argparse
from pathlib import Path
from typing import Any

import torch


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--from", dest="source", type=Path, default=Path("models/smollm2-135m-instruct"))
    options = parser.parse_args()
    from transformers import AutoConfig, AutoTokenizer, LlamaConfig, LlamaForCausalLM

    small, tokenizer = AutoConfig.from_pretrained(options.source), AutoTokenizer.from_pretrained(options.source)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=small.vocab_size, hidden_size=1536, intermediate_size=8960, num_hidden_layers=28, num_attention_heads=12,
        num_key_value_heads=2, max_position_embeddings=8192, tie_word_embeddings=True, bos_token_id=small.bos_token_id,
        eos_token_id=small.eos_token_id, pad_token_id=small.pad_token_id,
    )  # fmt: skip
    with torch.device("cuda" if torch.cuda.is_available() else "cpu"):
        model: Any = LlamaForCausalLM(config)
    model.to(torch.bfloat16).save_pretrained(options.folder)
    tokenizer.save_pretrained(options.folder)


if __name__ == "__main__":
    main()
