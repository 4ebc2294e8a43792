"""What draws: one widget a file, over `lines` (rows of coloured text, dirty rows only)."""
