"""What the server counts, in the text format of Prometheus. No text is in it."""

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info, generate_latest

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
SIZES = (1, 2, 4, 8, 16, 32, 64, 128)


class Metrics:
    """Counters of one server; each server has its own registry."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        self.requests = Counter("emotion_requests", "Requests that were answered", ["path", "status"], registry=registry)
        self.seconds = Histogram(
            "emotion_request_seconds", "Seconds from a request to its answer", ["path"], registry=registry, buckets=SECONDS
        )
        self.in_flight = Gauge("emotion_requests_in_flight", "Requests that are not yet answered", registry=registry)
        self.texts = Counter("emotion_texts", "Texts that were predicted", registry=registry)
        self.repeated = Counter(
            "emotion_texts_repeated", "Texts that were predicted again alone, so that no digit depends on the batch", registry=registry
        )
        self.batches = Histogram("emotion_batch_texts", "Texts of a batch", registry=registry, buckets=SIZES)
        self.model = Info("emotion_model", "Model and backend", registry=registry)
        self._waiting = Gauge("emotion_texts_waiting", "Texts in the queue", registry=registry)

    def watch_queue(self, count: Callable[[], int]) -> None:
        """Show what `count` returns as the length of the queue."""
        self._waiting.set_function(count)

    def format(self) -> bytes:
        """Return all values."""
        return generate_latest(self.registry)
