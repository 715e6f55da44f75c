# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Look at mistakes
#
# A score says how often a network fails; its mistakes say why. Here a network is trained briefly, so that it makes some.

# %%
import matplotlib.pyplot as plt
import numpy as np

import opsin

data = opsin.load("digits")
run = opsin.train(data, model="dense", epochs=30, name="mistakes", quiet=True)
print(run.scores["val"]["accuracy"])

# %% [markdown]
# The run folder keeps what the network said of each sample of val, as arrays: no need to predict again.

# %%
stored = run.predictions("val")
{name: (values.shape, str(values.dtype)) for name, values in stored.items()}

# %%
probabilities, labels = stored["probabilities"], stored["labels"]
predicted = probabilities.argmax(axis=1)
confidence = probabilities.max(axis=1)
wrong = np.flatnonzero(predicted != labels)
print(f"{len(wrong)} of {len(labels)} are wrong")

# %% [markdown]
# ## The most confident mistakes
#
# Most can be learned from samples about which the network is sure and wrong: often they are mislabelled, or belong to a
# kind that the training data lack.

# %%
val = data.splits["val"]
place = {sample: index for index, sample in enumerate(val.ids)}
worst = wrong[np.argsort(-confidence[wrong])][:8]

figure, axes = plt.subplots(1, 8, figsize=(10, 1.9))
for axis in axes:
    axis.axis("off")
for axis, sample in zip(axes, worst, strict=False):
    image = val.image(place[str(stored["ids"][sample])])  # uint8 [C, H, W]
    axis.imshow(image[0], cmap="gray_r")
    axis.set_title(f"{labels[sample]} as {predicted[sample]}\n{confidence[sample]:.0%}", fontsize=9)
figure.tight_layout()

# %% [markdown]
# ## Which classes are confused?

# %%
confusion = np.zeros((10, 10), dtype=int)
np.add.at(confusion, (labels, predicted), 1)

figure, axis = plt.subplots(figsize=(4.2, 4))
axis.imshow(confusion, cmap="Blues")
for true in range(10):
    for said in range(10):
        if confusion[true, said]:
            dark = confusion[true, said] > confusion.max() / 2
            color = "white" if dark else "black"
            axis.text(said, true, confusion[true, said], ha="center", va="center", color=color)
axis.set(xlabel="predicted", ylabel="true", xticks=range(10), yticks=range(10))
figure.tight_layout()

# %% [markdown]
# ## Is the network as sure as it should be?
#
# Where a network says 90 %, nine of ten answers should be right. The expected calibration error (`ece`) is the mean
# distance from that.

# %%
print("mean confidence", round(float(confidence.mean()), 3), " accuracy", round(float((predicted == labels).mean()), 3))
print("expected calibration error", run.scores["val"]["ece"])

# %% [markdown]
# `opsin explain RUN --mistakes` draws the same mistakes with Grad-CAM; `report.html` in the run folder shows them too.
