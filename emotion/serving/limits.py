"""What one client may ask of the server, and for how long it may keep it busy."""

from dataclasses import dataclass

from emotion.errors import ConfigError

MAX_CONNECTIONS = 500
"""Connections that are open at the same time; a further one is answered with 503."""
MAX_EXPLANATIONS = 4
"""Explanations that wait: each predicts its text once for every word."""
DRAIN_SECONDS = 0.5
"""Between the signal to stop and the end of listening: load balancers see that it is not ready, and clients send what they began."""
KEEP_ALIVE_SECONDS = 5


@dataclass(frozen=True)
class Limits:
    """Limits of requests; a value out of range is a ConfigError that names the option of `serve.py`."""

    max_batch: int = 32
    """Texts that are predicted together."""
    max_wait_ms: float = 5.0
    """Longest time that a text waits for others, in milliseconds, while the model is idle."""
    max_queue: int = 1_024
    """Texts that wait; a request that finds no room is answered with 503."""
    max_texts: int = 256
    """Texts of a request."""
    max_characters: int = 10_000
    """Characters of a text."""
    max_body_kb: int = 1_024
    """Size of a request's body, in KiB."""
    timeout: float = 30.0
    """Seconds that a request may take, its arrival included; also those that a stop waits for requests."""

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            low = 0 if name == "max_wait_ms" else 1
            if not low <= value <= 1e6:
                raise ConfigError(f"--{name.replace('_', '-')} {value}: must be from {low} to 1,000,000")
        if self.max_queue < self.max_texts:
            raise ConfigError(f"--max-queue {self.max_queue}: must be at least --max-texts {self.max_texts}, or no such request finds room")

    @property
    def max_body_bytes(self) -> int:
        return self.max_body_kb * 1_024
