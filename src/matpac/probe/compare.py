"""Whether two encoders differ, by Student's t: an interval over seeds, a paired test over seeds × folds."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

LEVEL = 0.95
"""Confidence of every interval; a difference counts where p < 1 - LEVEL (docs/evaluation.md: 95 %)."""


def confidence_interval(values: Float[np.ndarray, "run"]) -> tuple[float, float]:
    """(mean, half width) of the 95 % interval for the mean of independent runs, by Student's t.

    With one run the half width is nan. Raises ValueError without values, or for NaN.
    """
    from scipy.stats import t

    if values.size == 0 or not np.isfinite(values).all():
        raise ValueError(f"an interval needs one or more finite values, not {values.tolist()}")
    mean = float(values.mean())
    if values.size == 1:
        return mean, float("nan")
    spread = 0.0 if np.ptp(values) == 0 else float(values.std(ddof=1))
    return mean, float(t.ppf((1 + LEVEL) / 2, values.size - 1)) * spread / float(np.sqrt(values.size))


@dataclass(frozen=True)
class PairedTest:
    """Comparison of two encoders' scores on the same seeds and folds.

    Args:
        difference: mean of first minus second, in the scores' unit.
        ci95: half width of the 95 % interval of that mean; nan with one pair, 0 if all differences are equal.
        p_value: two-sided; 1 if all scores are equal, nan if there is no spread to test against.
        verdict: the result as a sentence.
    """

    difference: float
    ci95: float
    p_value: float
    verdict: str

    @property
    def beyond_noise(self) -> bool:
        """Whether p < 0.05 (False where no test was possible)."""
        return self.p_value < 1 - LEVEL


def paired_test(
    first: Float[np.ndarray, "seed fold"],
    second: Float[np.ndarray, "other_seed other_fold"],
    names: tuple[str, str] = ("first", "second"),
) -> PairedTest:
    """Paired two-sided t-test of two encoders' scores on the same seeds and folds.

    It treats the seeds × folds differences as independent samples of one normal distribution, which they are not
    quite: seeds of a fold share their test clips, folds share most of their training clips. So p is too small,
    especially with one fold, where only the probe's own noise (start, order of clips) is tested and not the choice
    of test clips. Read p near 0.05 as undecided (Dietterich 1998, Nadeau and Bengio 2003).

    Raises ValueError if the shapes differ or a score is not finite.
    """
    from scipy.stats import t

    if first.shape != second.shape:
        raise ValueError(f"paired scores need the same seeds and folds, not {first.shape} against {second.shape}")
    differences = (first - second).ravel()
    mean, half_width = confidence_interval(differences)
    pairs = f"{differences.size} pairs of seed and fold"
    if differences.size == 1:
        return PairedTest(mean, half_width, float("nan"), f"{mean:+.4f} on one seed and fold: no test is possible")
    # rounding errors of a - b are not spread
    if np.ptp(differences) <= 4 * np.finfo(float).eps * max(np.abs(first).max(), np.abs(second).max()):
        if np.array_equal(first, second):
            return PairedTest(0.0, 0.0, 1.0, f"{names[0]} and {names[1]} score the same on all {pairs}")
        verdict = f"{names[0]} - {names[1]} is {mean:+.4f} on each of {pairs}: no spread to test against"
        return PairedTest(mean, 0.0, float("nan"), verdict)
    statistic = mean / (float(differences.std(ddof=1)) / np.sqrt(differences.size))
    p_value = float(2 * t.sf(abs(statistic), differences.size - 1))
    numbers = f"{abs(mean):.4f} ± {half_width:.4f}, p = {p_value:.2g}, {pairs}"
    if p_value < 1 - LEVEL:
        better, worse = names if mean > 0 else names[::-1]
        return PairedTest(mean, half_width, p_value, f"{better} is above {worse} by {numbers}")
    verdict = f"{names[0]} and {names[1]} differ by {numbers}: within the noise"
    return PairedTest(mean, half_width, p_value, verdict)
