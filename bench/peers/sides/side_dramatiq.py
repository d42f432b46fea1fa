"""Dramatiq on Redis, threads in one process. It has no bulk add: `add_many` sends them one after the other."""

import contextlib
import threading

import dramatiq
import side
from dramatiq.brokers.redis import RedisBroker


def _actor(url, runs=None):
    broker = RedisBroker(url=url)
    dramatiq.set_broker(broker)

    @dramatiq.actor(actor_name="noop")
    def noop(index):
        runs.note(index)

    return broker, noop


@contextlib.contextmanager
def producer(url):
    _, noop = _actor(url)

    def add_many(indexes):
        for index in indexes:
            noop.send(index)

    yield noop.send, add_many


def work(url, runs, slots):
    broker, _ = _actor(url, runs)
    dramatiq.Worker(broker, worker_threads=slots).start()
    threading.Event().wait()


if __name__ == "__main__":
    side.main(producer, work)
