"""rdvla_bench measures vision-language-action policies whose compute varies: success, and what it cost to think."""

from rdvla_bench.policy import HorizonRule, Policy, PolicyCard, WholeChunk
from rdvla_bench.protocol import ProtocolCard, protocol
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
