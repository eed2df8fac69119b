"""From files to rows and documents: what is read, which fields a record has, what it becomes."""
