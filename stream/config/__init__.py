"""Holds the configuration: one TOML file per recipe, one table per role, every key overridable on the command line.

load("configs/demo.toml", ["--learner.lr", "3e-4"])
"""

from stream.config.allocator import AllocatorTable
from stream.config.broker import BrokerTable
from stream.config.evaluator import EvaluatorTable
from stream.config.help import help_text
from stream.config.learner import LearnerTable
from stream.config.load import load
from stream.config.objective import Objective
from stream.config.producer import ProducerTable
from stream.config.prompts import PromptsTable
from stream.config.recipe import Config
from stream.config.run import RunTable
from stream.config.sampling import SamplingTable
from stream.config.tracking import TrackingTable
from stream.config.up import UpTable
from stream.config.verifier import VerifierTable

__all__ = [
    "AllocatorTable",
    "BrokerTable",
    "Config",
    "EvaluatorTable",
    "LearnerTable",
    "Objective",
    "ProducerTable",
    "PromptsTable",
    "RunTable",
    "SamplingTable",
    "TrackingTable",
    "UpTable",
    "VerifierTable",
    "help_text",
    "load",
]
