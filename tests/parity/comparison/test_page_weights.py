"""What page and Markdown of a comparison say of weights by name."""

from browsers import needs_plotly
from effconv.parity.comparison.page import render_page, weights
from effconv.parity.comparison.report import comparison_markdown
from page_record import make_record


@needs_plotly
def test_page_and_markdown_list_weights_that_differ_and_weights_not_reached() -> None:
    record = make_record()
    fault = {
        "tensor": "stem.weight",
        "official": "stem/kernel",
        "reason": "8 of 144 values",
        "differ": 8,
        "values": 144,
    }
    tensors = {"compared": 339, "differ": [fault], "read_by": "by TensorFlow"}
    unreached = [{"module": "bifpn.conv", "weights": 8, "of": 9, "taps": [[0, 0]]}]
    full = record | {"tensors": tensors, "unexercised": unreached}
    for text in (render_page(full), comparison_markdown(full)):
        for part in ("339", "by TensorFlow", "stem.weight", "stem/kernel", "8 of 144 values", "bifpn.conv"):
            assert part in text
    assert "not reached" not in comparison_markdown(full | {"unexercised": []})


def test_the_page_says_which_weights_are_not_reached_or_that_none_are() -> None:
    tensors = {"compared": 339, "differ": [], "read_by": "by TensorFlow"}
    unreached = weights({"tensors": tensors, "unexercised": [{"module": "bifpn.conv"}]})
    label = "not reached by the images"
    assert "bifpn.conv" in unreached.partition(label)[2]
    assert "none" not in unreached.partition(label)[2]
    assert "none" in weights({"tensors": tensors, "unexercised": []}).partition(label)[2]
