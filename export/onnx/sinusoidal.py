"""Positions as sines and cosines that are added to the embeddings (arXiv 1706.03762, 3.5), for text of any length."""

import math

import numpy as np
from onnx import TensorProto

from export.onnx.builder import Builder


def sinusoidal(builder: Builder, ids: str, past: str = "") -> str:
    """Positions of ids [B, S], as float32 [B, S, hidden]: all sines, then all cosines.

    They are counted from ``pad_token_id`` + 1 over the tokens that are no padding, which itself has zeros.

    Args:
        past: int64 [1], how many tokens came before.
    """
    graph, config = builder.graph, builder.config
    padding, half = config["pad_token_id"], config["d_model"] // 2
    pad = graph.constant("positions.padding", np.array(padding))
    axis, last = graph.constant("positions.axis", np.array(1)), graph.constant("positions.last", np.array([-1]))
    used = graph.node("Not", [graph.node("Equal", [ids, pad], "positions.are.padding")], "positions.are.used")
    used = graph.node("Cast", [used], "positions.used", to=TensorProto.INT64)
    steps = graph.node("CumSum", [used, axis], "positions.steps")
    if past:
        steps = graph.node("Add", [steps, past], "positions.after.past")
    place = graph.node("Add", [steps, pad], "positions.ids")
    place = graph.node("Cast", [place], "positions.float32", to=TensorProto.FLOAT)
    place = graph.node("Unsqueeze", [place, last], "positions.rows")
    exponents = np.arange(half, dtype=np.float32) * np.float32(-math.log(10000) / (half - 1))
    frequencies = graph.constant("positions.frequencies", np.exp(exponents))
    angles = graph.node("Mul", [place, frequencies], "positions.angles")
    parts = [graph.node(operator, [angles], f"positions.{operator.lower()}") for operator in ("Sin", "Cos")]
    waves = graph.node("Concat", parts, "positions.waves", axis=-1)
    shown = graph.node("Cast", [used], "positions.shown", to=TensorProto.FLOAT)
    shown = graph.node("Unsqueeze", [shown, last], "positions.shown.rows")
    return graph.node("Mul", [waves, shown], "positions")
