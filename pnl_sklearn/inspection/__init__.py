"""What to trust, and what to label next, where most labels are missing."""

from ._check_unlabeled import check_pool
from ._displays import HistoryDisplay, LabelBudgetDisplay
from ._query import query
from ._suspect_labels import suspect_labels
from ._unlabeled_gain import UnlabeledGain, unlabeled_gain

__all__ = [
    "HistoryDisplay",
    "LabelBudgetDisplay",
    "UnlabeledGain",
    "check_pool",
    "query",
    "suspect_labels",
    "unlabeled_gain",
]
