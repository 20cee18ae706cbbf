"""What the raw data must hold before any work is put into it, checked by Great Expectations."""
