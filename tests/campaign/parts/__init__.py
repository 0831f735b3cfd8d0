"""Parts of the campaign, one per file; the file's name is the part's name, and its `PART` says the rest."""
