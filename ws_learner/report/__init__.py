"""Tables, figures and the report: what was chosen, what it cost, recomputed from saved files."""
