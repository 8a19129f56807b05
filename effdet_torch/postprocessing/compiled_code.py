"""Compiled code of postprocessing, loaded before it is needed: beside a network that needs no interpreter meanwhile."""

import numpy as np

from .suppression import OFFICIAL


def load_compiled() -> None:
    """Import numba and load what chooses candidates and boxes of float32 outputs, in both orders that they lie in.

    It compiles what is not kept on disk yet. What it is tried on is one position of one anchor and class.
    """
    from .lazy_heap import choose
    from .top_pairs import Level, top_pairs

    for channels_last in (True, False):
        top_pairs([Level(np.zeros((1, 1), np.int32), channels_last)], 1, 1, 1)
    box, score, index = np.zeros((1, 4), np.float32), np.zeros(1, np.float32), np.zeros(1, np.int64)
    limits = np.float32(OFFICIAL.iou_threshold), np.float32(OFFICIAL.score_threshold)
    choose(box, score, index, index, 1, OFFICIAL.decay, *limits, index.copy(), score.copy())
