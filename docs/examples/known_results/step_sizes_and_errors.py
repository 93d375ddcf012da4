"""
The study's own figures: step sizes, noise, errors
==================================================

Li, Lin and Yu (2026) study what an exact field generates when time is discrete and when the field has errors. Their
kinds of experiments are commands of this package: ``interp-fast experiments``.

**Shown.** Four of them: the oracle's samples end on five training points in the proportions of their weights; Euler's
deviation from the points is zero, of order sqrt(h) or of order h^2, by how sigma vanishes; what Euler-Maruyama leaves
behind; and how large an error of the denoiser must be before samples are no copies.

**Differs.** Points, numbers of samples and step sizes are this package's own, and each slope is held against the law
that the theory gives for it.

**Cost.** Four seconds; at full size (the settings of ``interp-fast experiments``) a minute or two.
"""

import matplotlib.pyplot as plt
from _setting import FULL, finish, progress

import interp_fast as itf

small = {
    "five-points": {"samples": 200},
    "step-size": {"samples": 100, "counts": (10, 20, 40, 80, 160)},
    "noise-schedules": {"samples": 100},
    "error-injection": {"samples": 100},
}

# %%
# Every experiment is a frozen setting; ``settings`` says what it was run with.

for name in progress(small, "experiments"):
    result = itf.experiments.run(name, **({} if FULL else small[name]))
    finish(result.plot(plt.figure(layout="constrained")), name)
    print(f"\n{result.title}")
    for finding, value in result.findings.items():
        print(f"  {finding}: {value}")
