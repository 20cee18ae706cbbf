"""What runs behind the Triton model repository, and what starts the server. No torch and no pandas in here."""
