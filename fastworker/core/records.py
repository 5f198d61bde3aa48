"""The nouns every layer shares: priorities, statuses, jobs, outcomes and the rows the store keeps.

They live in `nouns`, `rows` and `views`, and are given out here. Nothing there acts. ``NamedTuple``
is used for what exists once per job (cheap to make, immutable), frozen slotted dataclasses for the
rest.
"""

from __future__ import annotations

from fastworker.core.nouns import ALL_QUEUES as ALL_QUEUES
from fastworker.core.nouns import ALL_TENANTS as ALL_TENANTS
from fastworker.core.nouns import ASYNC_POOL as ASYNC_POOL
from fastworker.core.nouns import DEFAULT_GRACE_SECONDS as DEFAULT_GRACE_SECONDS
from fastworker.core.nouns import DEFAULT_OPTIONS as DEFAULT_OPTIONS
from fastworker.core.nouns import DEFAULT_QUEUE as DEFAULT_QUEUE
from fastworker.core.nouns import DEFAULT_TENANT as DEFAULT_TENANT
from fastworker.core.nouns import MAX_NAME_LENGTH as MAX_NAME_LENGTH
from fastworker.core.nouns import MAX_PAYLOAD_BYTES as MAX_PAYLOAD_BYTES
from fastworker.core.nouns import POOLS as POOLS
from fastworker.core.nouns import PROCESS_POOL as PROCESS_POOL
from fastworker.core.nouns import STATUS_CODES as STATUS_CODES
from fastworker.core.nouns import STATUS_NUMBERS as STATUS_NUMBERS
from fastworker.core.nouns import TERMINAL as TERMINAL
from fastworker.core.nouns import THREAD_POOL as THREAD_POOL
from fastworker.core.nouns import JobOptions as JobOptions
from fastworker.core.nouns import LogLine as LogLine
from fastworker.core.nouns import Now as Now
from fastworker.core.nouns import TaskPriority as TaskPriority
from fastworker.core.nouns import TaskProgress as TaskProgress
from fastworker.core.nouns import TaskResult as TaskResult
from fastworker.core.nouns import TaskStatus as TaskStatus
from fastworker.core.rows import LINES_PER_ATTEMPT as LINES_PER_ATTEMPT
from fastworker.core.rows import AttemptRow as AttemptRow
from fastworker.core.rows import BacklogRow as BacklogRow
from fastworker.core.rows import CallbackRow as CallbackRow
from fastworker.core.rows import CallbackTry as CallbackTry
from fastworker.core.rows import CheckpointRow as CheckpointRow
from fastworker.core.rows import Failure as Failure
from fastworker.core.rows import FamilyRow as FamilyRow
from fastworker.core.rows import FinishRow as FinishRow
from fastworker.core.rows import JobRow as JobRow
from fastworker.core.rows import KeyRow as KeyRow
from fastworker.core.rows import LaneKey as LaneKey
from fastworker.core.rows import LaneRow as LaneRow
from fastworker.core.rows import LineRow as LineRow
from fastworker.core.rows import PauseRow as PauseRow
from fastworker.core.rows import Saves as Saves
from fastworker.core.rows import WorkerRow as WorkerRow
from fastworker.core.rows import line_number as line_number
from fastworker.core.views import AttemptView as AttemptView
from fastworker.core.views import JobView as JobView
from fastworker.core.views import ProgressView as ProgressView
