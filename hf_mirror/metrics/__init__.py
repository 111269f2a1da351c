"""What a model's option probabilities are worth: plain functions on (probabilities, truth, options).

Shapes used throughout: `probs` is float64 [N, W], one row per scene variant, zero beyond a row's own K options; a row
of NaN is a failure. `truth` and `n_options` are int [N]. `scene` is int [N] and says which of S scenes a row belongs
to. Logarithms are natural, so log-loss is in nats.

Example: three options, the truth is the second, the model says (0.2, 0.5, 0.3): accuracy 1, expected accuracy 0.5,
log-loss -ln 0.5 = 0.693, Brier 0.2^2 + 0.5^2 + 0.3^2 = 0.38.
"""

from hf_mirror.metrics.calibration import (
    brier_decomposition,
    calibration_error,
    ece_class_wise,
    ece_top_label,
    equal_mass_bins,
    reliability_bins,
)
from hf_mirror.metrics.choice_models import chance, mcfadden_r2, popularity, position_only
from hf_mirror.metrics.comparisons import holm, rank_sets, sign_flip, worst_group
from hf_mirror.metrics.divergences import jsd, ks, popularity_lift, quantile_shares
from hf_mirror.metrics.intervals import (
    Interval,
    cluster_error,
    design_effect,
    interval,
    intervals,
    minimum_detectable_difference,
    two_way_error,
)
from hf_mirror.metrics.position import by_item, ckld, flip_rate, slot_shares
from hf_mirror.metrics.rows import (
    Bools,
    Floats,
    Ints,
    accuracy,
    brier,
    chance_centred,
    charge_failures,
    choices,
    expected_accuracy,
    log_loss,
    pad,
    per_scene,
    scored,
    softmax,
)

__all__ = [
    "Bools",
    "Floats",
    "Interval",
    "Ints",
    "accuracy",
    "brier",
    "brier_decomposition",
    "by_item",
    "calibration_error",
    "chance",
    "chance_centred",
    "charge_failures",
    "choices",
    "ckld",
    "cluster_error",
    "design_effect",
    "ece_class_wise",
    "ece_top_label",
    "equal_mass_bins",
    "expected_accuracy",
    "flip_rate",
    "holm",
    "interval",
    "intervals",
    "jsd",
    "ks",
    "log_loss",
    "mcfadden_r2",
    "minimum_detectable_difference",
    "pad",
    "per_scene",
    "popularity",
    "popularity_lift",
    "position_only",
    "quantile_shares",
    "rank_sets",
    "reliability_bins",
    "scored",
    "sign_flip",
    "slot_shares",
    "softmax",
    "two_way_error",
    "worst_group",
]
