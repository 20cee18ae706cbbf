"""From a photo's bytes to the network's input: what evaluation and the server share. No torch in here."""
