"""rdvla_bench measures vision-language-action policies whose compute varies: success, and what it cost to think."""

from importlib import import_module

from rdvla_bench.policy import HorizonRule, Policy, PolicyCard, WholeChunk
from rdvla_bench.protocol import protocol
from rdvla_bench.protocol_card import ProtocolCard
from rdvla_bench.suite import Suite, Task
from rdvla_bench.types import ActionChunk, Compute, Culprit, Episode, Observation, Outcome

__version__ = "0.1.0"

__all__ = [
    "ActionChunk",
    "Compute",
    "Culprit",
    "Episode",
    "HorizonRule",
    "Observation",
    "Outcome",
    "Policy",
    "PolicyCard",
    "ProtocolCard",
    "Suite",
    "Task",
    "WholeChunk",
    "protocol",
]

# Gymnasium 1.x loads no plug-ins: whoever imports this package finds its environments registered. Names only, no
# simulator; by name, since the core imports nothing that builds on it.
import_module("rdvla_bench.envs")
