"""From embeddings to ranked neighbours and an answer: building, searching, deciding. No torch in here."""
