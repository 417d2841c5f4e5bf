"""Which rows each step sees: a pure function of seed and global step. Called by train.

Neither the micro batch nor the number of processes takes part, so a run that resumes on another layout, or that is
compared with another layout, sees the same rows in the same steps.
"""

import numpy as np
import numpy.typing as npt


def row_order(rows: int, *, steps: int, global_batch_size: int, seed: int) -> npt.NDArray[np.int64]:
    """Return the row numbers of `steps` whole steps, in order: one permutation after the other, one per epoch.

    The last step is as large as the others: it goes on into the next permutation.
    """
    wanted = steps * global_batch_size
    epochs = -(-wanted // rows)
    permutations = [np.random.default_rng([seed, epoch]).permutation(rows) for epoch in range(epochs)]
    return np.concatenate(permutations)[:wanted]
