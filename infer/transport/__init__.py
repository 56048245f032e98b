"""Flows of distributions along learned maps."""

from infer.transport.wasserstein_flow import WassersteinFlow as WassersteinFlow
