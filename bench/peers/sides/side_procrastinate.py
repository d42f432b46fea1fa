"""Procrastinate over psycopg 3 and its pool."""

import contextlib

import side
from procrastinate import App, PsycopgConnector
from procrastinate.exceptions import ConnectorException


def _app(url, runs=None):
    app = App(connector=PsycopgConnector(conninfo=url))

    @app.task(name="noop")
    async def noop(index):
        runs.note(index)

    return app, noop


async def prepare(url):
    app, _ = _app(url)
    async with app.open_async():
        if not await app.check_connection_async():
            with contextlib.suppress(ConnectorException):
                await app.schema_manager.apply_schema_async()


@contextlib.asynccontextmanager
async def producer(url):
    app, noop = _app(url)
    async with app.open_async():

        async def add(index):
            await noop.defer_async(index=index)

        async def add_many(indexes):
            await noop.batch_defer_async(*({"index": index} for index in indexes))

        yield add, add_many


async def work(url, runs, slots):
    app, _ = _app(url, runs)
    async with app.open_async():
        await app.run_worker_async(concurrency=slots, install_signal_handlers=False)


if __name__ == "__main__":
    side.main(producer, work, prepare)
