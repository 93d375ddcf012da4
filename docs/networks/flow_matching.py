"""A small U-Net trained by flow matching lies between a linear model and the exact field.

    python docs/networks/flow_matching.py [--updates 800] [--out flow_matching.png]

Left: the share of the exact velocity that the network explains on points x_t of the training set, beside the best
linear field. Right, turned round and on held-out pictures (Wang & Vastola, 2024): the share of the network's score that
the linear and the exact field explain.
"""

import matplotlib.pyplot as plt
import numpy as np
from common import UNet, explained, flow_loss, options, pictures, train

import interp_fast as itf

arguments = options("flow_matching")
rows, held = pictures(arguments.data), pictures(arguments.data, "t10k", 200)
net = UNet()
net = train(net, flow_loss(net, rows), arguments.updates)

model = itf.Model.from_flow_matching(net, event=(1, 16, 16))
field = itf.Field(rows, model.schedule)
linear = itf.Gaussian(field)
times = np.array([0.02, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.96])
near = itf.compare(model, field, times, 100, baselines={"linear": linear}, rng=0)

figure, (left, right) = plt.subplots(1, 2, figsize=(10, 3.8), layout="constrained")
near.plot(left)
shares = explained(right, model, {"linear": linear, "exact": field}, held, model.schedule, times)
figure.savefig(arguments.out, dpi=110)
print("    t  network  linear  | of the network: linear  exact")
for k, t in enumerate(times):
    found = (near.r2[k], near.baselines["linear"].r2[k], shares["linear"][k], shares["exact"][k])
    print(f"{t:5.2f}  {found[0]:7.3f} {found[1]:7.3f}  {found[2]:23.3f} {found[3]:6.3f}")
