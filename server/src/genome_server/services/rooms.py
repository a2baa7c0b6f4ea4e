"""The tenants of a home, open: one that cannot be used does not keep the others closed."""

from __future__ import annotations

import logging

from edge_sdk.errors import EdgeError
from genome_server.errors import GenomeServerError, NotInitialised
from genome_server.genomes.rows import LOG_KEY
from genome_server.home import Home, Tenant
from genome_server.services.errors import NotNowError
from genome_server.services.room import Room

log = logging.getLogger(__name__)


class Rooms(dict[str, Room]):
    """Rooms by tenant. `closed` says of the other tenants why they are not served."""

    def __init__(self, home: Home) -> None:
        """Open them. Raises NotInitialised where there is no tenant, or why none can be opened."""
        super().__init__()
        self.closed: dict[str, str] = {}
        tenants = home.tenants()
        if not tenants:
            raise NotInitialised(f"there is no tenant in {home.root}; run: genome-server init")
        for tenant in tenants:
            try:
                self[tenant.name] = _open(tenant)
            except (GenomeServerError, EdgeError, OSError) as error:
                if len(self.closed) + 1 == len(tenants):
                    raise
                log.error(
                    "tenant %s is not served: %s. Start again when it is repaired",
                    tenant.name,
                    str(error).rstrip("."),
                )
                self.closed[tenant.name] = str(error)
            except BaseException:
                self.close()
                raise

    def of(self, tenant: str) -> Room | None:
        """The room of a tenant; None where there is no such tenant.

        Raises NotNowError where there is one that cannot be served now: its devices come again.
        """
        if tenant in self.closed:
            raise NotNowError(f"tenant {tenant} has to be repaired on the server: come back later")
        return self.get(tenant)

    def close(self) -> None:
        """Close all."""
        for room in self.values():
            room.close()


def _open(tenant: Tenant) -> Room:
    lost = not tenant.log_path.exists()
    room = Room(tenant)
    if lost and room.store.meta(LOG_KEY):
        # Devices send again what they still have; what only the log knew is gone without a backup.
        log.error(
            "tenant %s: the log %s is missing, and a new one begins. Genomes will be built from "
            "what comes from now on: if the log was lost, stop the server and restore it from your "
            "backup",
            tenant.name,
            tenant.log_path,
        )
    return room
