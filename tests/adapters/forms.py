"""The same update as other files would write it: `form(update)` gives lora_A, lora_B, scaling."""

import numpy as np


def turned(one):
    """A random gauge: `(B M)(M^-1 A)`."""
    basis = np.random.default_rng(7).standard_normal((one.rank, one.rank)) + 4 * np.eye(one.rank)
    lora_A = np.linalg.solve(basis, one.lora_A.astype(np.float64))
    return lora_A.astype(np.float32), (one.lora_B @ basis).astype(np.float32), one.scaling


def padded(one):
    """Two more ranks that hold nothing."""
    lora_A = np.concatenate([one.lora_A, np.zeros((2, one.shape[1]), np.float32)])
    lora_B = np.concatenate([one.lora_B, np.zeros((one.shape[0], 2), np.float32)], axis=1)
    return lora_A, lora_B, one.scaling


def folded(one):
    """The scaling in lora_B, as files without alpha have it."""
    return one.lora_A, np.float32(one.scaling) * one.lora_B, 1.0


def halved(one):
    """Through float16 and back."""
    lora_A, lora_B = (
        factor.astype(np.float16).astype(np.float32) for factor in (one.lora_A, one.lora_B)
    )
    return lora_A, lora_B, one.scaling
