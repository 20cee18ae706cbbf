"""From a photo's bytes to an answer: what evaluation and the server share. No torch in here."""
