"""Which network preset base trains: one for energy, one for what a room is like."""

from __future__ import annotations

from edge_agent.contract.plan import FeaturePlan
from edge_agent.contract.schema import ROLES
from trainer.climate import build_climate
from trainer.model import Network, build_base
from trainer.presets import HyperParameters


def build(plan: FeaturePlan, hyper: HyperParameters) -> Network:
    """The untrained network for the plan's target."""
    return build_base(plan, hyper) if ROLES[plan.role].kind == "energy" else build_climate(plan, hyper)
