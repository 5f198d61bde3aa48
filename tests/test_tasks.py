"""Tasks: what the decorator makes of functions, what it refuses, and how calls are submitted."""

from __future__ import annotations

import enum
import inspect
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from fastworker.client import current
from fastworker.core.records import TaskPriority
from fastworker.errors import (
    ArgumentError,
    CallerError,
    ClientNotReady,
    InvalidName,
    InvalidOption,
    TaskNameTaken,
)
from fastworker.options import DEFAULT_CALL, CallOptions
from fastworker.tasks import (
    AsyncTask,
    Registry,
    Task,
    TaskDefinition,
    load_task_modules,
    registry,
    task,
)
from fastworker.tasks.definitions import define
from fastworker.tasks.signatures import Parameters, check_arguments, parameters_of_text

TASK_ID = "01890a5d-ac96-774b-bcce-b302099a8057"


class Handle:
    id = TASK_ID


class RecordingClient:
    """Takes what a task hands to the client."""

    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []

    async def _submit_call(
        self,
        definition: TaskDefinition,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        options: CallOptions,
        *,
        watch: bool,
    ) -> Handle:
        self.calls.append((definition.name, args, kwargs, options, watch))
        return Handle()


@pytest.fixture
def client() -> Iterator[RecordingClient]:
    recording = RecordingClient()
    with current.as_current(recording):  # type: ignore[arg-type]
        yield recording


class Colour(enum.Enum):
    RED = 1


@task
def add(x: int, y: int = 2) -> int:
    """Adds."""
    return x + y


@task(name="mail.send", queue="mail", priority=TaskPriority.HIGH, on_lost="fail")
async def send(address: str, *, colour: Colour = Colour.RED) -> str:
    return address


# --- decoration ---------------------------------------------------------------------------


@pytest.mark.trio
async def test_calling_a_task_runs_the_function() -> None:
    assert add(1) == 3
    coroutine = send("a")
    assert inspect.iscoroutine(coroutine)
    assert await coroutine == "a"


def test_a_task_looks_like_its_function() -> None:
    assert isinstance(add, Task)
    assert isinstance(send, AsyncTask)
    assert (add.__name__, add.__doc__, add.name) == ("add", "Adds.", "add")
    assert str(inspect.signature(add)) == "(x: 'int', y: 'int' = 2) -> 'int'"
    assert repr(add).startswith("<task add(x")


def test_a_task_is_registered_with_what_workers_need() -> None:
    plain, coroutine = registry.get("add"), registry.get("mail.send")
    assert plain is add.definition
    assert coroutine is send.definition
    assert (plain.pool, plain.runtime, plain.module) == (1, None, __name__)
    assert plain.call_options is DEFAULT_CALL
    assert (coroutine.pool, coroutine.call_options.queue) == (0, "mail")
    assert {"add", "mail.send"} <= set(registry.names())
    assert registry.get("no such task") is None


def test_signature_text_is_the_same_in_every_process() -> None:
    def shown(
        a: int, /, b: str = "x", *c: int, d: object = object(), e: Colour = Colour.RED, **f: Any
    ) -> None: ...

    text = define(shown).signature
    assert "b: 'str' = 'x'" in text
    assert "d: 'object' = ..., e: 'Colour' = Colour.RED" in text
    assert " at 0x" not in text


def test_signature_text_is_bounded() -> None:
    def shown(a: str = "x" * 5_000, b: int = 10**5_000) -> None: ...

    assert define(shown).signature == "(a: 'str' = ..., b: 'int' = ...) -> 'None'"


@pytest.mark.parametrize("name", ["priority", "countdown", "eta"])
def test_a_parameter_that_shadows_a_keyword_is_refused_unless_allowed(name: str) -> None:
    space: dict[str, Any] = {"__name__": "m"}
    exec(f"def shadows({name}): return 1", space)
    with pytest.raises(InvalidOption, match=f"has a parameter '{name}'.*allow_shadow=True"):
        define(space["shadows"])
    assert define(space["shadows"], allow_shadow=True).name == "shadows"


def generator() -> Iterator[int]:
    yield 1


async def async_generator() -> AsyncIterator[int]:
    yield 1


def test_a_generator_is_a_task_of_its_own_kind() -> None:
    plain, asynchronous = define(generator), define(async_generator)
    assert plain.yields and not plain.is_async
    assert asynchronous.yields and asynchronous.is_async
    assert not add.definition.yields


