"""Load a backbone, put a classification head on it, and predict with it."""

import logging

# On a CPU with AVX512-BF16, bitsandbytes asks for a package with a kernel that is not used here: see `disable_avx512_repacking`.
logging.getLogger("bitsandbytes.backends.cpu.ops").setLevel(logging.ERROR)
