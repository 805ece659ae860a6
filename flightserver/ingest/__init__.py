"""Reading what others wrote: files, uploads and streams become validated Arrow batches."""
