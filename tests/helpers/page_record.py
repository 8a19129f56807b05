"""A plausible record of a layer-by-layer comparison, as long as that of a D0, in which one layer differs."""

import random
from typing import Any

LAYERS = 340
BROKEN = 57


def check(error: float | None, limit: float, noise: tuple[float, float] | None = None) -> dict[str, Any]:
    """One check as the comparison records it."""
    sides = None if noise is None else {"candidate": noise[0], "reference": noise[1], "estimated": False}
    rms = None if error is None else error / 5
    ok = error is not None and error <= limit
    return {"ok": ok, "error": error, "rms": rms, "cosine": 0.9999999, "ulp": 12.0, "limit": limit,
            "times_bound": None, "noise": sides}  # fmt: skip


def layer_names() -> list[str]:
    """Names in the order of execution, as long and as many as a D0 has."""
    backbone = [
        f"backbone.blocks.{i // 8}.{('expand', 'depthwise', 'squeeze', 'project')[i // 2 % 4]}" for i in range(140)
    ]
    bifpn = [f"bifpn.cells.{i // 40}.nodes.{i // 5 % 8}.fuse" for i in range(110)]
    heads = [f"{('class_head', 'box_head')[i // 45]}.hidden.{i // 5 % 3}.norm" for i in range(90)]
    return [f"{name}.{i % 5}" for i, name in enumerate(backbone + bifpn + heads)]


def make_row(name: str, index: int, chance: random.Random) -> dict[str, Any]:
    """A plausible layer: error grows with depth; from BROKEN on, float64 shows that an algorithm differs."""
    growth = 1 + index / 25
    noise = (6e-8 * growth * chance.uniform(0.7, 1.6), 7e-8 * growth * chance.uniform(0.7, 1.6))
    broken = index == BROKEN
    checks = {
        "float64 accumulated": check(chance.uniform(1, 9) * (1e-3 if index >= BROKEN else 1e-15 * growth), 1e-9),
        "float64 local": check(3.1e-3 if broken else chance.choice([0.0, 2e-16, 5e-16]), 1e-9),
        "float32 accumulated": check(
            chance.uniform(1, 3) * (2e-3 if index >= BROKEN else max(noise)), 4 * max(noise), noise
        ),
        "float32 local": check(3.1e-3 if broken else chance.choice([0.0, 1.2e-7, 3e-7]), 8e-7, (1e-7, 2e-7)),
    }
    side = max(4, 256 >> (index // 60))
    cells = min(side, 32)
    heat = [
        [abs(chance.gauss(0, 1e-7)) + (1e-3 if column >= cells - 2 else 0) for column in range(cells)]
        for _ in range(cells)
    ]
    counts = [int(40000 * 2.7 ** -((bin - 20 - index / 60) ** 2 / 30)) for bin in range(32)]
    return {
        "layer": name, "official": f"efficientnet-b0/{name.replace('.', '/')}/Conv2D",
        "shape": [1, side, side, 16 + index],
        "ok": not broken, "fault": "", "checks": checks, "soundness": {},
        "histogram": {"check": "float32 accumulated", "low": -18.0, "width": 0.5, "counts": counts,
                      "zeros": 123 + index},
        "heat": {"check": "float32 accumulated", "values": heat},
    }  # fmt: skip


def make_record() -> dict[str, Any]:
    """The record of such a comparison, the same each time."""
    chance = random.Random(0)
    rows = [make_row(name, index, chance) for index, name in enumerate(layer_names())]
    broken = rows[BROKEN]["layer"]
    gradients = [
        {"variable": f"{row['layer']}.weight", "official": "", "shape": [3, 3, 8, 8], "ok": index != 4, "fault": "",
         "checks": {"float64": check(1e-2 if index == 4 else 1e-14, 1e-9), "float32": check(2e-7 * index, 1e-5)}}
        for index, row in enumerate(rows[:30])
    ]  # fmt: skip
    return {
        "model": "efficientdet-d0", "ok": False, "first_failure": broken,
        "verdict": f"1 of {LAYERS} layers differs; first: {broken} (float64 local 3.1e-3, limit 1.0e-9)",
        "reference": {"kind": "tensorflow", "label": "TensorFlow 2.21.0, official computation"},
        "candidate": {"label": "effconv 0.1, torch 2.13.0"},
        "images": {"label": "noise, seed 0", "shape": [1, 3, 512, 512]}, "rows": rows,
        "tensors": None, "unexercised": [], "backward": gradients,
        "explanations": [
            {"change": "batch-norm-epsilon", "summary": "batch norm eps 1e-5 instead of 1e-3", "explains": True,
             "first_failure_after": None, "from_layer": "backbone.stem.norm", "side": "reference"},
            {"change": "same-padding", "summary": "the odd pixel at top and left", "explains": False,
             "first_failure_after": rows[0]["layer"], "from_layer": rows[0]["layer"], "side": "reference"},
        ],
        "provenance": {"command": "effconv parity --layerwise --model d0", "git_commit": "0" * 40, "seed": 0,
                       "device": "cpu", "versions": {"torch": "2.13.0", "tensorflow": "2.21.0"},
                       "checkpoint": {"fingerprint": "ab" * 32}},
    }  # fmt: skip
