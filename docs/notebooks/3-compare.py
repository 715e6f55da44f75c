# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Compare two runs
#
# Is one network better than another? Two scores with overlapping intervals do not answer that: both networks saw the same
# samples, so the question is on which of them they *differ*.

# %%
import numpy as np

import opsin

data = opsin.load("digits")
dense = opsin.train(data, model="dense", epochs=3, name="compare-dense", quiet=True)
small = opsin.train(data, model="small", epochs=3, name="compare-small", quiet=True)

for run in (dense, small):
    print(run.name, run.scores["val"]["accuracy"], f"{run.summary.parameters:,} parameters")

# %% [markdown]
# ## Sample by sample
#
# Both runs drew the same val split (the seed of the splits is independent of the seed of the run), so their stored predictions
# can be paired.

# %%
first, second = dense.predictions("val"), small.predictions("val")
assert (first["ids"] == second["ids"]).all()


def is_right(stored):
    return (stored["probabilities"].argmax(axis=1) == stored["labels"]).astype(float)


a, b = is_right(first), is_right(second)
print("both right      ", int((a * b).sum()))
print("only dense      ", int((a * (1 - b)).sum()))
print("only small      ", int(((1 - a) * b).sum()))
print("both wrong      ", int(((1 - a) * (1 - b)).sum()))

# %% [markdown]
# ## An interval of the difference
#
# Resample the samples, the same ones for both runs, and look where 95 % of the differences lie. If that interval leaves
# 0 out, the two *networks* differ.

# %%
generator = np.random.default_rng(0)
rows = generator.integers(0, len(a), size=(10_000, len(a)))
differences = (b - a)[rows].mean(axis=1)
low, high = np.percentile(differences, [2.5, 97.5])
print(f"small - dense: {b.mean() - a.mean():+.4f} [{low:+.4f}, {high:+.4f}]")

# %% [markdown]
# ## One network, or the method?
#
# Another seed gives another network. What was computed above speaks of these two networks; a statement about the two
# architectures takes several seeds of each. `opsin compare RUN RUN …` groups runs that differ in their seed alone, and its
# intervals count samples and seeds ([how often they hold](../intervals.md)).

# %%
again = opsin.train(data, model="dense", epochs=3, seed=1, name="compare-dense-seed1", quiet=True)
print("seed 0:", dense.scores["val"]["accuracy"])
print("seed 1:", again.scores["val"]["accuracy"])
