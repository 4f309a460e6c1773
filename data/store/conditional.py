"""Writes that succeed only if nobody else wrote in the meantime: `If-None-Match` and `If-Match` of S3 and compatible stores.

When the answer to a request is lost, the client sends the request again, and the store refuses it because the first one succeeded. So a
refused write counts as done if the object already holds the content to be written.
"""

from __future__ import annotations

import errno
import uuid
from contextlib import suppress
from typing import Any

import fsspec

_ATTEMPTS = 4


class Conditional:
    """Conditional writes to an S3 filesystem. A version is the object's ETag."""

    def __init__(self, files: fsspec.AbstractFileSystem) -> None:
        self._files = files

    @classmethod
    def of(cls, files: fsspec.AbstractFileSystem, root: str) -> Conditional | None:
        """The conditional writes of a store, or None if it has none. Some servers ignore the conditions, so this tests them."""
        protocols = (files.protocol,) if isinstance(files.protocol, str) else files.protocol
        if "s3" not in protocols:
            return None
        conditional, probe = cls(files), f"{root}/probe-{uuid.uuid4().hex}"
        try:
            version = conditional.create(probe, b"1")
            second = conditional.create(probe, b"2")
            third = conditional.replace(probe, b"3", '"0123456789abcdef0123456789abcdef"')
        except OSError:
            return None
        finally:
            with suppress(OSError):
                files.rm_file(probe)
        return conditional if version is not None and second is None and third is None else None

    def create(self, path: str, content: bytes) -> str | None:
        """Write an object that does not exist. Returns its version, or None if it exists."""
        return self._write(path, content, mode="create")

    def replace(self, path: str, content: bytes, version: str) -> str | None:
        """Write an object that still has `version`. Returns its new version, or None if it has another or is gone."""
        return self._write(path, content, IfMatch=version)

    def delete(self, path: str, version: str) -> None:
        """Delete an object that still has `version`."""
        bucket, key, _ = self._files.split_path(path)
        try:
            self._files.call_s3("delete_object", Bucket=bucket, Key=key, IfMatch=version)
        except OSError as error:
            if not _refused(error):
                raise
        self._files.invalidate_cache(path)

    def read(self, path: str) -> tuple[bytes, str] | None:
        """An object's content and version; None if it does not exist or keeps changing."""
        for _ in range(_ATTEMPTS):
            try:
                version = self._version(path)
                content = bytes(self._files.cat_file(path))
                if self._version(path) == version:
                    return content, version
            except FileNotFoundError:
                return None
        return None

    def _version(self, path: str) -> str:
        self._files.invalidate_cache(path)
        return str(self._files.info(path, refresh=True)["ETag"])

    def _write(self, path: str, content: bytes, **condition: Any) -> str | None:
        try:
            return str(self._files.pipe_file(path, content, **condition)["ETag"])
        except OSError as error:
            if not _refused(error):
                raise
        found = self.read(path)
        return found[1] if found is not None and found[0] == content else None


def _refused(error: OSError) -> bool:
    """Whether the store refused a request because of its condition."""
    known = isinstance(error, (FileExistsError, FileNotFoundError)) or error.errno == errno.EINVAL
    return known or "ConditionalRequestConflict" in str(error)
