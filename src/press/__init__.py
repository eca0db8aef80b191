"""What makes the book: claims, execution cache, Sphinx extension, notebook export."""
