# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Masks
#
# Segmentation: a class for every pixel. `digit_masks` is made by the code: 48 × 48 pixels, two digits among pieces of others.
# `scenes` says how many training images are made; `classes="foreground"` makes one class of all digits.

# %%
import matplotlib.pyplot as plt
import numpy as np

import opsin

run = opsin.train("digit_masks", classes="foreground", scenes=600, epochs=6, name="masks", quiet=True)
for name in ("pixel_accuracy", "mean_iou", "mean_dice", "boundary_f1"):
    print(f"{name:15} {run.scores['val'][name]}")

# %% [markdown]
# Four scores of the same masks. Pixel accuracy is always flattering where most pixels are background: see [which score for
# masks?](../segmentation-scores.md)
#
# ## The predictions
#
# The run folder keeps the predicted masks of val, the true ones, and where the network was unsure.

# %%
stored = run.predictions("val")
{name: (values.shape, str(values.dtype)) for name, values in stored.items()}

# %%
val = opsin.dataset_of(run).splits["val"]
place = {sample: index for index, sample in enumerate(val.ids)}
shown = [place[str(sample)] for sample in stored["ids"][:6]]

figure, axes = plt.subplots(4, 6, figsize=(9, 6.2))
rows = {
    "image": [val.image(index).transpose(1, 2, 0) for index in shown],
    "true": stored["true_masks"][:6],
    "predicted": stored["masks"][:6],
    "uncertainty": stored["uncertainty"][:6],
}
for line, (name, pictures) in zip(axes, rows.items(), strict=True):
    line[0].set_ylabel(name)
    for axis, picture in zip(line, pictures, strict=True):
        axis.imshow(picture, cmap="viridis" if name == "uncertainty" else "gray")
        axis.set(xticks=[], yticks=[])
figure.tight_layout()

# %% [markdown]
# Uncertainty lies along the edges, and where pieces of other digits look like digits.
#
# ## Image by image
#
# A score over all pixels hides which images are poor. Here the intersection over union of the foreground in each image; 255
# in a true mask is *void* and counts nowhere.

# %%
counted = stored["true_masks"] != 255
true = (stored["true_masks"] == 1) & counted
predicted = (stored["masks"] == 1) & counted
iou = (true & predicted).sum(axis=(1, 2)) / (true | predicted).sum(axis=(1, 2))
print("best", iou.max().round(3), " median", np.median(iou).round(3), " worst", iou.min().round(3))
print("the three worst:", [str(sample) for sample in stored["ids"][np.argsort(iou)[:3]]])

# %% [markdown]
# For photos, and for masks of photos larger than memory: `opsin predict RUN photo.jpg --masks DIR --tile 512`.
