"""Config of the HTTP client."""

from __future__ import annotations

from pydantic import Field

from mathquarry.data.config import Config, Positive


class ClientConfig(Config):
    """How files are fetched over HTTP (all our choice). It does not change what is fetched."""

    connections: Positive = Field(4, description="Concurrent connections to one host, over all processes of this machine.")
    attempts: Positive = Field(8, description="Attempts in a row without new bytes before a file is given up.")
    first_wait_seconds: float = Field(1.0, gt=0, description="Longest wait before the second attempt; it doubles with each further one.")
    longest_wait_seconds: float = Field(120.0, gt=0, description="Longest wait between attempts, unless the server asks for more.")
    cooldown_seconds: float = Field(
        300.0, gt=0, description="Pause of every connection to a host after 403; the second one is twice as long."
    )
    timeout_seconds: float = Field(30.0, gt=0, description="A connection that brings nothing for this long is dropped.")
    contact: str = Field("", description="Address or URL that the User-Agent names, for the server's owners.")
