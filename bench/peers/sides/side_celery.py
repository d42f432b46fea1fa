"""Celery on Redis without a result backend; one slot is its pool "solo", more are threads.

Its usual pool forks child processes, in which no common count can be kept.
"""

import contextlib

import side
from celery import Celery


def _app(url, runs=None):
    app = Celery("bench", broker=url)
    app.conf.update(task_ignore_result=True, worker_hijack_root_logger=False, broker_connection_retry_on_startup=True)

    @app.task(name="noop")
    def noop(index):
        runs.note(index)

    return app, noop


@contextlib.contextmanager
def producer(url):
    app, noop = _app(url)

    def add_many(indexes):
        with app.producer_pool.acquire(block=True) as producer:
            for index in indexes:
                noop.apply_async((index,), producer=producer)

    yield noop.delay, add_many
    app.close()


def work(url, runs, slots):
    app, _ = _app(url, runs)
    pool = ["--pool=solo"] if slots == 1 else ["--pool=threads", f"--concurrency={slots}"]
    app.worker_main(["worker", "--loglevel=WARNING", "--without-mingle", "--without-gossip", *pool])


if __name__ == "__main__":
    side.main(producer, work)