class Holder:
    def __call__(self) -> None: ...

    @staticmethod
    def static() -> None: ...


@pytest.mark.parametrize(
    ("function", "options", "error", "message"),
    [
        (lambda: 1, {}, InvalidName, "a lambda has no name"),
        (Holder(), {}, CallerError, "@task is for functions"),
        (Holder.__dict__["static"], {}, CallerError, "@task is for functions"),
        (add.definition.function, {"name": "a b"}, InvalidName, "task name 'a b' is not allowed"),
        (add.definition.function, {"runtime": "trio"}, InvalidOption, "runtime is for async def"),
        (send.definition.function, {"runtime": "curio"}, InvalidOption, "'asyncio' or 'trio'"),
        (add.definition.function, {"priority": 2}, InvalidOption, "priority is a TaskPriority"),
        (add.definition.function, {"on_lost": "no"}, InvalidOption, "on_lost is 'retry' or 'fail'"),
        (add.definition.function, {"keep_result": 1}, InvalidOption, "keep_result is True or"),
        (add.definition.function, {"queue": ""}, InvalidName, "queue name"),
    ],
)
def test_what_cannot_be_a_task_is_refused(
    function: Callable[..., Any], options: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        define(function, **options)


# --- the registry -------------------------------------------------------------------------


def function_in(module: str, qualname: str = "work", file: str = "") -> Callable[..., Any]:
    space: dict[str, Any] = {"__name__": module}
    exec(compile("def work(): ...", file or f"/src/{module}.py", "exec"), space)
    function: Callable[..., Any] = space["work"]
    function.__qualname__ = qualname
    return function


def test_one_name_from_two_modules_is_refused_naming_both() -> None:
    tasks = Registry()
    tasks.register(define(function_in("shop")))
    with pytest.raises(TaskNameTaken, match=r"'work' is taken by shop\.work.* office\.work cannot"):
        tasks.register(define(function_in("office")))
    assert [each.module for each in tasks] == ["shop"]


def test_two_functions_of_one_module_cannot_share_a_name() -> None:
    tasks = Registry()
    tasks.register(define(function_in("shop", "pack"), name="work"))
    with pytest.raises(TaskNameTaken):
        tasks.register(define(function_in("shop", "ship"), name="work"))


@pytest.mark.parametrize(
    "again",
    [
        function_in("shop"),
        function_in("__main__", file="/src/shop.py"),  # run as a script, then imported
    ],
)
def test_the_same_function_again_replaces_the_task(again: Callable[..., Any]) -> None:
    tasks = Registry()
    tasks.register(define(function_in("shop")))
    tasks.register(define(again))
    assert [each.function for each in tasks] == [again]


def test_functions_made_in_functions_follow_each_other() -> None:
    tasks = Registry()
    tasks.register(define(function_in("tests", "test_a.<locals>.work")))
    tasks.register(define(function_in("tests", "test_b.<locals>.work")))
    assert len(tasks) == 1


# --- calls --------------------------------------------------------------------------------


@pytest.mark.trio
async def test_delay_gives_the_id_and_submit_the_handle(client: RecordingClient) -> None:
    assert await add.delay(1, y=5) == TASK_ID
    assert isinstance(await add.submit(1), Handle)
    assert client.calls == [
        ("add", (1,), {"y": 5}, DEFAULT_CALL, False),
        ("add", (1,), {}, DEFAULT_CALL, True),
    ]


@pytest.mark.trio
async def test_options_of_a_call_go_over_those_of_the_task(client: RecordingClient) -> None:
    moment = datetime(2030, 1, 1, tzinfo=UTC)
    later = send.options(
        priority=TaskPriority.LOW, eta=moment, keep_result=False, task_id=TASK_ID, on_lost="retry"
    )
    assert await later.delay("a") == TASK_ID
    await later.submit("b", colour=Colour.RED)
    await send.delay("c")
    expected = CallOptions(
        queue="mail",
        priority=TaskPriority.LOW,
        on_lost="retry",
        eta=moment,
        keep_result=False,
        task_id=TASK_ID,
    )
    assert [call[3] for call in client.calls] == [expected, expected, send.definition.call_options]
    assert [call[4] for call in client.calls] == [False, True, False]


@pytest.mark.trio
@pytest.mark.parametrize(
    ("args", "kwargs", "reason"),
    [
        ((), {}, "missing a required argument: 'x'"),
        ((1, 2, 3), {}, "too many positional arguments"),
        ((1,), {"z": 1}, "got an unexpected keyword argument 'z'"),
        ((1,), {"x": 1}, "multiple values for argument 'x'"),
    ],
)
async def test_arguments_that_do_not_fit_are_refused_with_the_signature(
    client: RecordingClient, args: tuple[Any, ...], kwargs: dict[str, Any], reason: str
) -> None:
    with pytest.raises(ArgumentError, match=reason) as caught:
        await add.delay(*args, **kwargs)
    assert str(caught.value).startswith("task add(x: 'int', y: 'int' = 2) -> 'int' cannot be")
    assert client.calls == []


@pytest.mark.trio
async def test_a_missing_keyword_only_argument_is_noticed() -> None:
    @task
    def needs(x: int, *, flag: bool) -> None: ...

    with pytest.raises(ArgumentError, match=r"missing a required (keyword-only )?argument: 'flag'"):
        await needs.delay(1)  # type: ignore[call-arg]


@pytest.mark.trio
async def test_without_a_started_client_a_call_says_so() -> None:
    with pytest.raises(ClientNotReady, match="no client is started"):
        await add.delay(1)


# --- signatures of other processes ---------------------------------------------------------


def any_kind(a: int, /, b: str, c: float = -1.5, *rest: int, d: bool, e: str = "):", **more: int):  # type: ignore[no-untyped-def]
    """Has every kind of parameter."""


def two(x: int, y: Colour = Colour.RED) -> dict[str, list[int]]:
    raise NotImplementedError


@pytest.mark.parametrize("function", [any_kind, two, lambda: None])
@pytest.mark.parametrize(
    ("args", "kwargs"),
    [
        ((), {}),
        ((1,), {}),
        ((1, 2), {}),
        ((1, 2, 3), {}),
        ((1, 2), {"d": 0}),
        ((1, 2, 3, 4), {"d": 0, "z": 1}),
        ((1,), {"y": 2}),
        ((1,), {"x": 2}),
        ((), {"a": 1, "b": 2, "d": 3}),
    ],
)
def test_the_text_of_a_signature_is_enough_to_check_a_call(
    function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> None:
    known = Parameters.of(function)
    described = parameters_of_text(known.text)
    assert described is not None
    assert replace(described, inspected=known.inspected) == known
    assert misfit(described, args, kwargs) == misfit(known, args, kwargs)


def misfit(parameters: Parameters, args: tuple[Any, ...], kwargs: dict[str, Any]) -> str | None:
    try:
        check_arguments("any", parameters, args, kwargs)
    except ArgumentError as error:
        return str(error)
    return None


@pytest.mark.parametrize(
    "text",
    [
        "",
        "x",
        "(x",
        "(x, x)",
        "(x: <locals>)",
        "(a, b…",
        "(x): ...\ndef other()",
        "(\0)",
        "(x=" + "(" * 900 + ")",
        "(" + ", ".join(f"p{n}" for n in range(500)) + ")",
    ],
)
def test_a_text_that_is_no_signature_checks_nothing(text: str) -> None:
    assert parameters_of_text(text) is None


def test_the_text_of_a_signature_is_not_evaluated() -> None:
    described = parameters_of_text("(x=exit(1), *, y: exit(2) = exit(3)) -> exit(4)")
    assert described is not None
    assert misfit(described, (), {}) is None


# --- options ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("priority", 3, "priority is a TaskPriority"),
        ("countdown", -1, "countdown cannot be negative: -1"),
        ("countdown", timedelta(seconds=-1), "countdown cannot be negative"),
        ("countdown", float("nan"), "countdown is a number of seconds"),
        ("countdown", float("inf"), "countdown is a number of seconds"),
        ("countdown", 1e300, "countdown is a number of seconds"),
        ("countdown", 10**400, "countdown is a number of seconds"),
        ("countdown", True, "countdown is seconds or a timedelta"),
        ("countdown", "5", "countdown is seconds or a timedelta, not '5'"),
        ("expires", float("nan"), "expires is a number of seconds"),
        ("expires", datetime(2030, 1, 1), "expires has no time zone"),
        ("eta", datetime(2030, 1, 1), "eta has no time zone: 2030-01-01T00:00:00; make it aware"),
        ("eta", 5, "eta is an aware datetime, not 5"),
        ("task_id", "x", "task_id 'x' is not a UUID"),
        ("keep_result", "no", "keep_result is True or False"),
        ("callback", 5, "callback is an address"),
        ("callback_data", 5, "give a callback too"),
    ],
)
def test_an_option_with_a_value_it_cannot_have_is_named(
    option: str, value: Any, message: str
) -> None:
    with pytest.raises(InvalidOption, match=message):
        add.options(**{option: value})


