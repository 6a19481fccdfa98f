"""Losses of the student, computed in float32.

Each function takes logits of any floating dtype and returns a scalar. It is finite for
finite logits, and 0 for an empty batch.
"""

import torch
from torch import Tensor
from torch.nn import functional as F


def negative_learning_loss(logits: Tensor, negatives: Tensor) -> Tensor:
    """Negative learning loss: -log(1 - p_k), averaged over negative labels and samples.

    For each sample, the mean of -log(1 - p_k) over its negative labels k is computed.
    The loss is the mean over all samples, in nats. A sample without negative labels
    contributes 0.

    Parameters
    ----------
    logits : Tensor of shape (n_samples, n_classes)
        Scores of the student before the softmax.
    negatives : bool Tensor of shape (n_samples, n_classes)
        True where the class is a negative label of the sample.

    Returns
    -------
    loss : float32 Tensor of shape ()

    References
    ----------
    Y. Kim et al., "NLNL: Negative Learning for Noisy Labels", ICCV 2019, eq. 2;
    H. Xu et al., "Semi-Supervised Learning with Pseudo-Negative Labels for Image
    Classification", Knowledge-Based Systems 260, 2023.

    Examples
    --------
    >>> import torch
    >>> from pnl_sklearn.objectives import negative_learning_loss
    >>> logits = torch.tensor([[0.5, 0.3, 0.2]]).log()
    >>> negative_learning_loss(logits, torch.tensor([[False, False, True]]))
    tensor(0.2231)
    """
    per_class = -_log_not(logits.float()).masked_fill(~negatives, 0.0)
    n_negatives = negatives.sum(dim=1).clamp(min=1)
    return _mean(per_class.sum(dim=1) / n_negatives)


def candidate_loss(logits: Tensor, negatives: Tensor) -> Tensor:
    """Candidate loss: -log of the total probability of the candidates of a sample.

    The candidates are the classes that are not negative labels. The loss is the mean
    over all samples, in nats. It is the cross-entropy if there is one candidate, and 0
    if no class is a negative label.

    Parameters
    ----------
    logits : Tensor of shape (n_samples, n_classes)
        Scores of the student before the softmax.
    negatives : bool Tensor of shape (n_samples, n_classes)
        True where the class is a negative label of the sample. Each sample has at least
        one candidate.

    Returns
    -------
    loss : float32 Tensor of shape ()

    References
    ----------
    R. Jin and Z. Ghahramani, "Learning with Multiple Labels", NIPS 2002.

    Examples
    --------
    >>> import torch
    >>> from pnl_sklearn.objectives import candidate_loss
    >>> logits = torch.tensor([[0.5, 0.3, 0.2]]).log()
    >>> candidate_loss(logits, torch.tensor([[False, False, True]]))
    tensor(0.2231)
    """
    logits = logits.float()
    candidates = logits.masked_fill(negatives, -torch.inf)
    return _mean(logits.logsumexp(dim=1) - candidates.logsumexp(dim=1))


def balance_loss(
    logits: Tensor, prior: Tensor, running_mean: Tensor | None = None
) -> Tensor:
    """Kullback-Leibler divergence KL(prior || mean prediction), in nats.

    It regularizes the mean prediction towards the class prior. A running mean over
    batches has less noise than the mean of one batch. If it is given, the divergence is
    that of the running mean, and its gradient is computed as if the running mean were
    the mean of the batch.

    Parameters
    ----------
    logits : Tensor of shape (n_samples, n_classes)
        Scores of the student before the softmax.
    prior : Tensor of shape (n_classes,)
        Class prior, which sums to 1.
    running_mean : Tensor of shape (n_classes,), default=None
        Mean prediction over this and earlier batches. None takes the mean of this
        batch. Entries below 0.001 / n_classes are clipped.

    Returns
    -------
    loss : float32 Tensor of shape ()

    Examples
    --------
    >>> import torch
    >>> from pnl_sklearn.objectives import balance_loss
    >>> logits = torch.tensor([[0.9, 0.1], [0.7, 0.3]]).log()
    >>> balance_loss(logits, prior=torch.tensor([0.5, 0.5]))
    tensor(0.2231)
    """
    if not len(logits):
        return logits.float().sum()
    batch_mean = logits.float().softmax(dim=1).mean(dim=0)
    mean = batch_mean if running_mean is None else running_mean
    mean = mean.detach().clamp_min(1e-3 / len(prior))
    mean = mean + (batch_mean - batch_mean.detach())
    return (torch.xlogy(prior, prior) - torch.xlogy(prior, mean)).sum()


def consistency_loss(logits: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
    """Weighted mean squared difference between probabilities and their targets.

    Each term is the mean over samples of the weight times the mean squared difference
    over classes. The loss is the sum of the terms.

    Parameters
    ----------
    logits : Tensor of shape (n_samples, n_classes)
        Scores of the student before the softmax.
    targets : Tensor of shape (n_terms, n_samples, n_classes)
        Target probabilities. No gradient is computed for them.
    weights : Tensor of shape (n_terms, n_samples)
        Weight of each sample in each term.

    Returns
    -------
    loss : float32 Tensor of shape ()

    References
    ----------
    A. Tarvainen and H. Valpola, "Mean teachers are better role models", NIPS 2017.

    Examples
    --------
    >>> import torch
    >>> from pnl_sklearn.objectives import consistency_loss
    >>> logits = torch.tensor([[0.5, 0.5]]).log()
    >>> consistency_loss(logits, torch.tensor([[[1.0, 0.0]]]), torch.tensor([[1.0]]))
    tensor(0.2500)
    """
    difference = logits.float().softmax(dim=1) - targets.detach()
    return _mean((weights * difference.square().mean(dim=2)).sum(dim=0))


def supervised_loss(logits: Tensor, labels: Tensor, weights: Tensor) -> Tensor:
    """Weighted cross-entropy: the mean over samples of weight times cross-entropy.

    Parameters
    ----------
    logits : Tensor of shape (n_samples, n_classes)
        Scores of the student before the softmax.
    labels : int64 Tensor of shape (n_samples,)
        Class codes.
    weights : float Tensor of shape (n_samples,)
        Weight of each sample.

    Returns
    -------
    loss : float32 Tensor of shape ()

    Examples
    --------
    >>> import torch
    >>> from pnl_sklearn.objectives import supervised_loss
    >>> logits = torch.tensor([[0.5, 0.5]]).log()
    >>> supervised_loss(logits, torch.tensor([0]), torch.tensor([1.0]))
    tensor(0.6931)
    """
    return _mean(weights * F.cross_entropy(logits.float(), labels, reduction="none"))


def _mean(values: Tensor) -> Tensor:
    return values.sum() / max(len(values), 1)


def _log_not(logits: Tensor) -> Tensor:
    """Compute log(1 - softmax(logits)), accurately if a probability rounds to 1.

    Cancellation is possible for the largest probability only. Its complement is the sum
    of the other probabilities, which logsumexp computes without cancellation.
    """
    largest = torch.zeros_like(logits, dtype=torch.bool)
    largest.scatter_(1, logits.argmax(dim=1, keepdim=True), True)
    log_sum = logits.logsumexp(dim=1, keepdim=True)
    rest = logits.masked_fill(largest, -torch.inf).logsumexp(dim=1, keepdim=True)
    # The entries filled with 0 are not used. They keep the gradient of log1p finite.
    others = torch.log1p(-(logits - log_sum).exp().masked_fill(largest, 0.0))
    return torch.where(largest, rest - log_sum, others)
