"""Access tokens and passwords: found by their form or in the environment, and masked wherever text is written."""

import os
import re

SECRET = re.compile(
    r"""
    (?<=://)[^/?\#\s'"]+(?=@)  # the user of a URL
    | (?<![A-Za-z0-9])(?:
        hf_(?:[A-Za-z0-9]{20,}|(?=[a-z]*[A-Z0-9])[A-Za-z0-9]{8,})  # but not hf_datasets
        | wandb_v1_\w{8,} | (?:AKIA|ASIA)[A-Z0-9]{16} | AIza[\w-]{30,} | gh[a-z]_\w{16,} | github_pat_\w{16,} | glpat-[\w-]{16,}
        | gsk_\w{16,} | xox[a-z]-[\w-]{8,} | (?<!-)sk-[\w-]{16,}
      )
    | (?<![\w/@])(?<!revision=)[0-9a-f]{40}(?!\w)  # a key of Weights & Biases, but not the commit in a path or setting
    | (?P<name>
        (?i:token|secret|passwd|password|api[_-]?key|access[_-]?key(?:[_-]id)?|credential|signature)=
        | (?<=[?&])(?i:auth|code|key|pwd|sig)=
        | (?i:bearer\s+)(?=\S{8})
      )[^\s&;,]+
    """,
    re.VERBOSE,
)
"""What is a secret by its form; `name` is what stands before it."""
SECRET_VARIABLE = re.compile(r"(?:TOKEN(?!IZER)|SECRET|PASSWORD|API_?KEY|ACCESS_KEY)(?!.*_(?:PATH|FILE|DIR|FOLDER|URL)$)", re.IGNORECASE)
"""Names of the environment variables whose values are secrets."""
MIN_SECRET_LENGTH = 8
"""Length of a secret in an environment variable: shorter values, such as `true`, are found in too many messages."""


def mask_secrets(text: str) -> str:
    """Return the text with `***` in place of everything that looks like a secret, or is the value of a variable such as `HF_TOKEN`."""
    for value in sorted((value for name, value in os.environ.items() if SECRET_VARIABLE.search(name)), key=len, reverse=True):
        if len(value) >= MIN_SECRET_LENGTH:
            text = text.replace(value, "***")
    return SECRET.sub(lambda match: f"{match['name'] or ''}***", text)
