"""Label splits for the examples: a test set, and a training set with few labels."""

from sklearn.model_selection import train_test_split

from pnl_sklearn.model_selection import hide_labels


def make_label_split(X, y, n_labeled, seed):
    """Split off a test set and hide most labels of the training set.

    The test set holds 30 % of the samples of each class. Each class keeps the same
    number of labels. The label -1 means "unlabeled".

    Parameters
    ----------
    X : array of shape (n_samples, ...)
    y : array of shape (n_samples,)
    n_labeled : int
        Number of labels to keep.
    seed : int
        Identifies the label split: the same seed gives the same samples and labels.

    Returns
    -------
    X_train, X_test, y_train, y_test : arrays
        As `train_test_split` returns them.
    y_few : array of shape (n_train,)
        Copy of `y_train` with -1 where the label is hidden.
    """
    X_train, X_test, y_train, y_test = train_test_split(
        X, y, test_size=0.3, stratify=y, random_state=seed
    )
    y_few = hide_labels(y_train, n_labeled, random_state=seed)
    return X_train, X_test, y_train, y_test, y_few