def test_countdown_and_eta_together_are_refused() -> None:
    with pytest.raises(InvalidOption, match="countdown and eta"):
        add.options(countdown=1, eta=datetime.now(UTC))


def test_a_queue_that_cannot_be_one_is_refused() -> None:
    with pytest.raises(InvalidName, match="queue name"):
        add.options(queue="a b")


def test_options_become_moments() -> None:
    zone = timezone(timedelta(hours=2))
    assert DEFAULT_CALL.ready_at(100.0) is None
    assert DEFAULT_CALL.expires_at(100.0) is None
    assert replace(DEFAULT_CALL, countdown=0).ready_at(100.0) is None
    assert replace(DEFAULT_CALL, countdown=1.5).ready_at(100.0) == 101.5
    assert replace(DEFAULT_CALL, countdown=timedelta(minutes=1)).ready_at(100.0) == 160
    assert replace(DEFAULT_CALL, eta=datetime(1970, 1, 1, 2, 1, tzinfo=zone)).ready_at(9.0) == 60
    assert replace(DEFAULT_CALL, expires=5).expires_at(100.0) == 105
    past = replace(DEFAULT_CALL, expires=datetime(1970, 1, 1, tzinfo=UTC))
    assert past.expires_at(100.0) == 0


# --- task modules -------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty current directory; what is imported from it is forgotten afterwards."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        del sys.modules[name]


