"""URI -> place. The only door to storage: every location of a run configuration passes here."""

from finetune_contract import Location

from finetune_trainer.storage.addresses import credentials, parse
from finetune_trainer.storage.folder import FolderStore
from finetune_trainer.storage.store import Role, Store


def open_location(location: Location, role: Role, *, revision: str = "") -> Store:
    """Return the store at a location. Nothing is read yet, except that a claim must be mounted and a Secret be there.

    `revision` is the commit, tag or branch of a hub repository, or the digest of an artifact. Raises UserError (InvalidSpec; for a
    Secret that is missing as for one that is refused).
    """
    address = parse(location.uri)
    if address.scheme in ("file", "pvc", "configmap"):
        return FolderStore(address, role)
    if address.scheme == "s3":
        from finetune_trainer.storage.bucket import BucketStore  # noqa: PLC0415 - 1.5 s of import that folders do not need

        return BucketStore(address, role, credentials(location, role))
    if address.scheme in ("gs", "az"):
        from finetune_trainer.storage.cloud import CloudStore  # noqa: PLC0415 - as above

        return CloudStore(address, role, credentials(location, role))
    if address.scheme == "https":
        from finetune_trainer.storage.web import WebStore  # noqa: PLC0415 - as above

        return WebStore(address, role)
    if address.scheme == "oci":
        from finetune_trainer.storage.oci import OciStore  # noqa: PLC0415 - as above
        from finetune_trainer.storage.oci_result import OciResult  # noqa: PLC0415 - as above

        keys = credentials(location, role)
        return (
            OciResult(address, role, keys) if role is Role.OUTPUT else OciStore(address, role, keys, revision=revision)
        )
    from finetune_trainer.storage.hub import HubStore  # noqa: PLC0415 - as above

    return HubStore(address, role, credentials(location, role), revision=revision, secret=location.secret)
