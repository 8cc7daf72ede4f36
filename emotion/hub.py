"""Whether the Hub can be asked. Where it cannot, its cache is read at once, in place of minutes of retries, and a line says so."""

import functools
import os
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlparse

from emotion.secrets import mask_secrets
from emotion.text import describe_error, print_message

MAX_WAIT_SECONDS = 5.0
"""How long the Hub may take to answer the first question: usually it takes a tenth of a second."""
OFFLINE_VARIABLES = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")
"""Variables of huggingface_hub, in the order in which it reads them."""


@contextmanager
def read_from_hub() -> Iterator[str | None]:
    """Let Hugging Face libraries load from the Hub inside the block, or from its cache alone where it does not answer.

    Yield why only the cache is read, such as `HF_HUB_OFFLINE is set`; None if the Hub is asked.
    """
    from huggingface_hub import constants

    obstacle = find_obstacle()
    libraries = [constants]
    if "datasets" in sys.modules:  # it has a copy
        libraries.append(sys.modules["datasets"].config)
    before = [library.HF_HUB_OFFLINE for library in libraries]
    for library in libraries:
        library.HF_HUB_OFFLINE = library.HF_HUB_OFFLINE or obstacle is not None
    try:
        yield obstacle
    finally:
        for library, value in zip(libraries, before, strict=True):
            library.HF_HUB_OFFLINE = value


@functools.cache
def find_obstacle() -> str | None:
    """Return why the Hub cannot be asked, or None. The first call asks it; one process of a launch prints the answer if it is not usual."""
    from huggingface_hub import constants

    if constants.is_offline_mode():
        name = next((name for name in OFFLINE_VARIABLES if os.environ.get(name)), OFFLINE_VARIABLES[0])
        _say(f"offline, because {name} is set; only its cache is read")
        return f"{name} is set"
    address = mask_secrets(_describe_address(constants.ENDPOINT))
    if (error := _ask(constants.ENDPOINT)) is not None:
        _say(f"{address} cannot be reached ({mask_secrets(error)}); only its cache is read")
        return f"{address} cannot be reached"
    if address != constants.ENDPOINT:
        _say(address)
    return None


def _say(message: str) -> None:
    if os.environ.get("RANK", "0") == "0":
        print_message(f"hub: {message}")


def _describe_address(endpoint: str) -> str:
    """Return the Hub's address and, from the environment or the system's settings, the proxy in between."""
    url = urlparse(endpoint)
    proxies = urllib.request.getproxies()
    proxy = proxies.get(url.scheme) or proxies.get("all")
    is_used = proxy is not None and not urllib.request.proxy_bypass(url.hostname or "")
    return f"{endpoint} through the proxy {proxy}" if is_used else endpoint


def _ask(endpoint: str) -> str | None:
    """Return why the Hub does not answer; None if it does, whatever it says."""
    from huggingface_hub.utils import get_session

    try:
        get_session().head(endpoint, timeout=MAX_WAIT_SECONDS)
    except Exception as error:  # of the client's HTTP library: httpx, or httpx2 in newer versions
        return describe_error(error, 100)
    return None
