"""Cross-validation, scores and hidden labels for partly labeled data.

scikit-learn's splitters and scorers treat -1, the mark of an unlabeled sample, as a
class. The splitter and the scorer here use labeled samples only for testing, and all
unlabeled samples for training. `hide_labels` makes a partly labeled problem of a
labeled one. They serve any semi-supervised classifier of scikit-learn's API.
"""

from ._hide_labels import hide_labels
from ._scorer import make_labeled_scorer
from ._split import SemiSupervisedSplit

__all__ = ["SemiSupervisedSplit", "hide_labels", "make_labeled_scorer"]
