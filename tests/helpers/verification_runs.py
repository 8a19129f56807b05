"""Records of verifications, of made-up steps."""

from collections.abc import Mapping
from typing import Any

STEPS = ("checkpoint", "dataset", "conversion", "layers", "metrics")


def verification(outcomes: Mapping[str, bool | None], **more: Any) -> dict[str, Any]:
    """A record whose steps hold but for those in `outcomes`; its metrics are as its last step says."""
    holds = {step: outcomes.get(step, True) for step in STEPS}
    rows = [{"metric": "AP", "ours": 0.3431, "published": 0.343}, {"metric": "APl", "ours": 0.2, "published": 0.5}]
    rows.append({"metric": "APs", "ours": 0.1, "published": None})
    return {
        "what": "a released model verified",
        "model": "efficientdet-d0",
        "ok": holds["metrics"] is True and False not in holds.values(),
        "steps": [{"name": step, "holds": each, "verdict": f"found of {step}"} for step, each in holds.items()],
        "metrics": {
            "published": {"holds": holds["metrics"], "rows": rows},
            "conditions": {"nms": "soft", "images": 5000},
        },
        "provenance": {"command": "effconv verify --model d0", "effconv": "0.1.0", "git_commit": "abc"},
        **more,
    }
