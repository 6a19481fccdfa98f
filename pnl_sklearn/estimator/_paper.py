"""The settings of the paper."""

from sklearn.utils._param_validation import StrOptions, validate_params
from torch.optim import SGD

from ..objectives._selection import RandomNegatives
from ..views._image import ImageView
from ..views._table import TableView
from ._classifier import PNLClassifier

_CIFAR10 = ImageView(shift=4 / 32, flip=True)
_MNIST = ImageView(shift=2 / 28, fill=(0.0,))
_DIGITS = ImageView(shift=1 / 8, fill=(0.0,))
_TABLE = TableView(noise=0.15)
_CNN13 = {"module__second_head": True}
# task -> module, view of both streams, further entries of net_params
_TASKS: dict[str, tuple] = {
    "cifar10": ("cnn13", _CIFAR10, _CNN13),
    "mnist": ("cnn13", _MNIST, _CNN13),
    "mnist_plain": ("cnn13", None, _CNN13 | {"module__noise": 0.15}),
    "digits": ("cnn", _DIGITS, {}),
    "table": ("mlp", _TABLE, {}),
}


@validate_params(
    {"task": [StrOptions(set(_TASKS))]}, prefer_skip_nested_validation=True
)
def paper_style(task="cifar10"):
    """Return a classifier with the settings of the paper.

    It learns random pseudo-negative labels and the consistency loss of Dual Student,
    and is optimized by SGD with Nesterov momentum. It has neither distribution
    alignment nor a graph posterior. Its settings are those of the paper and of the
    authors' public script, as far as these state them. See :doc:`/guide/paper`.

    Parameters
    ----------
    task : {"cifar10", "mnist", "mnist_plain", "digits", "table"}, default="cifar10"
        Kind of data. "mnist_plain" is without augmentation, "digits" is for images that
        are too small for the 13-layer network, "table" is for tables.

    Returns
    -------
    classifier : PNLClassifier
        Unfitted classifier. Set its ``random_state`` and other parameters by
        ``set_params``.

    Notes
    -----
    The public script is for CIFAR-10 with 1000 labels. Its settings are:

    =================== ==============================================================
    Optimizer           SGD, Nesterov momentum 0.9, weight decay 1e-4
    Learning rate       0.1, cosine decay to 0
    Batches             50 labeled and 50 unlabeled samples
    Epochs              100
    Selection           random, m = 2
    Negative weight     2, after a ramp-up of 16 epochs
    Consistency         Dual Student
    Both views          shifts of up to 4 pixels, and flips
    =================== ==============================================================

    The following is stated by neither the paper nor the script, or is different in this
    package:

    - The view of MNIST is shifts of up to 2 pixels. That of digits, of 8 x 8 pixels, is
      shifts of 1 pixel.
    - "mnist_plain" and tables have Gaussian noise of 0.15 standard deviations.
    - The learning rate is 0.03 for networks without weight normalization: "cnn" for
      digits and "mlp" for tables.
    - Shifts are not rounded to whole pixels.
    - The negative weight increases from nearly 0, not from 0.5.
    - Negative labels are sampled without replacement, as in the text of the paper.
    - Predictions are the mean of both submodels' probabilities, without an EMA.
    - "cnn" and "mlp" have one last layer instead of two, which Dual Student trains,
      too.
    - The weights are those of the last epoch, not of the epoch with the highest test
      accuracy.

    References
    ----------
    H. Xu, H. Xiao, H. Hao, L. Dong, X. Qiu and C. Peng, "Semi-Supervised Learning with
    Pseudo-Negative Labels for Image Classification", Knowledge-Based Systems 260, 2023,
    arXiv 2301.03976.

    Examples
    --------
    >>> from pnl_sklearn import paper_style
    >>> paper_style("cifar10").selection
    RandomNegatives()
    """
    module, view, net_params = _TASKS[task]
    sgd = {
        "optimizer__momentum": 0.9,
        "optimizer__nesterov": True,
        "optimizer__weight_decay": 1e-4,
    }
    return PNLClassifier(
        module=module,
        net_params=sgd | net_params,
        selection=RandomNegatives(n_negatives=2),
        negative_weight=2.0,
        rampup=0.16,
        exchange="simultaneous",
        consistency="dual_student",
        class_prior=None,
        graph=None,
        weak_view=view,
        strong_view=view,
        optimizer=SGD,
        lr=0.1 if module == "cnn13" else 0.03,
        max_epochs=100,
        batch_size=50,
        labeled_batch_size=50,
        ema_decay=None,
    )
