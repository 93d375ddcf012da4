"""
When a sample chooses its training row
======================================

The exact field of a training set generates that training set. Early in a run all rows share the posterior, late a
single one holds it: this is where, on scikit-learn's digits.
"""

# %%
# The field of 1,000 digits, and what draws of x_t say about the row they came from.

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits

import interp_fast as itf

X = (load_digits().data[:1000] / 8 - 1).astype(np.float32)
field = itf.Field(X, itf.Linear())
times = np.linspace(0.02, 0.98, 25)
posteriors = [field.posterior(field.draw(100, t, rng=0)[0], t) for t in times]
rows = [np.median(post.ess) for post in posteriors]

# %%
# Two times are known to the theory: speciation, when the largest spread of the data makes itself felt, and collapse,
# when the posterior is left with few rows.

speciation = itf.theory.speciation_time(field).time
collapse = itf.theory.collapse_time(field, 100, rng=0).time
print(f"speciation at t = {speciation:.2f}, collapse at t = {collapse:.2f}")
assert speciation < collapse

figure, ax = plt.subplots(figsize=(6, 3), layout="constrained")
ax.semilogy(times, rows, marker=".")
for time, label in ((speciation, "speciation"), (collapse, "collapse")):
    ax.axvline(time, color="0.6", linestyle=":")
    ax.annotate(label, (time, 300), rotation=90, ha="right")
ax.set(xlabel="t (0 noise, 1 data)", ylabel="rows that weigh (median)")

# %%
# So every sample is a copy, whatever the solver.

out = itf.sample(field, itf.multistep(field.schedule, 64), 100, rng=1)
copies = itf.memorization(out.x, X, rng=0)
print(copies)
assert copies.copied == 1.0
print(f"median time at which a run has chosen its row: {np.median(out.commit_time):.2f}")
