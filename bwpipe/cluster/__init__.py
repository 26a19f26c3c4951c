"""One run on several machines: what hands out the work, what does it, and the interface to what starts and reaches workers."""
