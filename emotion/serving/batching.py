"""Collect what several requests ask for into batches, with a bounded queue and a bound on the time that an item waits for others."""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from typing import Generic, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


class QueueFullError(Exception):
    """There is no room for a request's items."""


class Batcher(Generic[Item, Result]):
    """Computes items in batches of at most `max_batch`, on a thread of its own, in the order of their arrival.

    `compute` returns a result for each item. If it fails for a batch, each item is computed alone, so an item fails by itself only. While
    the thread is idle, an item waits at most `max_wait` seconds for others; while it computes, items collect.
    """

    def __init__(self, compute: Callable[[list[Item]], Sequence[Result]], max_batch: int, max_wait: float, max_queue: int) -> None:
        self._compute, self._max_batch, self._max_wait, self._max_queue = compute, max_batch, max_wait, max_queue
        self._queue: deque[tuple[Item, asyncio.Future[Result], float]] = deque()
        self._arrival = asyncio.Event()
        self._thread = ThreadPoolExecutor(1)
        self._work: Future[Sequence[Result | Exception]] | None = None

    def __len__(self) -> int:
        """Return the number of items that wait."""
        return len(self._queue)

    @property
    def is_computing(self) -> bool:
        """Whether the thread computes; nothing can interrupt it."""
        return self._work is not None and not self._work.done()

    async def submit(self, items: Sequence[Item]) -> list[Result]:
        """Return the results of a request's items; if the caller is cancelled, those that wait are dropped.

        Raises: QueueFullError if there is no room for all of them; what `compute` raises for one of them.
        """
        self._drop_cancelled()
        if len(self._queue) + len(items) > self._max_queue:
            raise QueueFullError
        loop = asyncio.get_running_loop()
        futures = [loop.create_future() for _ in items]
        self._queue.extend((item, future, loop.time()) for item, future in zip(items, futures, strict=True))
        self._arrival.set()
        return list(await asyncio.gather(*futures))

    async def run(self) -> None:
        """Compute until cancelled."""
        try:
            while True:
                batch = await self._collect()
                self._work = self._thread.submit(self._compute_each, [item for item, _ in batch])
                results = await asyncio.wrap_future(self._work)
                for (_, future), result in zip(batch, results, strict=True):
                    if future.done():  # its request was cancelled
                        continue
                    if isinstance(result, Exception):
                        future.set_exception(result)
                    else:
                        future.set_result(result)
        finally:
            self._thread.shutdown(wait=False)

    async def _collect(self) -> list[tuple[Item, asyncio.Future[Result]]]:
        """Return the next batch, at least one item that somebody waits for."""
        loop = asyncio.get_running_loop()
        while True:
            while not self._queue:
                await self._wait_for_arrival(None)
            deadline = self._queue[0][2] + self._max_wait
            while len(self._queue) < self._max_batch and (seconds := deadline - loop.time()) > 0:
                await self._wait_for_arrival(seconds)
            self._drop_cancelled()
            if self._queue:
                return [self._queue.popleft()[:2] for _ in range(min(len(self._queue), self._max_batch))]

    async def _wait_for_arrival(self, seconds: float | None) -> None:
        self._arrival.clear()
        with suppress(TimeoutError):
            await asyncio.wait_for(self._arrival.wait(), seconds)

    def _drop_cancelled(self) -> None:
        if any(future.done() for _, future, _ in self._queue):
            self._queue = deque(entry for entry in self._queue if not entry[1].done())

    def _compute_each(self, items: list[Item]) -> Sequence[Result | Exception]:
        """Return a result or an exception for each item."""
        try:
            return self._compute(items)
        except Exception as error:
            return [error] if len(items) == 1 else [self._compute_each([item])[0] for item in items]
