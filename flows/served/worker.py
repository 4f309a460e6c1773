"""The worker of the `gpu` pool: Prefect's Docker worker, limited by `flows/served/allowed.py`.

python -m mathquarry.flows.served.worker worker start ...      as `prefect worker start`
"""

from __future__ import annotations

from pathlib import Path

import anyio.abc
from docker.errors import ImageNotFound
from prefect.client.schemas.objects import FlowRun
from prefect.states import Crashed
from prefect.utilities.asyncutils import run_sync_in_worker_thread
from prefect_docker.worker import DockerWorker, DockerWorkerJobConfiguration, DockerWorkerResult

from mathquarry.data.errors import MathQuarryError
from mathquarry.flows.served.allowed import check_container, sealed
from mathquarry.flows.served.deploy import DeploySettings

STORE = Path("/store")
"""Folder of the store in the worker's container."""


class StageWorker(DockerWorker):
    """Prefect's worker, but it starts nothing beyond its own settings, and reports fixable errors without a traceback."""

    # The same type replaces Prefect's worker.
    type = "docker"

    async def run(
        self, flow_run: FlowRun, configuration: DockerWorkerJobConfiguration, task_status: anyio.abc.TaskStatus[str] | None = None
    ) -> DockerWorkerResult:
        """Start the stage's container and wait for its end."""
        settings = DeploySettings()
        try:
            check_container(configuration.model_dump(mode="json"), settings)
            store = await run_sync_in_worker_thread(self._store_on_host, settings.store_volume)
            flow = (await self.client.read_flow(flow_run.flow_id)).name
            configuration.volumes += sealed(flow, flow_run.parameters, store, _present())
            return await super().run(flow_run, configuration, task_status)
        except ImageNotFound:
            reason = f"Image {configuration.image} is not on the host. Run `make images` there, then retry."
        except MathQuarryError as error:
            reason = str(error)
        self.get_flow_run_logger(flow_run).error("%s", reason)
        await self.client.set_flow_run_state(flow_run.id, Crashed(message=reason), force=True)
        if task_status:
            task_status.started("")
        return DockerWorkerResult(status_code=0, identifier="")

    def _store_on_host(self, volume: str) -> str:
        """The host's folder behind the store: the volume itself if it is a folder, else the folder where Docker keeps it."""
        if volume.startswith("/"):
            return volume
        client = self._get_client()
        try:
            return str(client.volumes.get(volume).attrs["Mountpoint"])
        finally:
            client.close()


def _present() -> list[str]:
    """Folders of the store, of its stages, and of their artifacts."""
    found = [*STORE.glob("*"), *STORE.glob("artifacts/*"), *STORE.glob("artifacts/*/*")]
    return [path.relative_to(STORE).as_posix() for path in found if path.is_dir() and not path.is_symlink()]


if __name__ == "__main__":
    from prefect.cli import app

    app()
