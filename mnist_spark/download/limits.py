"""How long a transfer may take, how often it is tried, and how often it may be led elsewhere."""

from __future__ import annotations

from mnist_spark.storage import options

CONNECT_SECONDS = float(options.CONNECT_SECONDS)
READ_SECONDS = float(options.READ_SECONDS)
"""Without a byte for so long, a connection has failed."""
TOTAL_SECONDS = 300.0
"""For a file from one mirror, retries and pauses included, and beyond it …"""
SLOWEST_BYTES_PER_SECOND = 32 << 10
"""… what its size takes at this rate."""
ATTEMPTS = 4
"""Tries in a row that brought nothing new."""
BACKOFF_SECONDS = 0.5
"""The first pause between tries is a random part of this, the next ones of twice as much each."""
BACKOFF_MAX_SECONDS = 20.0
RETRY_AFTER_MAX_SECONDS = 60.0
"""A server that wants a longer pause has failed."""
MAX_REDIRECTS = 5
