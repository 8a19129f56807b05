"""The one guard of everything that resumes."""

import pytest

from effconv.parity.same_run import changes, shown

RUN = {"batch": 4, "config": {"name": "d0", "image_size": [512, 512]}, "image": {"name": "a.jpg"}}


def test_the_same_run_differs_in_nothing() -> None:
    assert changes({**RUN, "config": dict(RUN["config"])}, RUN) == []


@pytest.mark.parametrize(
    ("earlier", "found"),
    [
        ({**RUN, "batch": 8}, ["batch was 8, now 4"]),
        # Two settings of one name, in two places.
        ({**RUN, "image": {"name": "b.jpg"}}, ["name was 'b.jpg', now 'a.jpg'"]),
        ({**RUN, "seed": 1}, ["seed was 1, now None"]),
        ({name: RUN[name] for name in ("batch", "config")}, ["name was None, now 'a.jpg'"]),
        ([1], ["batch was None, now 4", "name was None, now 'd0'", "image_size was None, now [512, 512]"]),
    ],
)
def test_every_value_that_differs_is_named(earlier: object, found: list[str]) -> None:
    assert changes(earlier, RUN)[: len(found)] == found
    assert len(changes(earlier, RUN)) >= len(found)


def test_long_lists_are_cut() -> None:
    assert shown(["a", "b", "c", "d"]) == "a, b, c, d"
    assert shown(["a", "b", "c", "d", "e", "f"]) == "a, b, c, d, and 2 more"
