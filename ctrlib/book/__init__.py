"""How the book is built: pages executed, figures put into them, the whole rendered and checked."""
