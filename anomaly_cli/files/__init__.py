"""Reading and writing: files, images, lists, tables, numbers as text. Knows no model."""
