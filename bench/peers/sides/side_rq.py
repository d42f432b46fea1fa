"""RQ with its `SimpleWorker`, which runs jobs in its own process; the usual worker forks for each job."""

import contextlib
import logging

import side
from redis import Redis
from rq import Queue, SimpleWorker

NOOP = "side_rq.noop"


def noop(index):
    side.RUNS.note(index)


@contextlib.contextmanager
def producer(url):
    queue = Queue("bench", connection=Redis.from_url(url))

    def add(index):
        queue.enqueue(NOOP, index)

    def add_many(indexes):
        queue.enqueue_many([Queue.prepare_data(NOOP, args=(index,)) for index in indexes])

    yield add, add_many


def work(url, _runs, _slots):
    connection = Redis.from_url(url)
    worker = SimpleWorker([Queue("bench", connection=connection)], connection=connection, log_job_description=False)
    worker.work(logging_level=logging.WARNING)


if __name__ == "__main__":
    side.main(producer, work)
