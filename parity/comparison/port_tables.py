"""Records of other projects' weights and networks as the Markdown of the README."""

from collections.abc import Mapping
from typing import Any

from ..rendering.markdown import markdown_table


def ports_table(record: Mapping[str, Any]) -> str:
    """`tools/record_ports.py`: a row per port, with what its own networks say of effconv's namings."""
    heading = (
        *("port", "models built", "names and shapes equal", "largest difference, float64"),
        *("smallest of a planted fault", "tensors that come back equal to the bit"),
    )
    rows = []
    for port in dict.fromkeys(row["port"] for row in record["rows"]):
        models = [row for row in record["rows"] if row["port"] == port]
        equal = sum(row["round_trip"]["equal"] for row in models)
        changed = sum(row["round_trip"]["rounded_or_folded"] for row in models)
        faults = [error for row in models for error in row["faults"].values()]
        rows.append(
            [
                port,
                len(models),
                f"{sum(row['agree'] for row in models)} of {len(models)}",
                f"{max(row['error'] for row in models):.1e}",
                f"{min(faults):.1e} ({len(faults)} planted)",
                f"{equal:,} of {equal + changed:,}",
            ]
        )
    return markdown_table(heading, rows)


def backbone_text(record: Mapping[str, Any]) -> str:
    """`tools/record_backbone.py` in a sentence."""
    rows, backbone = record["rows"], record["backbone"]
    layers, held = (sum(row[name] for row in rows) for name in ("layers", "layers_that_hold"))
    worst = max(error for row in rows for name, error in row["worst"].items() if name.startswith("float64"))
    return (
        f"Real ImageNet weights: all tensors of the backbone in `{backbone['file']}` ({backbone['names']}'s names), "
        f"{backbone['tensors']} of them, on {len(rows)} COCO photographs: {held} of {layers} layers hold, the largest "
        f"difference in float64 is {worst:.1e}, in float32 {max(row['nearest_limit'] for row in rows):.2f} of what a "
        f"sound layer may have. " + _seen(record["classification"])
    )


def _seen(record: Mapping[str, Any]) -> str:
    official, symmetric = (record["seen"][f"{name} padding"] for name in ("official", "symmetric"))
    return (
        f"A classifier made of it has the main COCO category among its five best ImageNet classes on {official} of "
        f"{record['photographs']} photographs, those whose main category ImageNet has; with symmetric padding on "
        f"{symmetric}."
    )