def write(path: Path, text: str = "") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, "utf-8")


def task_source(name: str) -> str:
    return f"from fastworker import task\n@task(name={name!r})\ndef work(): ...\n"


def test_modules_and_submodules_of_packages_are_imported(folder: Path) -> None:
    write(folder / "loaded_one.py", task_source("loaded.one"))
    write(folder / "loaded_two" / "__init__.py")
    write(folder / "loaded_two" / "a.py", task_source("loaded.a"))
    write(folder / "loaded_two" / "inner" / "b.py", task_source("loaded.b"))
    write(folder / "loaded_two" / "inner" / "__init__.py")
    write(folder / "loaded_two" / "__main__.py", "raise SystemExit('not this one')")
    load_task_modules(["loaded_one, loaded_two", ""])
    assert {"loaded.one", "loaded.a", "loaded.b"} <= set(registry.names())
    load_task_modules(["loaded_one"])


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (None, "there is no task module 'loaded_bad' in {folder}"),
        ("import nowhere_at_all", "ModuleNotFoundError: No module named 'nowhere_at_all'"),
        ("\n1 / 0", "ZeroDivisionError: division by zero ({folder}/loaded_bad.py:2)"),
        ("def f(:\n", "SyntaxError: invalid syntax ({folder}/loaded_bad.py:1)"),
        ("raise SystemExit(3)", "SystemExit: 3 ({folder}/loaded_bad.py:1)"),
    ],
)
def test_a_module_that_cannot_be_imported_gives_one_sentence(
    folder: Path, source: str | None, message: str
) -> None:
    if source is not None:
        write(folder / "loaded_bad.py", source)
    with pytest.raises(CallerError) as caught:
        load_task_modules(["loaded_bad"])
    assert message.format(folder=folder) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_submodule_of_a_package_that_exists_is_named(folder: Path) -> None:
    write(folder / "loaded_three" / "__init__.py")
    with pytest.raises(CallerError, match=r"no task module 'loaded_three\.nothing'"):
        load_task_modules(["loaded_three.nothing"])


def test_a_file_name_is_answered_with_the_module_name(folder: Path) -> None:
    with pytest.raises(CallerError, match=r"such as 'shop\.tasks'"):
        load_task_modules(["./shop/tasks.py"])
