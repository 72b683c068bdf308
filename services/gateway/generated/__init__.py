"""Generated pictures: their jobs, and how the gateway knows its own pictures again when they come back as photos."""
