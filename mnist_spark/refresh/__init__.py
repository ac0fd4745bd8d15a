"""Keeps tables fresh: many tables, described in one TOML file, by one command that can be repeated.

::

    config ─→ source ─→ decide ─→ run ─→ report, metrics
     what      what the   is the    one    what happened,
     tables    source     table     table  to whom it
               now has    as it     after  may concern
                          should    the
                          be        other

Nothing is written without need, and nothing is imported or started for tables that need nothing.
"""
