"""
Certificates along a run
========================

Three statements that are proved while a run is computed: what skipping work may have changed, when a run has chosen its
row for good, and where its deviation from that row comes from.
"""

# %%
# A run with an error of norm 0.3 put into every evaluation of the denoiser, as a trained model would have.

import numpy as np

import interp_fast as itf

X = np.random.default_rng(0).standard_normal((3000, 24)).astype(np.float32)
field = itf.Field(X)
steps = itf.ddim(field.schedule, 50)
out = itf.sample(field, steps, 200, rng=0, error=itf.perturb.constant(0.3), terms=True, keep="path")
print(f"work: {out.stats['work']:.2f} of dense; skipping changed D by at most {out.certificate.max():.1e} R")
assert out.certificate.max() <= 2.0**-20

# %%
# The deviation from the row that is nearest in the end is a sum of three terms, exactly.

terms = out.terms
total = terms.selection + terms.estimation + terms.noise
assert np.abs(total - (out.x - X[out.index])).max() < 1e-5
for name in ("selection", "estimation", "noise"):
    print(f"{name:>10}: {np.median(np.linalg.norm(getattr(terms, name), axis=1)):.3f}")

# %%
# With one row left nothing else remains: the last line of the table lands on the denoiser, and so on the row plus the
# error of that evaluation.

assert np.allclose(np.linalg.norm(terms.estimation, axis=1), 0.3, rtol=1e-3)

# %%
# From when on is a run proved to stay in the cell of its row? ``trapping`` is one-sided: False proves nothing.

for k in range(30, 50, 4):
    t = float(steps.times[k])
    held = itf.theory.trapping(field, out.path[:, k], t, error=0.3)
    right = held.index[held.trapped] == out.index[held.trapped]
    print(f"t = {t:.2f}: {held.trapped.mean():.0%} certified")
    assert right.all()
