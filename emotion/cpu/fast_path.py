"""What training and prediction with torch import from this package. On a GPU the model stays as it is, and AdamW is torch's own.

Training: `prepare_cpu` sets threads and allocator, `optimize_encoder` gives a model cheaper layers, `build_adamw` an AdamW that steps on a
word embedding's rows when they are read. Weights keep their names and saved files know nothing of this: updates that are still pending
are applied by hooks, before an evaluation forward and before `state_dict`. What each part gains is in `docs/log/training_speed.md`.
"""

from emotion.cpu.deferred_adamw import build_adamw, clip_gradients, flush_stored_updates
from emotion.cpu.encoder import optimize_encoder
from emotion.cpu.machine import prepare_cpu

__all__ = ["build_adamw", "clip_gradients", "flush_stored_updates", "optimize_encoder", "prepare_cpu"]
