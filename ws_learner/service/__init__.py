"""The live service: pages and REST over a folder of runs. Needs the extra `serve`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ws_learner.core.lazy import lazy_names

if TYPE_CHECKING:
    from ws_learner.service.app import create_app
    from ws_learner.service.elsewhere import Elsewhere, RemoteRun
    from ws_learner.service.jobs import Job, JobFolder, read_job
    from ws_learner.service.locks import lock_holder
    from ws_learner.service.new_run import Checked, NewRun, Plan, Starter
    from ws_learner.service.tokens import new_token, read_token

__all__ = [
    "Checked",
    "Elsewhere",
    "Job",
    "JobFolder",
    "NewRun",
    "Plan",
    "RemoteRun",
    "Starter",
    "create_app",
    "lock_holder",
    "new_token",
    "read_job",
    "read_token",
]

_MODULES = {
    "app": ["create_app"],
    "elsewhere": ["Elsewhere", "RemoteRun"],
    "jobs": ["Job", "JobFolder", "read_job"],
    "locks": ["lock_holder"],
    "new_run": ["Checked", "NewRun", "Plan", "Starter"],
    "tokens": ["new_token", "read_token"],
}

__getattr__, __dir__ = lazy_names(__name__, _MODULES)
