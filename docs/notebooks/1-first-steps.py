# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # First steps
#
# Load a data set, train a network, read its scores, predict an image. The data are the 1,797 handwritten digits of
# scikit-learn, 8 × 8 pixels, so that each step takes seconds.

# %%
import opsin

data = opsin.load("digits")
data

# %% [markdown]
# The set is not divided by its publisher, so train, val and test were drawn, with the class shares kept.

# %%
{name: len(split) for name, split in data.splits.items()}

# %% [markdown]
# ## Train
#
# Without settings, the defaults for this data set are used. Every option of `opsin train` is a keyword here.

# %%
run = opsin.train(data, epochs=3, name="first-steps", quiet=True)
run

# %% [markdown]
# ## Scores
#
# Each score carries its 95 % interval. The test split is sealed: asking for its scores now would raise
# `SealedSplitError`.

# %%
accuracy = run.scores["val"]["accuracy"]
print(f"{accuracy.value:.3f}, between {accuracy.low:.3f} and {accuracy.high:.3f}")

# %%
for epoch in run.epochs:
    print(epoch.epoch, round(epoch.train["loss"], 3), epoch.val["accuracy"])

# %% [markdown]
# ## Open the test split, once
#
# Opening it is written into the run folder, and the report shows it.

# %%
test = opsin.evaluate(run, split="test")
print(test.scores["accuracy"], "on", test.n, "samples")

# %% [markdown]
# ## Predict
#
# `predict` takes paths and bytes of image files. Here: one of the images of `photos/`, a folder of digits as PNG files.

# %%
run.predict("photos/digit-3/0.png")
