"""Values that change while training, as pure functions of the step.

A run that resumes needs one integer to know every one of them.
"""

import math


def linear(step: float, start: float, end: float, steps: float) -> float:
    """From `start` at step 0 to `end` at `steps`, constant afterwards.

    MATPAC uses it for the teacher's decays (over the whole run) and for the teacher's temperature (over its
    warm-up).
    """
    if steps <= 0:
        return end
    return start + (end - start) * min(max(step / steps, 0.0), 1.0)


def exponential(step: float, start: float, rate: float) -> float:
    """`start · rate^step`: the temperature of annealed multiple choice learning (MATPAC++, section 3)."""
    return start * rate**step


def warmup_cosine(step: float, peak: float, warmup_steps: float, steps: float, end: float = 0.0) -> float:
    """Linear from 0 to `peak` over the warm-up, then half a cosine down to `end` at `steps`.

    The learning rate of both papers. Step 0 of a run with warm-up has rate 0, as in the usual formula.
    """
    if step < warmup_steps:
        return peak * step / warmup_steps
    progress = min((step - warmup_steps) / max(steps - warmup_steps, 1e-12), 1.0)
    return end + (peak - end) * 0.5 * (1.0 + math.cos(math.pi * progress))
