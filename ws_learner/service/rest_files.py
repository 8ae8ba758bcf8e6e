"""REST: report, weights and files of a run."""

from __future__ import annotations

from pathlib import Path

from fastapi import APIRouter
from fastapi.responses import FileResponse

from ws_learner.service.guard import FILE_POLICY, REPORT_POLICY
from ws_learner.service.run_folder import download_type
from ws_learner.service.state import Service

__all__ = ["file_routes"]


def file_routes(service: Service) -> APIRouter:
    """What can be downloaded of a run."""
    router = APIRouter(tags=["files"], default_response_class=FileResponse)

    @router.get("/runs/{run}/report.html", response_class=FileResponse)
    def report(run: str) -> FileResponse:
        """The report of a finished run; a browser shows it without this site's rights."""
        path = service.folder.file(run, "report.html")
        policy = {"content-security-policy": REPORT_POLICY}
        return FileResponse(path, media_type="text/html", headers=policy)

    @router.get("/runs/{run}/model", response_class=FileResponse)
    def model(run: str) -> FileResponse:
        """The weights of a finished run, as safetensors."""
        path = service.model(run)
        return _saved(path, name=f"{run}{path.suffix}")

    @router.get("/runs/{run}/files/{name:path}", response_class=FileResponse)
    def file(run: str, name: str, *, download: bool = False) -> FileResponse:
        """A file of the run: text and pictures are shown, or saved with `download`."""
        path = service.folder.file(run, name)
        kind, shown = download_type(path.name)
        if download or not shown:
            return _saved(path, name=path.name)
        policy = {"content-security-policy": FILE_POLICY}
        return FileResponse(path, media_type=kind, headers=policy)

    return router


def _saved(path: Path, *, name: str) -> FileResponse:
    policy = {"content-security-policy": FILE_POLICY}
    return FileResponse(path, media_type="application/octet-stream", filename=name, headers=policy)
