"""What a few noisy ratios say about the true one.

The logarithms of the ratios are taken as a sample around the true one, robustly: a fifth of them is trimmed at either
end (Yuen, "The two-sample trimmed t for unequal population variances", Biometrika 61, 1974), so that a block into which
somebody else's work fell does not decide. What is known of the spread before the first pair is worth
`PRIOR_WEIGHT` pairs that differ by `PRIOR_SPREAD`: a single pair may then tell a factor of two, and three pairs that
agree by chance do not pass for certainty. With that prior the true logarithm follows Student's t (Gelman et al.,
"Bayesian Data Analysis", 3rd edition, section 3.3).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["Belief", "believe", "student_cdf"]

PRIOR_SPREAD = 0.04
"""Standard deviation of the logarithm of one pair's ratio, as seen on machines that do other work too."""
PRIOR_WEIGHT = 2
TRIMMED = 0.2


@dataclass(frozen=True, slots=True)
class Belief:
    """Where the true ratio lies: its logarithm follows Student's t.

    Attributes:
        centre: most likely logarithm of the ratio.
        scale: how uncertain it is.
        freedom: degrees of freedom.
    """

    centre: float
    scale: float
    freedom: int

    def below(self, ratio: float) -> float:
        """Probability that the true ratio is below `ratio`."""
        return student_cdf((math.log(ratio) - self.centre) / self.scale, self.freedom)

    def interval(self, level: float = 0.95) -> tuple[float, float]:
        """The ratios between which the true one lies with probability `level`."""
        low, high = 0.0, 1e3
        while high - low > 1e-6 * high:
            middle = (low + high) / 2
            if 2 * student_cdf(middle, self.freedom) - 1 < level:
                low = middle
            else:
                high = middle
        reach = high * self.scale
        return math.exp(self.centre - reach), math.exp(self.centre + reach)


def believe(ratios: Sequence[float]) -> Belief:
    """What `ratios` (at least one, all above 0) say about the true ratio."""
    logs = sorted(math.log(ratio) for ratio in ratios)
    cut = int(len(logs) * TRIMMED)
    kept = logs[cut : len(logs) - cut]
    centre = math.fsum(kept) / len(kept)
    # Winsorised: what was trimmed counts as the nearest value that was kept.
    winsorised = [kept[0]] * cut + kept + [kept[-1]] * cut
    middle = math.fsum(winsorised) / len(winsorised)
    squares = math.fsum((value - middle) ** 2 for value in winsorised)
    freedom = PRIOR_WEIGHT + len(kept) - 1
    variance = (PRIOR_WEIGHT * PRIOR_SPREAD**2 + squares) / (freedom * len(kept))
    return Belief(centre, math.sqrt(variance), freedom)


def student_cdf(t: float, freedom: int) -> float:
    """Probability that Student's t with `freedom` degrees of freedom (at least 1) is below `t`.

    The finite series for whole degrees of freedom: Abramowitz and Stegun, "Handbook of Mathematical Functions", 26.7.3
    and 26.7.4.
    """
    angle = math.atan2(t, math.sqrt(freedom))
    sine, cosine = math.sin(angle), math.cos(angle)
    odd = freedom % 2
    term = cosine if odd else 1.0
    total = 0.0
    for step in range(2 + odd, freedom + 1, 2):
        total += term
        term *= cosine * cosine * (step - 1) / step
    between = 2 / math.pi * (angle + sine * total) if odd else sine * total
    return min(1.0, max(0.0, (1 + between) / 2))
