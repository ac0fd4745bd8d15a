"""Paths and URLs: which storage a place is in, how to get in, and the files there.

In: a path or URL, and the environment. Out: bytes, files, the options of a store, and one line that
says why not. Runs on the driver and, for payloads and tables at a URL, on executors.
"""
