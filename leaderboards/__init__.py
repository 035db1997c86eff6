"""From the ledger of a run to a board: frame, statistics, rendering."""
