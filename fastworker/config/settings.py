"""Every option, once: its name, kind, default and line of help."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Final

from fastworker.config.kinds import (
    AUTO,
    FilePath,
    Kind,
    OneOf,
    Seconds,
    Size,
    Switch,
    Text,
    Texts,
    Whole,
    WholeOrAuto,
    check_address,
    check_host,
    check_module,
    check_queue,
    check_tag,
    check_worker,
)
from fastworker.config.tenants import MOST_BYTES, TenantTable
from fastworker.core.records import ALL_QUEUES
from fastworker.core.tenants import Tenants

MAX_JOBS_AT_ONCE: Final = 10_000
"""Async jobs or threads of one runner: far beyond use, small enough to show a typing slip."""
MAX_RUNNERS: Final = 256
"""Runner processes of one subworker: more than the cores of the machines we know."""
MOST_JOBS_PER_RUNNER: Final = 999_999_999_999
"""More than a runner ends in its life: the same as never."""
MOST_MEMORY_BYTES: Final = 2**50
"""A pebibyte: more than any machine we know has."""
LONGEST_DRAIN_SECONDS: Final = 86_400.0
"""A day: a drain that takes longer is a stop that never comes."""

LONGEST_KEPT_SECONDS: Final = 10 * 366 * 86_400.0
"""Ten years: whoever wants more wants an archive."""
MOST_KEPT: Final = 999_999_999_999
"""Results, or bytes of them: more than any disk we know holds."""

MOST_CONNECTIONS: Final = 1_000_000
"""More than one process serves."""

_ADDRESS = "an address such as tcp://127.0.0.1:5555 or wss://queue.example:443"


@dataclass(frozen=True, slots=True)
class Option:
    """What is known of one option beside its default."""

    kind: Kind
    help: str
    metavar: str
    has_flag: bool = True
    in_files: bool = True


def _about(
    kind: Kind, help: str, metavar: str = "", *, flag: bool = True, file: bool = True
) -> Mapping[str, Option]:
    return {"option": Option(kind, help, metavar, has_flag=flag, in_files=file)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """All settings, resolved; see the command line's help for what each one does."""

    base_address: str = field(
        default="tcp://127.0.0.1:5555",
        metadata=_about(Text(_ADDRESS, check_address), "where to listen", "ADDRESS"),
    )
    discovery_address: str = field(
        default="tcp://127.0.0.1:5550",
        metadata=_about(
            Text(_ADDRESS, check_address),
            "where to listen too, and where others look",
            "ADDRESS",
        ),
    )
    control_plane_address: tuple[str, ...] = field(
        default=(),
        metadata=_about(
            Texts("one or several addresses such as tcp://127.0.0.1:5555", check_address),
            "where the control plane is; wins over discovery",
            "ADDRESS",
        ),
    )
    advertise: str | None = field(
        default=None,
        metadata=_about(
            Text("a host or host:port", check_host),
            "what peers are told to dial (default: the host they dialled)",
            "HOST",
        ),
    )
    worker_id: str | None = field(
        default=None,
        metadata=_about(
            Text("a worker name", check_worker),
            "label of this subworker (default: host name and pid)",
            "NAME",
        ),
    )
    task_modules: tuple[str, ...] = field(
        default=(),
        metadata=_about(
            Texts("module names such as app.tasks", check_module),
            "modules with tasks, repeated or with commas",
            "MODULES",
        ),
    )
    store: Path | None = field(
        default=None,
        metadata=_about(
            FilePath("a folder"), "folder of the state (default: ./.fastworker)", "FOLDER"
        ),
    )
    state_dir: Path | None = field(
        default=None,
        metadata=_about(
            FilePath("a folder"), "folder of the state if no store is given", flag=False
        ),
    )
    durability: str = field(
        default="power",
        metadata=_about(
            OneOf(("power", "process", "memory")),
            "what accepted jobs survive: power, process, memory",
            "WORD",
        ),
    )
    queues: tuple[str, ...] = field(
        default=(ALL_QUEUES,),
        metadata=_about(
            Texts("queue names", check_queue),
            "queues to take jobs from, repeated or with commas (default: all)",
            "NAMES",
        ),
    )
    tags: tuple[str, ...] = field(
        default=(),
        metadata=_about(
            Texts("tags such as gpu", check_tag),
            "what this subworker has that some tasks need, repeated or with commas",
            "TAGS",
        ),
    )
    concurrency: int = field(
        default=100,
        metadata=_about(Whole(1, MAX_JOBS_AT_ONCE), "async jobs at once per runner", "N"),
    )
    threads: int = field(
        default=32, metadata=_about(Whole(1, MAX_JOBS_AT_ONCE), "sync jobs at once per runner", "N")
    )
    processes: int | str = field(
        default=1,
        metadata=_about(
            WholeOrAuto(1, MAX_RUNNERS),
            "runner processes; auto: as many as there are processors",
            "N",
        ),
    )
    task_processes: int | str = field(
        default=AUTO,
        metadata=_about(
            WholeOrAuto(1, MAX_RUNNERS),
            'jobs at once of tasks with run_in="process"; auto: as many as there are processors',
            "N",
        ),
    )
    max_jobs_per_runner: int = field(
        default=0,
        metadata=_about(
            Whole(0, MOST_JOBS_PER_RUNNER),
            "replace a runner after so many jobs; 0: never",
            "N",
        ),
    )
    max_runner_memory: int = field(
        default=0,
        metadata=_about(
            Size(MOST_MEMORY_BYTES),
            "replace a runner that has grown to this size, such as 512MiB; 0: never",
            "SIZE",
        ),
    )
    async_runtime: str = field(
        default="asyncio",
        metadata=_about(OneOf(("asyncio", "trio")), "what runs async tasks: asyncio, trio", "WORD"),
    )
    local_worker: str = field(
        default="auto",
        metadata=_about(
            OneOf(("auto", "always", "never")),
            "run tasks in the control plane itself: auto, always, never",
            "WORD",
        ),
    )
    drain_seconds: float = field(
        default=25.0,
        metadata=_about(
            Seconds(LONGEST_DRAIN_SECONDS), "how long a first SIGTERM waits for jobs", "SECONDS"
        ),
    )
    keep_results_seconds: float = field(
        default=86_400.0,
        metadata=_about(Seconds(LONGEST_KEPT_SECONDS), "how long results are kept", "SECONDS"),
    )
    keep_results_count: int = field(
        default=1_000_000,
        metadata=_about(Whole(0, MOST_KEPT), "how many results are kept", "N"),
    )
    keep_results_bytes: int = field(
        default=2 * 1024**3,
        metadata=_about(Whole(0, MOST_KEPT), "how many bytes of results are kept", "BYTES"),
    )
    keep_failures_seconds: float = field(
        default=30 * 86_400.0,
        metadata=_about(
            Seconds(LONGEST_KEPT_SECONDS), "how long failed and dead jobs are kept", "SECONDS"
        ),
    )
    max_queued_jobs: int = field(
        default=10_000_000,
        metadata=_about(
            Whole(1, MOST_KEPT), "how many jobs may wait, scheduled ones included", "N"
        ),
    )
    max_queued_bytes: int = field(
        default=8 * 1024**3,
        metadata=_about(
            Size(MOST_BYTES), "how much the arguments of waiting jobs may take", "SIZE"
        ),
    )
    tenants: Tenants = field(
        default=Tenants(),
        metadata=_about(
            TenantTable(),
            "share and quotas of tenants, such as acme:weight=3,max-queued-jobs=1000; "
            "repeated or with spaces; *: all others",
            "NAME:KEY=VALUE,…",
        ),
    )
    max_connections: int = field(
        default=15_000,
        metadata=_about(Whole(1, MOST_CONNECTIONS), "how many connections may stand", "N"),
    )
    max_connections_per_address: int = field(
        default=5_000,
        metadata=_about(
            Whole(1, MOST_CONNECTIONS),
            "how many of one address, loopback excepted",
            "N",
        ),
    )
    token: str | None = field(
        default=None,
        repr=False,
        metadata=_about(
            Text("a token"), "the token: a secret of at least 32 characters", flag=False, file=False
        ),
    )
    token_file: Path | None = field(
        default=None,
        metadata=_about(FilePath("a file"), "file with the token, readable by you alone", "FILE"),
    )
    tokens_file: Path | None = field(
        default=None,
        metadata=_about(
            FilePath("a file"),
            "file of the tokens made for others (default: tokens.json beside the store)",
            "FILE",
        ),
    )
    callback_allow: tuple[str, ...] = field(
        default=(),
        metadata=_about(
            Texts("hosts, or host:port", check_host),
            "hosts that callbacks may be sent to, repeated or with commas",
            "HOSTS",
        ),
    )
    reload: bool = field(
        default=False,
        metadata=_about(Switch(), "start runners anew when the code of tasks changes"),
    )
    tls_cert: Path | None = field(
        default=None, metadata=_about(FilePath("a file"), "own TLS certificate (PEM)", "FILE")
    )
    tls_key: Path | None = field(
        default=None, metadata=_about(FilePath("a file"), "its TLS key (PEM)", "FILE")
    )
    tls_ca: Path | None = field(
        default=None,
        metadata=_about(
            FilePath("a file"),
            "authorities (PEM): who signs the control plane's certificate; there: its clients'",
            "FILE",
        ),
    )
    insecure: bool = field(
        default=False,
        metadata=_about(Switch(), "work without a token: whoever can connect can run tasks"),
    )
    log_level: str = field(
        default="info",
        metadata=_about(
            OneOf(("debug", "info", "warning", "error")),
            "debug, info, warning, error",
            "WORD",
        ),
    )
    log_format: str = field(
        default="text", metadata=_about(OneOf(("text", "json")), "text or json", "WORD")
    )

    collect_logs: bool = field(
        default=True,
        metadata=_about(Switch(), "keep what jobs log and print, for `fastworker logs`"),
    )

    @property
    def control_plane_addresses(self) -> tuple[str, ...]:
        """Where to dial, best first: the control plane's address, else the discovery address."""
        return self.control_plane_address or (self.discovery_address,)

    def state_folder(self, cwd: Path) -> Path:
        """Return the folder of the state: the store, else the state folder, else a default."""
        if self.store is not None:
            return self.store
        return self.state_dir if self.state_dir is not None else cwd / ".fastworker"


OPTIONS: Final[Mapping[str, Option]] = {
    one.name: one.metadata["option"] for one in fields(Settings)
}
DEFAULTS: Final[Mapping[str, object]] = {one.name: one.default for one in fields(Settings)}


def flag_name(option: str) -> str:
    """Return the flag of an option: ``base_address`` is ``--base-address``."""
    return "--" + option.replace("_", "-")


def variable_name(option: str) -> str:
    """Return the environment variable of an option: ``FASTWORKER_BASE_ADDRESS``."""
    return "FASTWORKER_" + option.upper()
