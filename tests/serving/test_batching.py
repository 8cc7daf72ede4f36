"""Batches across requests: bounded in size, wait and queue, and each item fails by itself."""

import asyncio
import threading
import time

import pytest

from emotion.serving.batching import Batcher, QueueFullError


class Compute:
    """Returns each item doubled; waits while it is held, fails for negative items."""

    def __init__(self):
        self.batches, self.is_free, self.is_busy = [], threading.Event(), threading.Event()
        self.is_free.set()

    def __call__(self, items):
        self.is_busy.set()
        assert self.is_free.wait(30)
        self.batches.append(items)
        if min(items) < 0:
            raise ValueError(items)
        return [2 * item for item in items]


def run(use, max_batch=4, max_wait=0.0, max_queue=100):
    """Return what `use(batcher, compute)` returns, and the batches that were computed."""
    compute = Compute()

    async def live():
        batcher = Batcher(compute, max_batch, max_wait, max_queue)
        task = asyncio.create_task(batcher.run())
        try:
            return await asyncio.wait_for(use(batcher, compute), 30)
        finally:
            compute.is_free.set()
            task.cancel()

    return asyncio.run(live()), compute.batches


async def wait_until(condition):
    while not condition():
        await asyncio.sleep(0.001)


def test_requests_share_batches_and_each_gets_its_own_results_in_order():
    async def use(batcher, _):
        return await asyncio.gather(*(batcher.submit(items) for items in ([1, 2, 3], [4], [5, 6])))

    results, batches = run(use, max_wait=0.05)
    assert results == [[2, 4, 6], [8], [10, 12]] and batches == [[1, 2, 3, 4], [5, 6]]


def test_a_full_batch_does_not_wait_and_another_waits_no_longer_than_allowed():
    async def use(batcher, _):
        started = time.monotonic()
        await batcher.submit([1, 2, 3, 4])
        full = time.monotonic()
        await batcher.submit([1])
        return full - started, time.monotonic() - full

    (seconds_full, seconds_partial), _ = run(use, max_wait=0.5)
    assert seconds_full < 0.4 and 0.49 <= seconds_partial < 5


def test_items_that_come_while_a_batch_is_computed_are_the_next_batch():
    async def use(batcher, compute):
        compute.is_free.clear()
        requests = [asyncio.create_task(batcher.submit([0]))]
        await wait_until(compute.is_busy.is_set)
        requests += [asyncio.create_task(batcher.submit([number])) for number in (1, 2, 3)]
        await wait_until(lambda: len(batcher) == 3)
        compute.is_free.set()
        return await asyncio.gather(*requests)

    results, batches = run(use)
    assert results == [[0], [2], [4], [6]] and batches == [[0], [1, 2, 3]]


def test_a_request_that_finds_no_room_is_refused_as_a_whole_and_one_that_fits_is_not():
    async def use(batcher, compute):
        compute.is_free.clear()
        running = asyncio.create_task(batcher.submit([0]))
        await wait_until(compute.is_busy.is_set)
        waiting = asyncio.create_task(batcher.submit([1, 2]))
        await wait_until(lambda: len(batcher) == 2)
        with pytest.raises(QueueFullError):
            await batcher.submit([3, 4])
        last = asyncio.create_task(batcher.submit([5]))
        await asyncio.sleep(0)
        compute.is_free.set()
        return await asyncio.gather(running, waiting, last)

    results, batches = run(use, max_queue=3)
    assert results == [[0], [2, 4], [10]] and [3, 4] not in batches and sum(map(len, batches)) == 4


def test_items_of_a_cancelled_request_are_not_computed_and_make_room():
    async def use(batcher, compute):
        compute.is_free.clear()
        running = asyncio.create_task(batcher.submit([0]))
        await wait_until(compute.is_busy.is_set)
        cancelled = asyncio.create_task(batcher.submit([7, 8]))
        await wait_until(lambda: len(batcher) == 2)
        cancelled.cancel()
        await asyncio.wait([cancelled])
        last = asyncio.create_task(batcher.submit([1, 2]))
        await wait_until(lambda: len(batcher) == 2)
        compute.is_free.set()
        return await asyncio.gather(running, last)

    results, batches = run(use, max_queue=2)
    assert results == [[0], [2, 4]] and batches == [[0], [1, 2]]


def test_an_item_that_fails_fails_by_itself():
    async def use(batcher, _):
        return await asyncio.gather(*(batcher.submit([item]) for item in (1, -1, 2)), return_exceptions=True)

    (first, second, third), batches = run(use, max_wait=0.05)
    assert (first, third) == ([2], [4]) and isinstance(second, ValueError) and batches == [[1, -1, 2], [1], [-1], [2]]
