"""Which published row a run is compared with."""

import pytest

from effconv.parity.evaluation import published_rows as module
from effconv.parity.evaluation.published_rows import PublishedRow, best_published

OFFICIAL, PORT = "google/automl", "a port"


def row(system: str, nms: str, fingerprint: str | None = None, **metrics: float) -> PublishedRow:
    metrics = metrics or {"AP": 0.3}
    return PublishedRow(
        "made-up", system, "a test", "efficientdet-d0", metrics, {"nms": nms}, {"fingerprint": fingerprint}
    )


@pytest.mark.parametrize(
    ("rows", "best"),
    [
        ([row(PORT, "soft"), row(OFFICIAL, "hard")], 1),  # the official figure, although the run is as the port's was
        ([row(PORT, "hard"), row(PORT, "soft")], 1),  # where there is none, what was measured like the run
        ([row(OFFICIAL, "soft"), row(PORT, "hard", "ours")], 1),  # of this very checkpoint before all others
        ([row(OFFICIAL, "soft", "another's"), row(PORT, "soft")], 0),
        ([row(OFFICIAL, "soft"), row(OFFICIAL, "soft", AP=0.3, AP50=0.5), row(OFFICIAL, "soft")], 1),  # most metrics
        ([row(OFFICIAL, "soft", AP50=0.5)], None),
        ([], None),
    ],
)
def test_a_run_is_compared_with_its_own_row_or_the_official_one(
    rows: list[PublishedRow], best: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "published_rows", lambda: tuple(rows))
    found = best_published("efficientdet-d0", "ours", {"nms": "soft"})
    assert found is (None if best is None else rows[best])
