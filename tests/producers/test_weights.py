import json
import shutil
from math import prod

import pytest
from tiny_models import make_model

from producers import process
from producers.weights import check_fit, read_tensors
from stream.errors import UserError


def test_names_and_shapes_are_those_of_the_model(model_folder):
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(model_folder)
    assert read_tensors(model_folder) == {name: tuple(value.shape) for name, value in model.state_dict().items()}
    assert sum(map(prod, read_tensors(model_folder).values())) == model.num_parameters()


def test_no_model_and_no_weights_are_named(tmp_path):
    with pytest.raises(UserError, match=r"no config\.json"):
        read_tensors(tmp_path / "missing")
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(UserError, match=r"has no \*\.safetensors file"):
        read_tensors(tmp_path)


@pytest.mark.parametrize("damage", ["cut", "empty", "header", "huge_header"])
def test_a_damaged_file_is_refused(model_folder, tmp_path, damage):
    folder = tmp_path / "copy"
    shutil.copytree(model_folder, folder)
    file = folder / "model.safetensors"
    data = file.read_bytes()
    file.write_bytes(
        {"cut": data[:-1], "empty": b"", "header": data[:8] + b"}" + data[9:], "huge_header": b"\xff" * 8 + data[8:]}[
            damage
        ]
    )
    with pytest.raises(UserError, match=r"model\.safetensors' is broken"):
        read_tensors(folder)


def test_weights_of_another_model_do_not_fit(model_folder, tmp_path):
    other = make_model(tmp_path / "wide", seed=0, width=64)
    with pytest.raises(UserError, match=r"do not fit the served model: \d+ tensors differ, first lm_head\.weight"):
        check_fit(read_tensors(model_folder), read_tensors(other), other)


def test_sharded_weights_are_read_together(model_folder, tmp_path):
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(model_folder)
    model.save_pretrained(tmp_path, max_shard_size="20KB")
    assert len(list(tmp_path.glob("*.safetensors"))) > 1
    assert read_tensors(tmp_path) == read_tensors(model_folder)
    assert json.loads((tmp_path / "config.json").read_text())["vocab_size"] == 32


@pytest.mark.parametrize(
    ("version", "fits"), [("0.31.9", False), ("0.32.0", True), ("0.100.1+cpu", True), ("1.0", True)]
)
def test_a_vllm_that_does_not_label_tokens_is_refused_in_one_line(monkeypatch, version, fits):
    monkeypatch.setattr(process, "_installed", lambda: ("vllm", version))
    if fits:
        process.require_vllm()
    else:
        with pytest.raises(UserError, match=r"vLLM is 0\.31\.9; want 0\.32 or newer: pip install 'vllm>=0\.32'"):
            process.require_vllm()


def test_no_vllm_is_said_in_one_line(monkeypatch):
    monkeypatch.setattr(process, "_installed", lambda: None)
    with pytest.raises(UserError, match=r"vLLM is not installed; want 0\.32 or newer"):
        process.require_vllm()
