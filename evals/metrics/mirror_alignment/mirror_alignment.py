"""Option probabilities against real choices, as an `evaluate` module; alone on purpose, so that it can be a Space.

The formulas are those of `hf_mirror.metrics`, and a test holds the two together.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import datasets
import evaluate
import numpy as np

_DESCRIPTION = """\
How well a model's probabilities over a scene's options agree with what the user really chose: accuracy, log-loss and
their kin over scenes with any number of options, each scene counting once, failures included.
"""

_KWARGS_DESCRIPTION = """
Args:
    predictions: per scene a list of K probabilities, one per option; an empty list is a failure.
    references: per scene the index of the option that was chosen.
    users: per scene its user (any hashable), for intervals; optional.
    logits: whether predictions are logits over the options instead, of which softmax makes probabilities.
Returns:
    accuracy: 1 where the chosen option has the largest probability, 1/|ties| where it shares it; failures 0.
    expected_accuracy: the probability of the chosen option; failures 0.
    log_loss: -ln p(chosen) in nats; a failure costs ln K or the mean of the scored scenes, whichever is larger.
    brier: sum over options of (p - [chosen])^2; a failure costs 1 - 1/K or the mean, whichever is larger.
    chance_centred_accuracy: (accuracy - 1/K) / (1 - 1/K): 0 is chance, 1 perfect.
    mcfadden_r2_uniform: 1 - log_loss / mean ln K.
    coverage: the share of scenes with probabilities.
    n_scenes: how many scenes.
    accuracy_low, accuracy_high, log_loss_low, log_loss_high: with `users`, 95 % intervals, mean +- t * error with
        whole users as clusters; None below two users.
Examples:
    >>> metric = evaluate.load("evals/metrics/mirror_alignment")
    >>> found = metric.compute(predictions=[[0.2, 0.5, 0.3], [0.9, 0.1]], references=[1, 1])
    >>> found["accuracy"]
    0.5
"""

_CITATION = """\
@inproceedings{mcfadden1974conditional,
  title={Conditional logit analysis of qualitative choice behavior},
  author={McFadden, Daniel},
  booktitle={Frontiers in Econometrics},
  year={1974}
}
"""

TIE = 1e-9  # probabilities this close to the largest are ties


class MirrorAlignment(evaluate.Metric):
    """`evaluate.load("evals/metrics/mirror_alignment")`, or by the name of its Space."""

    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description=_DESCRIPTION,
            citation=_CITATION,
            inputs_description=_KWARGS_DESCRIPTION,
            features=datasets.Features(
                {
                    "predictions": datasets.Sequence(datasets.Value("float64")),
                    "references": datasets.Value("int64"),
                }
            ),
            reference_urls=["https://arxiv.org/abs/2508.18142"],
        )

    def _compute(
        self,
        predictions: Sequence[Sequence[float]],
        references: Sequence[int],
        users: Sequence[Any] | None = None,
        logits: bool = False,
    ) -> dict[str, float | int | None]:
        if logits:
            predictions = [_softmax(row) for row in predictions]
        if users is not None and len(users) != len(predictions):
            raise ValueError(f"{len(users)} users for {len(predictions)} scenes; expected one per scene")
        answers = [_answer(row, chosen) for row, chosen in zip(predictions, references, strict=True)]
        values = {
            "accuracy": np.array([_accuracy(row, chosen) for row, chosen in answers]),
            "expected_accuracy": np.array([0.0 if row is None else row[chosen] for row, chosen in answers]),
        }
        losses = np.array([np.nan if row is None else _log_loss(row[chosen]) for row, chosen in answers])
        briers = np.array([np.nan if row is None else _brier(row, chosen) for row, chosen in answers])
        sizes = self._sizes(predictions)
        seen = np.isfinite(losses)
        values["log_loss"] = _charged(losses, np.log(sizes))
        values["brier"] = _charged(briers, 1 - 1 / sizes)
        spread = np.where(sizes > 1, 1 - 1 / sizes, 1)
        values["chance_centred_accuracy"] = np.where(sizes > 1, (values["accuracy"] - 1 / sizes) / spread, 0)
        found: dict[str, float | int | None] = {name: float(of.mean()) for name, of in values.items()}
        null = float(np.log(sizes).mean())
        found["mcfadden_r2_uniform"] = 1 - float(values["log_loss"].mean()) / null if null > 0 else None
        found |= {"coverage": float(seen.mean()), "n_scenes": len(answers)}
        if users is not None:
            for name in ("accuracy", "log_loss"):
                found[f"{name}_low"], found[f"{name}_high"] = _interval(values[name], users)
        return found

    def _sizes(self, predictions: Sequence[Sequence[float]]) -> np.ndarray:
        """K per scene. An empty prediction does not say how many options its scene had: as many as most others."""
        given = [len(row) for row in predictions if len(row)]
        if not given:
            raise ValueError("no prediction has probabilities; expected a list of K probabilities per scene")
        usual = max(sorted(set(given)), key=given.count)
        return np.array([len(row) or usual for row in predictions], dtype=np.float64)


def _softmax(row: Sequence[float]) -> Sequence[float]:
    """exp(l - max) over its sum; a row with a logit that is not finite has no probabilities, and stays as it is."""
    values = np.asarray(row, dtype=np.float64)
    if not len(values) or not np.isfinite(values).all():
        return row
    weights = np.exp(values - values.max())
    return list(weights / weights.sum())


def _answer(row: Sequence[float], chosen: int) -> tuple[np.ndarray | None, int]:
    """The row if it is a distribution, None if it is a failure."""
    probs = np.asarray(row, dtype=np.float64)
    if len(probs) and not 0 <= chosen < len(probs):
        raise ValueError(f"reference {chosen} is none of the {len(probs)} options; expected an index from 0")
    fits = bool(len(probs)) and bool(np.all(np.isfinite(probs) & (probs >= 0))) and abs(probs.sum() - 1) <= 1e-3
    return (probs if fits else None), chosen


def _accuracy(row: np.ndarray | None, chosen: int) -> float:
    if row is None:
        return 0.0
    tied = row >= row.max() - TIE
    return float(tied[chosen] / tied.sum())


def _log_loss(p: float) -> float:
    return -float(np.log(max(p, np.finfo(np.float64).tiny)))


def _brier(row: np.ndarray, chosen: int) -> float:
    return float((row**2).sum() - 2 * row[chosen] + 1)


def _charged(values: np.ndarray, price: np.ndarray) -> np.ndarray:
    own = np.nanmean(values) if np.isfinite(values).any() else -np.inf
    return np.where(np.isfinite(values), values, np.maximum(price, own))


def _interval(values: np.ndarray, users: Sequence[Any]) -> tuple[float | None, float | None]:
    """mean +- t(G-1) * sqrt(G/(G-1) * sum_g (sum_g - mean * n_g)^2) / S (Liang & Zeger 1986)."""
    from scipy.special import stdtrit

    _, index = np.unique([str(user) for user in users], return_inverse=True)
    sums, counts = np.bincount(index, weights=values), np.bincount(index)
    groups, mean = len(counts), float(values.mean())
    if groups < 2:
        return None, None
    error = np.sqrt(groups / (groups - 1) * ((sums - mean * counts) ** 2).sum()) / len(values)
    reach = float(stdtrit(groups - 1, 0.975) * error)
    return mean - reach, mean + reach
