"""The token that clients have to send, if there is one."""

import hmac
import os
import re
from pathlib import Path

from emotion.errors import ConfigError

TOKEN_VARIABLE = "EMOTION_SERVE_TOKEN"
ALLOWED = re.compile(r"[!-~]{16,}")


def read_token(path: str | None) -> bytes | None:
    """Return the token in a file or in the environment variable; None without one. It never stands on a command line.

    Raises: ConfigError for both, or a token that is short or has blanks or other characters than ASCII.
    """
    token, source = os.environ.get(TOKEN_VARIABLE), TOKEN_VARIABLE
    if path is not None:
        if token is not None:
            raise ConfigError(f"--token-file {path}: {TOKEN_VARIABLE} is set too; give one of them")
        source = f"--token-file {path}"
        try:
            token = Path(path).read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"{source}: cannot be read ({getattr(error, 'strerror', None) or 'not UTF-8'})") from None
    if token is None:
        return None
    if not ALLOWED.fullmatch(token):
        raise ConfigError(
            f"{source}: a token needs at least 16 visible ASCII characters, and no blanks; make one with "
            '`python -c "import secrets; print(secrets.token_urlsafe())"`'
        )
    return token.encode("ascii")


def is_authorized(headers: list[tuple[bytes, bytes]], token: bytes | None) -> bool:
    """Return whether a request may be answered; the time of the comparison does not depend on the token that it has."""
    if token is None:
        return True
    sent = [value for name, value in headers if name == b"authorization"]
    scheme, _, value = (sent[0] if len(sent) == 1 else b"").partition(b" ")
    return hmac.compare_digest(value.strip(), token) and scheme.lower() == b"bearer"
