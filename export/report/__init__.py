"""What a build says: a table in the terminal, `report.json`, and `report.html` with its drawings and words."""
