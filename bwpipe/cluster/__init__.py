"""One run on several machines: what hands out the work, what does it, and Ray, which starts and reaches the workers."""
