"""From verified parts in the store to the active release: read, try, and only then switch."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

from edge_sdk.errors import EdgeError, StoreCorrupt, TrustError
from edge_sdk.messages import release_pb2
from edge_sdk.sync import trust
from edge_sdk.sync.trust import Refusal

if TYPE_CHECKING:
    from edge_sdk.engine.release import Release
    from edge_sdk.store.device import DeviceStore

T = TypeVar("T")


def install(
    store: DeviceStore, signed: release_pb2.SignedManifest, manifest: release_pb2.Manifest
) -> None:
    """Make a release, whose manifest was verified and whose parts are staged, the active one.

    Raises TrustError with the reason of the Nack, and StoreError; the last release stays then.
    """
    from edge_sdk.sync.worker import try_release

    read_parts(store.read_part, manifest)
    try_release(store.path, manifest)
    store.commit_release(signed.SerializeToString(), manifest.version)


def read_parts(read: Callable[[bytes], bytes], manifest: release_pb2.Manifest) -> dict[str, bytes]:
    """The parts of a release that this SDK knows, by name, each as the manifest says it is.

    `read` gives a part by its SHA-256: KeyError where there is none, StoreCorrupt for damage.
    Raises TrustError PARTS for one that is not in the store, DIGEST for one that is damaged.
    """
    parts = {}
    for part in manifest.parts:
        if part.name not in trust.KNOWN_PARTS:
            continue
        try:
            content = read(part.sha256)
        except KeyError:
            raise TrustError(f"part {part.name!r} is not in the store", Refusal.PARTS) from None
        except StoreCorrupt as error:
            raise TrustError(f"part {part.name!r}: {error}", Refusal.DIGEST) from error
        if len(content) != part.size:  # its digest was compared when it was read
            raise TrustError(f"part {part.name!r} has another size", Refusal.DIGEST)
        parts[part.name] = content
    return parts


def load(manifest: release_pb2.Manifest, parts: dict[str, bytes]) -> Release:
    """Build the release from its parts and try it on its golden vectors.

    Raises TrustError: FORMAT for a part that cannot be used, MODEL for a model that cannot be
    loaded, GOLDEN for one that scores otherwise here than where it was made.
    """
    from edge_sdk.engine.release import Release

    release = _step(Refusal.FORMAT, lambda: Release.from_parts(manifest, parts))
    _step(Refusal.MODEL, release.warm)
    _step(Refusal.GOLDEN, release.check_golden)
    return release


def _step(reason: Refusal, step: Callable[[], T]) -> T:
    """Do a step of loading; what goes wrong in it is a refusal with this reason.

    Well signed does not mean well made: whatever a broken release does to its readers must end as
    a refusal, and not end the thread that keeps this device current.
    """
    try:
        return step()
    except Exception as error:
        if isinstance(error, TrustError) and error.reason:
            raise
        said = str(error) if isinstance(error, EdgeError) else f"{type(error).__name__}: {error}"
        raise TrustError(said, reason) from error
