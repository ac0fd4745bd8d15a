"""Paths and URLs: which storage a place is in, and files there.

In: a path or URL. Out: a filesystem, a file, one line that says why not.
Runs on the driver and, for payloads and tables at a URL, on executors.
"""
