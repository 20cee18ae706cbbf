"""A page to try a running server with: drop photos, see what they show. Needs NiceGUI, Pillow and the client."""
