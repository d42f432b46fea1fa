"""A backend for Django's tasks: `@task` functions are jobs of your Muskox, and its worker runs them.

For `django.tasks` (Django 6) and for the package `django-tasks`, which brings the same to older ones. A stored name
is never imported: a worker runs the functions that `serve` has found declared, and holds all others.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from asgiref.sync import iscoroutinefunction
from django.apps import apps
from django.core import checks
from django.db import connections
from django.utils.module_loading import autodiscover_modules

from muskox import ActiveJob, Fixed, Job, JobState, Muskox, MuskoxError, SyncActiveJob
from muskox.contrib.django import program, with_connections

try:
    from django.tasks import TaskContext, TaskResult, TaskResultStatus
    from django.tasks.backends.base import BaseTaskBackend
    from django.tasks.base import Task, TaskError
    from django.tasks.exceptions import TaskResultDoesNotExist as ResultDoesNotExist
    from django.tasks.signals import task_enqueued, task_finished, task_started
except ImportError:
    from django_tasks import TaskContext, TaskResult, TaskResultStatus
    from django_tasks.backends.base import BaseTaskBackend
    from django_tasks.base import Task, TaskError
    from django_tasks.exceptions import TaskResultDoesNotExist as ResultDoesNotExist
    from django_tasks.signals import task_enqueued, task_finished, task_started

__all__ = ["Backend", "MuskoxTask", "serve"]

_STATUS = {
    JobState.ACTIVE: TaskResultStatus.RUNNING,
    JobState.COMPLETED: TaskResultStatus.SUCCESSFUL,
    JobState.FAILED: TaskResultStatus.FAILED,
    JobState.CANCELLED: TaskResultStatus.FAILED,
}

_declared: dict[str, dict[str, MuskoxTask]] = {}
"""The tasks that were declared, by backend and by the path of their function."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MuskoxTask(Task):  # type: ignore[misc]
    """A task that may say more about its job: `@task(attempts=5, backoff=10, timeout=60, key="…")`."""

    attempts: int | None = None
    backoff: float | None = None
    timeout: float | None = None
    key: str | None = None

    def __post_init__(self) -> None:
        # By name, since a class with slots is made twice, and `super()` knows the first one only.
        Task.__post_init__(self)
        _declared.setdefault(self.backend, {}).setdefault(self.module_path, self)


class Backend(BaseTaskBackend):  # type: ignore[misc]
    """`TASKS = {"default": {"BACKEND": "muskox.contrib.django.tasks.Backend", "OPTIONS": {…}}}`.

    Options: `program`, your Muskox as module:object (else what `MUSKOX_PROGRAM` says), and `database`, the alias of a
    Django database that the store shares: then a task is part of the transaction that is open there.
    """

    task_class = MuskoxTask
    supports_defer = True
    supports_async_task = True
    supports_get_result = True
    supports_priority = True

    @property
    def ox(self) -> Muskox:
        """The program whose jobs the tasks are; imported when it is first needed, as it imports the tasks itself."""
        return program(self.options.get("program"))

    def enqueue(self, task: MuskoxTask, args: Any, kwargs: Any) -> Any:
        """Add the job of a task."""
        self.validate_task(task)
        database = self.options.get("database")
        queue = self.ox.queue(task.queue_name)
        job = queue.sync.add(
            task.module_path, {"args": list(args), "kwargs": dict(kwargs)}, **_options(task),
            within=None if database is None else connections[database],
        )  # fmt: skip
        result = _result(task, job)
        task_enqueued.send(type(self), task_result=result)
        return result

    def get_result(self, result_id: str) -> Any:
        """How the task with this id stands; raises `TaskResultDoesNotExist`."""
        known = _declared.get(self.alias, {})
        for name in sorted(self.queues or {task.queue_name for task in known.values()}):
            job = self.ox.queue(name).sync.get(result_id)
            if job is not None and job.name in known:
                return _result(known[job.name].using(queue_name=name), job)
        raise ResultDoesNotExist(result_id)

    def check(self, **kwargs: Any) -> Iterable[checks.CheckMessage]:
        """Say in `manage.py check` what would fail later."""
        try:
            self.ox.url  # noqa: B018 - asked for what it raises
        except (ImportError, MuskoxError, ValueError) as error:
            yield checks.Error(f"the Muskox of tasks {self.alias!r} cannot be had: {error}", id="muskox.E001")


