"""Where the files of workspaces are kept, from one URL: S3 and what speaks like it, or a folder where there is none."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

OPTIONS = {"region", "tls", "style", "public"}
# Bytes that one transfer holds in memory at a time; S3 takes up to 10,000 such parts.
PART = 8 * 1024 * 1024


def workspaces(url: str, folder: Path) -> dict[str, Any]:
    """The entry of STORAGES. `s3://key:secret@host:port/bucket/prefix?region=&tls=&style=&public=`. Raises ValueError.

    Without a host it is Amazon's; without key and secret boto3 looks for them as it does everywhere. `tls=false` for plain HTTP,
    `style=virtual` for buckets in the host name, `public` is the origin by which clients reach the same server.
    """
    if not url:
        return {
            "BACKEND": "django.core.files.storage.FileSystemStorage",
            "OPTIONS": {"location": str(folder), "file_permissions_mode": 0o600},
        }
    parts, options = _parse(url)
    bucket, _, prefix = unquote(parts.path).strip("/").partition("/")
    if not bucket:
        raise ValueError("WORKSPACE_STORAGE_URL: names no bucket")
    if bool(parts.username) != bool(parts.password):
        raise ValueError("WORKSPACE_STORAGE_URL: key and secret go together")
    scheme = "http" if options.get("tls", "true") == "false" else "https"
    host = parts.hostname or ""
    from botocore.config import Config

    client = Config(
        signature_version="s3v4",
        s3={"addressing_style": options.get("style", "path" if host else "auto")},
        # Others than Amazon refuse the newer checksums.
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
        connect_timeout=5,
        read_timeout=30,
        retries={"total_max_attempts": 2, "mode": "standard"},
        max_pool_connections=50,
    )
    return {
        "BACKEND": "storages.backends.s3.S3Storage",
        "OPTIONS": {
            "access_key": unquote(parts.username or "") or None,
            "secret_key": unquote(parts.password or "") or None,
            "bucket_name": bucket,
            "location": prefix.strip("/"),
            "endpoint_url": f"{scheme}://{host}{f':{parts.port}' if parts.port else ''}" if host else None,
            "region_name": options.get("region", "us-east-1"),
            "custom_domain": options.get("public"),
            "client_config": client,
        },
    }


def _parse(url: str) -> tuple[Any, dict[str, str]]:
    parts = urlsplit(url)
    if parts.scheme != "s3":
        raise ValueError("WORKSPACE_STORAGE_URL: begins with s3://, or is empty for a folder")
    options = {key: values[-1] for key, values in parse_qs(parts.query, strict_parsing=bool(parts.query)).items()}
    if unknown := sorted(options.keys() - OPTIONS):
        raise ValueError(f"WORKSPACE_STORAGE_URL: unknown option {unknown[0]}; known are {', '.join(sorted(OPTIONS))}")
    if options.get("tls", "true") not in ("true", "false"):
        raise ValueError("WORKSPACE_STORAGE_URL: tls is true or false")
    return parts, options
