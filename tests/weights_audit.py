"""Recomputes what tokens were sampled with, from weights that are rebuilt from the log."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from transformers import AutoModelForCausalLM

from stream.broker import Broker
from stream.messages import Trajectory
from stream.rebuild import NoSuchVersion, Versions
from stream.weights import State


@dataclass
class Audit:
    """How far the recorded logprobs are from those of the version that the tokens are labelled with, at most."""

    largest_gap: float = 0.0
    largest_gap_elsewhere: float = 0.0
    """The same against the version before: what a wrong label would look like."""
    versions: tuple[int, ...] = ()
    num_tokens: int = 0
    num_skipped: int = 0
    """Trajectories whose version the log does not cover."""


def audit(broker: Broker, run: str, base: Path, trajectories: Sequence[Trajectory]) -> Audit:
    """Trajectories of one version each, sampled at temperature 1 from the whole vocabulary."""
    versions, result = Versions(broker, run), Audit()
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32).eval()
    seen: set[int] = set()
    for trajectory in sorted(trajectories, key=lambda t: t.min_policy_version):
        version = trajectory.min_policy_version
        try:
            gap = _gap(model, versions.state(version), trajectory)
        except NoSuchVersion:
            result.num_skipped += 1
            continue
        seen.add(version)
        result.num_tokens += trajectory.token_ids.size
        result.largest_gap = max(result.largest_gap, gap)
        earlier = [other for other in seen if other < version]
        if earlier:
            other = _gap(model, versions.state(max(earlier)), trajectory)
            result.largest_gap_elsewhere = max(result.largest_gap_elsewhere, other)
    result.versions = tuple(sorted(seen))
    return result


def _gap(model: torch.nn.Module, state: State, trajectory: Trajectory) -> float:
    weights = {
        name: torch.from_numpy(tensor.bits.view(f"<i{tensor.bits.itemsize}"))
        .view(getattr(torch, tensor.dtype))
        .view(tensor.shape)
        for name, tensor in state.tensors.items()
    }
    missing = model.load_state_dict(weights, strict=False)
    assert missing.unexpected_keys == []
    prompt = trajectory.job.prompt_token_ids
    tokens = torch.tensor(np.concatenate([prompt, trajectory.token_ids]).astype(np.int64))
    with torch.no_grad():
        logits = model(tokens[None]).logits[0, len(prompt) - 1 : -1].float()
    logprobs = torch.log_softmax(logits, -1).gather(-1, tokens[len(prompt) :, None])[:, 0].numpy()
    return float(np.abs(logprobs - trajectory.behavior_logprobs).max())
