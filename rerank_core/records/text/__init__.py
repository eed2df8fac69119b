"""From the bytes of a file to lines, JSON values and table rows."""
