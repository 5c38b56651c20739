"""What a network costs under any plan, as functions of its widths.

>>> from ranp import cost, models
>>> from ranp.graph.build import trace
>>> import numpy as np, torch
>>> graph = trace(models.build("unet3d", base_width=4, depth=2), torch.zeros(1, 1, 8, 8, 8))
>>> cost.compile(graph)(np.ones(graph.count, dtype=bool)).params
3366
"""

from ranp.cost._bench import Setting, Timing, settings_on, time_setting
from ranp.cost._checking import CrossCheck, cross_check
from ranp.cost._costs import CONVENTIONS, CostFunction, Costs, Meter, ModuleCosts, compile, counted_by_default
from ranp.cost._fitting import largest
from ranp.cost._latency import Latency, measure_latency, synchronise
from ranp.cost._measured import MeasuredMemory, measure_training_memory
from ranp.cost._peak import Peak
from ranp.cost._table import LatencyTable, Timer, stopwatch
from ranp.cost._training import (
    PARTS,
    Step,
    TrainingMemory,
    inference_peak,
    mean_of_outputs,
    peak_training_memory,
    training_peak,
)

__all__ = [
    "CONVENTIONS",
    "PARTS",
    "CostFunction",
    "Costs",
    "CrossCheck",
    "Latency",
    "LatencyTable",
    "MeasuredMemory",
    "Meter",
    "ModuleCosts",
    "Peak",
    "Setting",
    "Step",
    "Timer",
    "Timing",
    "TrainingMemory",
    "compile",
    "counted_by_default",
    "cross_check",
    "inference_peak",
    "largest",
    "mean_of_outputs",
    "measure_latency",
    "measure_training_memory",
    "peak_training_memory",
    "settings_on",
    "stopwatch",
    "synchronise",
    "time_setting",
    "training_peak",
]
