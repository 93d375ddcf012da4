"""
How many steps a solver needs
=============================

Solvers are tables of numbers, and all of them run in one compiled loop. Here each is held against itself with many
steps: the distance of endpoints from the same noise.
"""

# %%
# A training set near a curved sheet, and a run with 1,000 steps as the truth.

import matplotlib.pyplot as plt
import numpy as np

import interp_fast as itf

rng = np.random.default_rng(0)
X = np.tanh(rng.standard_normal((500, 4)) @ rng.standard_normal((4, 16)))
schedule = itf.Trigonometric()
field = itf.Field(X, schedule)
noise = rng.standard_normal((50, 16))


def table(solver, steps):
    return solver(schedule, np.linspace(0.1, 0.6, steps + 1))  # until rows are chosen: from then on D is constant


def endpoints(solver, steps):
    return itf.sample(field, table(solver, steps), x0=noise).x


truth = endpoints(itf.exponential_heun, 1000)

# %%
# Evaluations on the horizontal axis: ``heun`` spends two on a step.

solvers = {"euler": itf.euler, "ddim": itf.ddim, "multistep": itf.multistep, "exponential_heun": itf.exponential_heun}
figure, ax = plt.subplots(figsize=(6, 3.5), layout="constrained")
errors = {}
for name, solver in solvers.items():
    counts = (8, 16, 32, 64, 128)
    errors[name] = [np.median(np.linalg.norm(endpoints(solver, k) - truth, axis=1)) for k in counts]
    evaluations = [len(table(solver, k)) for k in counts]
    ax.loglog(evaluations, errors[name], marker=".", label=name)
ax.set(xlabel="evaluations of the field", ylabel="distance to the endpoint (median)")
ax.legend()

for name, error in errors.items():
    print(f"{name:>17}: halving the step divides the error by {error[-2] / error[-1]:.1f}")
assert errors["multistep"][-1] < errors["ddim"][-1]
