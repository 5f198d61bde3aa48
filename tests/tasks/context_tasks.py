"""Tasks that look at context variables; imported by both sides, as an application would."""

from __future__ import annotations

import contextvars

from fastworker import propagate, task

request_id: contextvars.ContextVar[str] = contextvars.ContextVar("request_id", default="none")
tenant: contextvars.ContextVar[object] = contextvars.ContextVar("tenant")
private: contextvars.ContextVar[str] = contextvars.ContextVar("private", default="unset")

propagate(request_id)
propagate(tenant, "shop.tenant")


def seen() -> list[object]:
    return [request_id.get(), tenant.get(None), private.get()]


@task(name="context-asyncio", runtime="asyncio")
async def on_asyncio() -> list[object]:
    return seen()


@task(name="context-trio", runtime="trio")
async def on_trio() -> list[object]:
    return seen()


@task(name="context-thread")
def in_thread() -> list[object]:
    return seen()


@task(name="context-parent")
async def parent() -> list[object]:
    return await (await in_thread.submit()).result()
