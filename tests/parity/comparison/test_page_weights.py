"""What page and Markdown of a comparison say of weights by name."""

from dataclasses import replace

from effconv.parity.comparison.page import render_page, weights
from effconv.parity.comparison.records import ComparisonRecord, TensorFault, Unexercised, WeightsByName
from effconv.parity.comparison.report import comparison_markdown
from page_record import make_record

RIGHT = WeightsByName(
    compared=339, differ=(), read_by="by TensorFlow", checkpoint="model", checkpoint_fingerprint="sha256:00"
)


def test_page_and_markdown_list_weights_that_differ_and_weights_not_reached() -> None:
    record = ComparisonRecord.read(make_record())
    fault = TensorFault(tensor="stem.weight", official="stem/kernel", reason="8 of 144 values", differ=8, values=144)
    unreached = Unexercised(module="bifpn.conv", weights=8, of=9, taps=((0, 0),))
    full = replace(record, tensors=replace(RIGHT, differ=(fault,)), unexercised=(unreached,))
    for text in (render_page(full), comparison_markdown(full)):
        for part in ("339", "by TensorFlow", "stem.weight", "stem/kernel", "8 of 144 values", "bifpn.conv"):
            assert part in text
    assert "not reached" not in comparison_markdown(replace(full, unexercised=()))


def test_the_page_says_which_weights_are_not_reached_or_that_none_are() -> None:
    record = replace(ComparisonRecord.read(make_record()), tensors=RIGHT)
    unreached = weights(replace(record, unexercised=(Unexercised(module="bifpn.conv", weights=8, of=9),)))
    label = "not reached by the images"
    assert "bifpn.conv" in unreached.partition(label)[2]
    assert "none" not in unreached.partition(label)[2]
    assert "none" in weights(record).partition(label)[2]


def test_nothing_is_said_where_tensors_were_not_compared() -> None:
    assert weights(ComparisonRecord.read(make_record())) == ""