def serve(ox: Muskox, alias: str = "default") -> None:
    """Have the workers of a program run the tasks of a backend: all that a module `tasks` of an application declares.

    Call it in the module that the settings name, once Django is set up.
    """
    apps.check_apps_ready()
    autodiscover_modules("tasks")
    for name, task in _declared.get(alias, {}).items():
        for queue in sorted(task.get_backend().queues or {task.queue_name}):
            ox.queue(queue).processor(name)(_processor(task))


def _options(task: MuskoxTask) -> Any:
    said: dict[str, Any] = {"priority": task.priority, "at": task.run_after, "attempts": task.attempts,
                            "timeout": task.timeout, "key": task.key}  # fmt: skip
    if task.backoff is not None:
        said["backoff"] = Fixed(task.backoff)
    return {name: value for name, value in said.items() if value is not None}


def _processor(task: MuskoxTask) -> Callable[..., Any]:
    backend = type(task.get_backend())

    if iscoroutinefunction(task.func):

        async def run_async(job: ActiveJob, args: list[Any], kwargs: dict[str, Any]) -> Any:
            running = _running(task, job)
            task_started.send(backend, task_result=running)
            try:
                value = await task.acall(*_given(task, running, args), **kwargs)
            except BaseException:
                _tell_end(backend, running, TaskResultStatus.FAILED)
                raise
            _tell_end(backend, running, TaskResultStatus.SUCCESSFUL)
            return value

        return run_async

    @with_connections
    def run(job: SyncActiveJob, args: list[Any], kwargs: dict[str, Any]) -> Any:
        running = _running(task, job)
        task_started.send(backend, task_result=running)
        try:
            value = task.call(*_given(task, running, args), **kwargs)
        except BaseException:
            _tell_end(backend, running, TaskResultStatus.FAILED)
            raise
        _tell_end(backend, running, TaskResultStatus.SUCCESSFUL)
        return value

    return run


def _given(task: MuskoxTask, running: Any, args: list[Any]) -> list[Any]:
    return [TaskContext(task_result=running), *args] if task.takes_context else args


def _tell_end(backend: type[Backend], running: Any, status: Any) -> None:
    object.__setattr__(running, "status", status)
    task_finished.send(backend, task_result=running)


def _running(task: MuskoxTask, job: ActiveJob | SyncActiveJob) -> Any:
    """How a task stands while it runs, for its context and the signals."""
    return _made(task, job.id, TaskResultStatus.RUNNING, job.data, workers=[""] * job.attempt)


def _result(task: MuskoxTask, job: Job) -> Any:
    """How a task stands, from its job."""
    status = _STATUS.get(job.state, TaskResultStatus.READY)
    result = _made(
        task, job.id, status, job.data, workers=[job.worker or ""] * job.attempt, added=job.added_at,
        started=job.started_at, finished=job.ended_at,
    )  # fmt: skip
    if job.failure is not None:
        path = job.failure.type if "." in job.failure.type else f"builtins.{job.failure.type or 'Exception'}"
        result.errors.append(TaskError(exception_class_path=path, traceback=job.failure.traceback or str(job.failure)))
    if job.state is JobState.COMPLETED:
        object.__setattr__(result, "_return_value", job.result)
    return result


def _made(
    task: MuskoxTask, id: str, status: Any, data: Any, *, workers: list[str], added: datetime | None = None,
    started: datetime | None = None, finished: datetime | None = None,
) -> Any:  # fmt: skip
    return TaskResult(
        task=task, id=id, status=status, enqueued_at=added, started_at=started, finished_at=finished,
        last_attempted_at=started, args=data["args"], kwargs=data["kwargs"], backend=task.backend, errors=[],
        worker_ids=workers,
    )  # fmt: skip
