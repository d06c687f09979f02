"""The papers' pretext tasks, in the order of their method sections."""

from matpac.pretrain.objective import Objective, ObjectiveConfig, PretextOutput, Temperatures

__all__ = ["Objective", "ObjectiveConfig", "PretextOutput", "Temperatures"]
