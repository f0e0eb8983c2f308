"""Reading and writing of images, lists, tables and numbers as text, without any model."""
