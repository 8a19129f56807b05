"""What is loaded before it is needed is what postprocessing then calls: nothing is compiled at the first image."""

import subprocess
import sys

PROGRAM = """
import torch
from effconv.effdet_torch.config import get_config
from effconv.effdet_torch.postprocessing.anchors import feature_sizes
from effconv.effdet_torch.postprocessing.compiled_code import load_compiled
from effconv.effdet_torch.postprocessing.postprocess import per_class

load_compiled()
from effconv.effdet_torch.postprocessing import lazy_heap, top_pairs
functions = [top_pairs.best_of_rows, top_pairs.best_of_columns, top_pairs.collect_rows, top_pairs.collect_columns]
functions.append(lazy_heap.choose)
print([len(each.signatures) for each in functions])
config = get_config("lite0")
for layout in (torch.contiguous_format, torch.channels_last):
    levels = feature_sizes(config)
    classes, boxes = (
        [torch.randn(2, config.num_anchors * values, *size).contiguous(memory_format=layout) for size in levels]
        for values in (config.num_classes, 4)
    )
    per_class(config)(classes, boxes)
print([len(each.signatures) for each in functions])
"""


def test_what_is_loaded_is_what_is_called() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["[1, 1, 1, 1, 1]"] * 2
