"""Keeps tables fresh: many tables, described in one TOML file, by one command that can be repeated.

In: a config. Out: tables, each written only if it must be, a report and metrics.
Runs on the driver. The data goes config → source → decide → run → report, metrics.
"""
