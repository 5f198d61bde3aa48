"""Settings: the one place that reads the environment and settings files.

Every option has one name. Written ``base_address`` in a file, it is ``--base-address`` as a flag
and ``FASTWORKER_BASE_ADDRESS`` in the environment. The first source that has it wins: flag,
environment, the file of ``--config`` (else ``./fastworker.toml``), ``[tool.fastworker]`` of
``./pyproject.toml``, the default. Nothing here needs the command line's packages.
"""

from __future__ import annotations

from fastworker.config.client import ClientDefaults, client_defaults, defaults_from
from fastworker.config.processors import available_processors
from fastworker.config.resolving import Resolved, environment, resolve, withhold_token
from fastworker.config.safety import check_listen_safety
from fastworker.config.service import ServiceManager, take_service_manager
from fastworker.config.settings import Settings
from fastworker.config.tokens import INSECURE_TOKEN, configured_token, runtime_folder

__all__ = [
    "INSECURE_TOKEN",
    "ClientDefaults",
    "Resolved",
    "ServiceManager",
    "Settings",
    "available_processors",
    "check_listen_safety",
    "client_defaults",
    "configured_token",
    "defaults_from",
    "environment",
    "resolve",
    "runtime_folder",
    "take_service_manager",
    "withhold_token",
]
